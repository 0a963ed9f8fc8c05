"""SIP over UDP and TCP, by SIPp where it can say it and by a raw client where it cannot."""

import pathlib
import random
import socket
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lib.lossy import Lossy
from lib.rtp import Rtp, correlation, noise, ulaw_encode
from lib.scenario import Scenario, wait_for
from lib.server import Server, base_config, number, trunk, user
from lib.sip import Message, Phone, frame, reply, sdp
from lib.sipp import Sipp

from refusals import REFUSALS

SIP = ("127.0.0.1", 11060)
SIP6 = ("::1", 11061)
SIP_MD5 = ("127.0.0.1", 11062)
# The trunk signals from here; anything else on loopback is a stranger.
TRUNK = "127.0.0.2"
CALLEE_SIPP, CALLEE = 11090, 11091
RELAY = 11070
SECRET = "secret-of-alice"

CONFIG = base_config(
    f"{SIP[0]}:{SIP[1]}",
    "127.0.0.1:11040",
    "11100-11399",
    more=number("+15551000", "<Echo/>")
    + number("+15551001", f'<Dial answerOnBridge="true"><Sip>sip:callee@127.0.0.1:{CALLEE_SIPP}</Sip></Dial>')
    + number("+15551002", f'<Dial answerOnBridge="true"><Sip>sip:callee@127.0.0.1:{CALLEE}</Sip></Dial>')
    + user("alice", SECRET)
    + user("bob", SECRET)
    + trunk("carrier", **{"from": [f"{TRUNK}/32"], "numbers": ["+15551000"]}),
)
# SIPp 3.6 takes the first challenge and knows MD5 only.
CONFIG_MD5 = base_config(
    f"{SIP_MD5[0]}:{SIP_MD5[1]}", "127.0.0.1:11042", "11500-11549", sip_more='digest = ["MD5"]', more=number("+15551000", "<Echo/>") + user("alice", SECRET)
)
CONFIG6 = base_config(f"[{SIP6[0]}]:{SIP6[1]}", "127.0.0.1:11041", "11400-11449", more=number("+15551000", "<Echo/>") + trunk("carrier", **{"from": ["::1/128"]}))


class Flows:
    def __init__(self, scenario):
        self.scenario = scenario
        self.server = Server(scenario, CONFIG).start()
        self.flows = scenario.here / "flows"
        self.sids = []
        self.port = 11700

    def sipp(self, name, remote=f"{SIP[0]}:{SIP[1]}", local=TRUNK, **keys):
        self.port += 1
        return Sipp(self.scenario, self.flows / f"{name}.xml", remote, (local, keys.pop("port", self.port)), **{"user": "+15551000", "media_port": 11600} | keys)

    def over(self, call_id, status, ended_by="peer", answered=True, server=None):
        """The call ended as it should, with one record."""
        call = (server or self.server).ended(call_id)
        check = self.scenario.equal
        check(call["status"], status, "status")
        check(call["completed"]["ended_by"], ended_by, "ended by")
        check(call["answered_ms"] is not None, answered, "answered")
        if server is None:
            self.sids.append(call["sid"])
        return call

    def child_of(self, call):
        children = [child for child in self.server.calls() if child["parent"] == call["sid"]]
        self.scenario.equal(len(children), 1, "children")
        self.sids.append(children[0]["sid"])
        return children[0]

    # --- by SIPp

    def basic(self):
        run = self.sipp("basic").wait()
        call = self.over(run.call_ids()[0], "completed")
        self.scenario.equal((call["from"], call["to"], call["via"], call["direction"]), ("sip:sipp@127.0.0.2", "+15551000", "carrier", "inbound"), "the record")

    def early_media(self):
        callee = self.sipp("early_callee", local="127.0.0.1", port=CALLEE_SIPP, media_port=11610)
        run = self.sipp("early", user="+15551001").wait()
        callee.wait()
        call = self.over(run.call_ids()[0], "completed")
        self.scenario.equal(self.child_of(call)["status"], "completed", "the child")
        self.scenario.check("m=audio 11610 " not in run.messages(), "the callee's own media address went to the caller")

    def cancel(self):
        callee = self.sipp("cancelled_callee", local="127.0.0.1", port=CALLEE_SIPP)
        run = self.sipp("cancel", user="+15551001").wait()
        callee.wait()
        call = self.over(run.call_ids()[0], "canceled", answered=False)
        self.scenario.equal(call["completed"]["sip_status"], 487, "final response")
        self.child_of(call)

    def hold(self):
        run = self.sipp("hold").wait()
        call = self.over(run.call_ids()[0], "completed")
        told = [event["held"] for event in call["events"] if event["type"] == "held"]
        self.scenario.equal(told, [True, False, True], "holds told")

    def codec_change(self):
        run = self.sipp("codec").wait()
        call = self.over(run.call_ids()[0], "completed")
        self.scenario.equal(call["completed"]["media"]["codec"], "PCMA", "codec at the end")

    def late_offer(self):
        run = self.sipp("late_offer").wait()
        call = self.over(run.call_ids()[0], "completed")
        self.scenario.equal(call["completed"]["media"]["codec"], "PCMU", "codec")

    def tcp(self):
        run = self.sipp("basic", options=("-t", "t1")).wait()
        self.scenario.check("SIP/2.0/TCP" in run.messages(), "SIPp did not speak TCP")
        self.over(run.call_ids()[0], "completed")

    def digest_md5(self):
        server = Server(self.scenario, CONFIG_MD5, name="server-md5").start()
        keys = {"remote": f"{SIP_MD5[0]}:{SIP_MD5[1]}", "local": "127.0.0.1", "user": "alice"}
        options = ("-au", "alice", "-ap", SECRET, "-auth_uri")
        run = self.sipp("register", **keys, options=(*options, "dialtone")).wait()
        self.scenario.check("algorithm=MD5" in run.messages() and "SHA-256" not in run.messages(), "not MD5 alone")
        run = self.sipp("invite_digest", **keys, options=(*options, "+15551000@dialtone")).wait()
        call = self.over(run.call_ids()[0], "completed", server=server)
        self.scenario.equal((call["from"], call["via"]), ("sip:alice@dialtone", "alice"), "who called")
        self.scenario.equal(server.stop(), 0, "exit code")

    def loss(self):
        calls, loss = 20, 0.2
        with Lossy(("127.0.0.2", RELAY), SIP, loss, seed=20) as relay:
            options = ("-r", "40", "-recv_timeout", "16000", "-cid_str", "%u-loss@relay")
            run = self.sipp("basic", remote=f"127.0.0.2:{RELAY}", calls=calls, options=options).wait()
        ids = run.call_ids()
        self.scenario.equal(len(ids), calls, "calls")
        for call_id in ids:
            self.over(call_id, "completed")
        self.scenario.check(relay.dropped >= 15, f"only {relay.dropped} datagrams were lost")
        return f"{calls} calls, {relay.dropped} of {relay.dropped + relay.passed} datagrams lost"

    # --- by the raw client

    def sha_256(self):
        for algorithm in ("SHA-256", "MD5"):
            phone = Phone(SIP, "alice", SECRET, algorithm=algorithm)
            response = phone.register()
            self.scenario.equal(response.status, 200, f"REGISTER by {algorithm}")
            self.scenario.check(phone.contact[1:-1] in response.header("contact"), "the binding is not in the 200")
            call = phone.invite("+15551000", sdp("127.0.0.1", 11600)).accepted()
            self.scenario.equal(call.bye().status, 200, "BYE")
            self.over(call.call_id, "completed")
            self.scenario.equal(phone.register(expires=0).header("contact"), "", "bindings after Expires: 0")
            phone.close()

    def registrar(self):
        """Two phones that register in the same second, as after a power cut; then what is bound, and what is not."""
        one, other = Phone(SIP, "alice", SECRET), Phone(SIP, "bob", SECRET)
        for phone in (one, other):
            self.scenario.equal(phone.register().status, 200, f"REGISTER of {phone.user}")
        second = Phone(SIP, "alice", SECRET)
        self.scenario.equal(len(second.register().headers("contact")), 2, "bindings of alice")
        one.close()
        other.close()
        second.close()

    def early_audio(self):
        """What the callee plays before it answers is heard by the caller; and both ways after it."""
        caller, callee = Phone(SIP, local=(TRUNK, 0)), Phone(SIP, "callee", local=("127.0.0.1", CALLEE))
        a, b = Rtp(), Rtp()
        call = caller.invite("+15551002", sdp("127.0.0.1", a.port))
        incoming = callee.wait_invite()
        b.remote = incoming.invite.media()
        incoming.respond(183, sdp("127.0.0.1", b.port))
        a.remote = call.provisional(183).media()
        early, late = noise(0.6, 1), noise(0.6, 2)
        b.play(ulaw_encode(early))
        incoming.accept(sdp("127.0.0.1", b.port))
        call.accepted()
        a.play(ulaw_encode(late))
        found = wait_for(lambda: min(correlation(early[800:4000], a.heard()), correlation(late[800:4000], b.heard())) > 0.9 and True, 2, "audio both ways")
        self.scenario.check(found, "audio")
        self.scenario.check(correlation(late[800:4000], a.heard()) < 0.3, "the caller hears itself")
        self.scenario.equal(call.bye().status, 200, "BYE")
        incoming.wait_bye()
        self.child_of(self.over(call.call_id, "completed"))
        for part in (caller, callee, a, b):
            part.close()

    def cancel_race(self):
        """CANCEL meets the callee's 200: whoever wins, each leg ends once and nothing stays."""
        rounds, source = (60 if self.scenario.long else 25), random.Random(7)
        caller, callee = Phone(SIP, local=(TRUNK, 0)), Phone(SIP, "callee", local=("127.0.0.1", CALLEE))
        outcomes = {200: 0, 487: 0}
        for _ in range(rounds):
            call = caller.invite("+15551002", sdp("127.0.0.1", 11620))
            incoming = callee.wait_invite()
            incoming.respond(180)
            call.provisional(180)
            gap = source.uniform(-0.0015, 0.0015)
            cancel = caller.build("CANCEL", call.uri, call.call_id, 1, f"<{call.uri}>", call.local, via=call.via)
            first, second = (lambda: incoming.respond(200, sdp("127.0.0.1", 11622))), (lambda: caller.transport.send(cancel))
            if gap < 0:
                first, second = second, first
            first()
            time.sleep(abs(gap))
            second()
            final = call.final()
            outcomes[final.status] += 1
            if final.status == 200:
                call.ack()
                self.scenario.equal(call.bye().status, 200, "BYE after a lost race")
            self._callee_ends(callee, incoming)
            record = self.server.ended(call.call_id)
            wanted = "completed" if final.status == 200 else "canceled"
            self.scenario.equal(record["status"], wanted, f"record after {final.status}")
            self.sids.append(record["sid"])
            self.child_of(record)
        caller.close()
        callee.close()
        self.scenario.check(all(outcomes.values()), f"the race had only one outcome: {outcomes}")
        return f"{outcomes[200]} answered, {outcomes[487]} canceled"

    def _callee_ends(self, callee, incoming):
        """The callee's leg ends by CANCEL (answered by 487, if it has not answered) or by BYE."""
        mine = lambda m: m.is_request and m.call_id == incoming.call_id and m.method in ("BYE", "CANCEL")
        while True:
            end = callee.transport.wait(mine, 5, "the callee's leg to end")
            callee.transport.send(reply(end, 200, incoming.tag), end.source)
            if end.method == "BYE":
                return
            # The 200 may have been sent already: then the server acknowledges it and says BYE.
            if callee.transport.find(lambda m: m.is_request and m.call_id == incoming.call_id and m.method == "ACK", 0.3) is None:
                incoming.respond(487)
                return

    def crossing(self):
        """Both parties hang up at the same time."""
        caller, callee = Phone(SIP, local=(TRUNK, 0)), Phone(SIP, "callee", local=("127.0.0.1", CALLEE))
        for _ in range(10):
            call = caller.invite("+15551002", sdp("127.0.0.1", 11620))
            incoming = callee.wait_invite()
            incoming.accept(sdp("127.0.0.1", 11622))
            call.accepted()
            one, other = call.make("BYE"), incoming.make("BYE")
            caller.transport.send(one)
            callee.transport.send(other)
            for phone, request in ((caller, one), (callee, other)):
                cseq = Message(request.encode()).cseq
                final = phone.transport.wait(lambda m: m.status and m.method == "BYE" and m.cseq == cseq and m.call_id == Message(request.encode()).call_id, 3, "the answer to BYE")
                self.scenario.equal(final.status, 200, "BYE of each party")
            crossed = callee.transport.find(lambda m: m.is_request and m.method == "BYE", 0.1)
            if crossed:
                    callee.transport.send(reply(crossed, 200), crossed.source)
            self.child_of(self.over(call.call_id, "completed"))
        caller.close()
        callee.close()

    def refusals(self):
        phone = Phone(SIP, "raw", local=(TRUNK, 0))
        before = len(self.server.calls())
        for name, build, status, demands in REFUSALS:
            response = phone.exchange(build(phone))
            self.scenario.equal(response.status, status, name)
            for header, part in demands.items():
                self.scenario.check(part.lower() in response.header(header).lower(), f"{name}: {header} is {response.header(header)!r}, without {part!r}")
        phone.close()
        # 488 is an INVITE that had an application: the one refusal that leaves a record.
        fresh = [call for call in self.server.calls()][: len(self.server.calls()) - before]
        self.scenario.check(all(call["status"] == "failed" and call["ended_ms"] for call in fresh), f"records of refusals: {fresh}")
        return f"{len(REFUSALS)} refusals"

    def strangers(self):
        phone = Phone(SIP, "stranger", local=("127.0.0.1", 0))
        ports = set(self.server.media_ports())
        for user in ("+15551000", "alice", "nobody"):
            call = phone.invite(user, sdp("127.0.0.1", 11640))
            response = call.final()
            self.scenario.equal(response.status, 401, f"INVITE to {user} by a stranger")
            self.scenario.equal(len(response.headers("www-authenticate")), 2, "challenges")
            self.scenario.check(phone.transport.find(lambda m: True, 0.05) is None, "more than one answer to a stranger")
        self.scenario.equal(phone.exchange(phone.build("REGISTER", "sip:dialtone")).status, 401, "REGISTER by a stranger")
        self.scenario.equal(phone.exchange(phone.build("OPTIONS", "sip:dialtone")).status, 200, "OPTIONS")
        self.scenario.equal([call for call in self.server.calls() if "stranger" in call["from"]], [], "calls of the stranger")
        self.scenario.equal(set(self.server.media_ports()) - ports, set(), "media ports that were opened")
        phone.close()

    def tcp_pieces(self):
        """A whole call, each byte in a segment of its own; then many requests in one segment; then keep-alives."""
        phone = Phone(SIP, "pieces", local=(TRUNK, 0), tcp=True)
        whole, phone.transport.send = phone.transport.send, lambda data: [phone.transport.socket.sendall(bytes([byte])) for byte in data.encode()]
        call = phone.invite("+15551000", sdp("127.0.0.1", 11640)).accepted()
        self.scenario.equal(call.bye().status, 200, "BYE in pieces")
        phone.transport.send = whole
        self.over(call.call_id, "completed")
        phone.close()

        with socket.create_connection(SIP, source_address=(TRUNK, 0)) as connection:
            connection.settimeout(3)
            phone = Phone(SIP, "pipeline", local=(TRUNK, 0), tcp=True)
            texts = [phone.build("OPTIONS", "sip:dialtone", call_id=f"pipelined-{index}") for index in range(20)]
            connection.sendall(b"\r\n\r\n" + "\r\n".join(texts).encode())
            buffer, got, pong = b"", [], 0
            while len(got) < 20:
                data = connection.recv(65536)
                self.scenario.check(data, "the connection was closed")
                buffer += data
                while True:
                    if buffer.startswith(b"\r\n"):
                        pong, buffer = pong + 1, buffer[2:]
                        continue
                    message, buffer = frame(buffer)
                    if message is None:
                        break
                    got.append(Message(message))
            self.scenario.equal([message.call_id for message in got], [f"pipelined-{index}" for index in range(20)], "pipelined answers")
            self.scenario.check(all(message.status == 200 for message in got), "pipelined OPTIONS")
            self.scenario.check(pong >= 1, "no answer to the keep-alive CRLF CRLF")
            phone.close()

        with socket.create_connection(SIP, source_address=(TRUNK, 0)) as connection:
            connection.settimeout(3)
            text = Phone(SIP, "broken", local=(TRUNK, 0)).build("OPTIONS", "sip:dialtone").replace("Content-Length: 0", "Content-Length: -5")
            connection.sendall(text.encode())
            data = b""
            while piece := connection.recv(65536):
                data += piece
            self.scenario.equal(Message(data).status, 400, "a framing fault, before the connection is closed")

    def ipv6(self):
        server = Server(self.scenario, CONFIG6, name="server6").start()
        run = self.sipp("basic", remote=f"[{SIP6[0]}]:{SIP6[1]}", local="::1").wait()
        self.scenario.check("c=IN IP6 ::1" in run.messages(), "no IPv6 in the SDP")
        self.over(run.call_ids()[0], "completed", server=server)
        phone, rtp = Phone(SIP6, local=("::1", 0)), Rtp("::1")
        call = phone.invite("+15551000", sdp("::1", rtp.port)).accepted()
        rtp.remote = call.answer.media()
        sent = noise(0.8, 6)
        rtp.play(ulaw_encode(sent))
        # The echo begins a moment after the answer.
        wait_for(lambda: correlation(sent[3200:], rtp.heard()) > 0.9, 2, "the echo by IPv6")
        self.scenario.equal(call.bye().status, 200, "BYE")
        phone.close()
        rtp.close()
        self.scenario.equal(server.stop(), 0, "exit code")

    def books(self):
        """One CDR and one ledger line for every call, and nothing left."""
        wait_for(lambda: not self.server.live(), 5, "no live calls")
        self.server.written(self.sids)
        wait_for(lambda: not self.server.legs_with_ports(), 7, "no leg to have a media port")
        self.scenario.equal(self.server.stop(), 0, "exit code")
        self.scenario.equal(self.server.rows("SELECT count(*) FROM calls WHERE sid IS NULL OR ended_ms IS NULL"), [(0,)], "open records")
        self.scenario.check("panicked" not in self.server.log(), "a panic is in the log")
        return f"{len(self.sids)} CDRs"


def main():
    with Scenario(__file__) as scenario:
        flows = Flows(scenario)
        parts = [
            flows.basic, flows.tcp, flows.early_media, flows.early_audio, flows.cancel, flows.cancel_race, flows.crossing, flows.hold,
            flows.codec_change, flows.late_offer, flows.digest_md5, flows.sha_256, flows.registrar, flows.tcp_pieces, flows.refusals, flows.strangers,
            flows.loss, flows.ipv6, flows.books,
        ]
        wanted = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
        done = 0
        for part in parts:
            if not wanted or part.__name__ in wanted:
                scenario.step(part.__name__.replace("_", " "), part)
                done += 1
        scenario.summary = f"{done} SIP flows, {len(flows.sids)} calls with one CDR each"


main()
