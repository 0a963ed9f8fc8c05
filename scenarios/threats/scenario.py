"""What must not happen. Each part carries the number of its row in the list of threats."""

import pathlib
import re
import socket
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from hostile import HOSTILE, Application

from lib.rtp import Rtp, correlation, noise, ulaw_encode
from lib.scenario import Scenario, wait_for
from lib.server import Server, base_config, number, trunk, user
from lib.sip import Message, Phone, fields_of, sdp

SIP, SIP_GUARDED = ("127.0.0.1", 15060), ("127.0.0.1", 15061)
TRUNK, STRANGER, GUESSER, VICTIM_HOST = "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.9"
APP, CALLEE, VICTIM = 15030, 15090, 15091
SECRET = "secret-of-alice"
PATIENCE = "#rt=800&tt=1500"


def app(path):
    return f"http://127.0.0.1:{APP}/{path}"


def config(patience):
    numbers = "".join(number(f"hostile-{name}", voice_url=app(name) + patience) for name in HOSTILE)
    return base_config(
        f"{SIP[0]}:{SIP[1]}",
        "127.0.0.1:15040",
        "15100-15399",
        more=numbers
        + number("good", voice_url=app("good"))
        + number("verb-loop", voice_url=app("verb-loop"))
        + number("bridge", f'<Dial answerOnBridge="true"><Sip>sip:callee@127.0.0.1:{CALLEE}</Sip></Dial>')
        + number("echo", "<Echo/>")
        + user("alice", SECRET)
        + user("bob", "secret-of-bob")
        + trunk("carrier", **{"from": [f"{TRUNK}/32"]}),
    )


# Ways to name an address that customers must not reach.
PRIVATE = [
    f"http://127.0.0.1:{APP}/", f"http://localhost:{APP}/", f"http://[::1]:{APP}/", f"http://0.0.0.0:{APP}/", f"http://2130706433:{APP}/",
    f"http://0x7f.1:{APP}/", f"http://[::ffff:127.0.0.1]:{APP}/", f"http://[64:ff9b::7f00:1]:{APP}/", "http://169.254.169.254/latest/meta-data",
    "http://10.0.0.1/", "http://192.168.1.1/", "http://172.16.0.1/", "http://100.64.0.1/", "http://[fd00::1]/", "http://[fe80::1]/",
]
GUARDED = base_config(
    f"{SIP_GUARDED[0]}:{SIP_GUARDED[1]}",
    "127.0.0.1:15041",
    "15400-15599",
    private=False,
    more="".join(number(f"private-{index}", voice_url=url) for index, url in enumerate(PRIVATE))
    + number("play", f"<Play>http://127.0.0.1:{APP}/tone.wav</Play>")
    + number("callback", "<Hangup/>", status_callback=f"http://127.0.0.1:{APP}/status")
    + number("dial", f"<Dial><Sip>sip:x@127.0.0.1:{VICTIM}</Sip></Dial>")
    + trunk("carrier", **{"from": [f"{TRUNK}/32"]}),
)


class Threats:
    def __init__(self, scenario):
        self.scenario = scenario

    def start(self):
        self.application = Application(APP)
        self.server = Server(self.scenario, config("" if self.scenario.long else PATIENCE)).start()

    def threat_05_media_of_a_stranger(self):
        """A stranger sends RTP to both legs, before and while the parties speak: nobody hears it, and it gets nothing."""
        caller, callee = Phone(SIP, local=(TRUNK, 0)), Phone(SIP, "callee", local=("127.0.0.1", CALLEE))
        a, b, strangers = Rtp(), Rtp(), [Rtp(STRANGER), Rtp(STRANGER), Rtp("127.0.0.1")]
        call = caller.invite("bridge", sdp("127.0.0.1", a.port))
        incoming = callee.wait_invite()
        incoming.accept(sdp("127.0.0.1", b.port))
        call.accepted()
        a.remote, b.remote = call.answer.media(), incoming.invite.media()
        injected = noise(2.5, 66, level=12000)
        evil = ulaw_encode(injected)
        strangers[0].remote, strangers[1].remote = a.remote, b.remote
        for stranger in strangers[:2]:
            stranger.play(evil[:1600])
        said = {rtp: noise(1.6, index) for index, rtp in ((1, a), (2, b))}
        for rtp, samples in said.items():
            rtp.play(ulaw_encode(samples), wait=False)
        wait_for(lambda: len(a.packets) > 10 and len(b.packets) > 10, 3, "the parties to hear each other")
        # One of them even has the caller's IP address, and guesses its SSRC.
        strangers[2].remote, strangers[2]._ssrc = a.remote, a._ssrc
        for stranger in strangers:
            stranger.play(evil, wait=False)
        wait_for(lambda: len(a.packets) > 75 and len(b.packets) > 75, 4, "the conversation")
        ssrcs = {packet.ssrc for rtp in (a, b) for packet in rtp.packets}
        told = []
        for hears, speaks in ((a, b), (b, a)):
            part = said[speaks][4000:10000]
            wait_for(lambda: correlation(part, hears.heard()) > 0.9, 2, "the other party")
            self.scenario.check(correlation(said[hears][4000:10000], hears.heard()) < 0.3, "a party hears itself")
            pieces = [correlation(injected[at : at + 1600], hears.heard()) for at in range(0, 16000, 1600)]
            told.append(max(pieces))
            self.scenario.check(max(pieces) < 0.4, f"the stranger is heard: {max(pieces):.2f}")
        self.scenario.equal([len(stranger.packets) for stranger in strangers], [0, 0, 0], "packets to strangers")
        self.scenario.check(len(ssrcs) == 2, f"SSRCs heard: {len(ssrcs)}")
        # One of them before the parties spoke, and then two during the conversation, to the caller's leg.
        sent = strangers[0].sent + strangers[2].sent
        self.scenario.equal(call.bye().status, 200, "BYE")
        incoming.wait_bye()
        record = self.server.ended(call.call_id)
        # The last of them may be unread when the leg is closed.
        self.scenario.check(record["completed"]["media"]["packets_dropped"] >= 0.9 * sent > 110, f"dropped packets told, of {sent}: {record['completed']['media']}")
        for part in (caller, callee, a, b, *strangers):
            part.close()
        return f"0 injected, 0 bled; best likeness {max(told):.2f}"

    def threat_37_digest(self):
        check = self.scenario.equal
        alice = Phone(SIP, "alice", SECRET)
        response, text = alice.authorized("REGISTER", "sip:dialtone", to="<sip:alice@dialtone>", headers=["Expires: 60"])
        check(response.status, 200, "REGISTER")
        # The same credentials once more, in another transaction and by somebody else.
        thief = Phone(SIP, "alice", "", local=(STRANGER, 0))
        replay = re.sub(r"Via: [^\r]*", f"Via: {thief.via()}", text)
        replay = re.sub(r"Contact: [^\r]*", "Contact: <sip:thief@127.0.0.3:9>", re.sub(r"CSeq: \d+", "CSeq: 9", re.sub(r"Call-ID: [^\r]*", "Call-ID: replayed", replay)))
        refused = thief.exchange(replay)
        check((refused.status, fields_of(refused.header("www-authenticate")).get("stale")), (401, "true"), "a replay")
        # A nonce of somebody's own invention, and one whose time was changed.
        challenge = alice.pick(refused)
        nonce = fields_of(challenge)["nonce"]
        for name, wrong in (("invented", "deadbeef" * 5), ("changed", f"{int(nonce[:10], 16) + 1:010x}{nonce[10:]}")):
            header = alice.credentials(refused, "REGISTER", "sip:dialtone", nonce=wrong)
            refused = alice.exchange(alice.build("REGISTER", "sip:dialtone", to="<sip:alice@dialtone>", from_="<sip:alice@dialtone>;tag=1", headers=[header]))
            check(refused.status, 401, f"a nonce that is {name}")
        # Credentials for another URI and for another method.
        header = alice.credentials(refused, "REGISTER", "sip:elsewhere")
        check(alice.exchange(alice.build("REGISTER", "sip:dialtone", to="<sip:alice@dialtone>", headers=[header])).status, 400, "another uri")
        header = alice.credentials(refused, "OPTIONS", "sip:dialtone")
        check(alice.exchange(alice.build("REGISTER", "sip:dialtone", to="<sip:alice@dialtone>", from_="<sip:alice@dialtone>;tag=2", headers=[header])).status, 401, "another method")
        # A user registers only itself.
        check(alice.register(aor="bob").status, 403, "REGISTER for another user")
        mallory = Phone(SIP, "alice", "secret-of-bob")
        check(mallory.register().status, 401, "another user's password")
        bindings = alice.authorized("REGISTER", "sip:dialtone", to="<sip:alice@dialtone>", headers=["Contact: <sip:again@127.0.0.1:1>", "Expires: 60"])[0]
        self.scenario.check("thief" not in str(bindings.headers("contact")), "the thief has a binding")
        for phone in (alice, thief, mallory):
            phone.close()

    def threat_38_guessing(self):
        """An unknown user looks like a wrong password, and after ten guesses a source is met with silence."""
        guesser = Phone(SIP, "alice", "guess", local=(GUESSER, 0))
        unknown = Phone(SIP, "nobody", "guess", local=(GUESSER, 0))
        heads = lambda m: [m.start, *(re.sub(r'nonce="[^"]*"', "", value) for value in m.headers("www-authenticate")), sorted({name for name, _ in m.fields})]
        told = [heads(unknown.register()), heads(guesser.register())]
        self.scenario.equal(told[0], told[1], "unknown user and wrong password")
        for _ in range(8):
            self.scenario.equal(guesser.register().status, 401, "a guess")
        for name, request in (("OPTIONS", guesser.build("OPTIONS", "sip:dialtone")), ("REGISTER", guesser.build("REGISTER", "sip:dialtone"))):
            guesser.transport.send(request)
            self.scenario.check(guesser.transport.find(lambda m: m.status, 0.4) is None, f"{name} of a guesser is answered")
        good = Phone(SIP, "alice", SECRET)
        self.scenario.equal(good.register().status, 200, "the user, from elsewhere")
        self.scenario.check("wrong passwords" in self.server.log(), "the log does not say so")
        for phone in (guesser, unknown, good):
            phone.close()

    def threat_39_open_relay(self):
        """Nothing that a stranger writes into a message sends one to a third party."""
        victims = []
        for host in ("127.0.0.1", VICTIM_HOST):
            victim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            victim.bind((host, VICTIM))
            # It would hear: this is how it sounds.
            probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            probe.sendto(b"probe", (host, VICTIM))
            self.scenario.equal(victim.recv(100), b"probe", "what a victim hears")
            probe.close()
            victim.setblocking(False)
            victims.append(victim)
        target = f"{VICTIM_HOST}:{VICTIM}"
        body, sent = sdp("127.0.0.1", 15600), 0
        for host, known in ((STRANGER, False), (TRUNK, True)):
            phone = Phone(SIP, "mallory", local=(host, 0))
            requests = {
                "Route": phone.build("INVITE", "sip:good@dialtone", body=body, headers=[f"Route: <sip:{target};lr>"]),
                "Request-URI": phone.build("INVITE", f"sip:nobody-here@{target}", body=body),
                "maddr": phone.build("INVITE", f"sip:nobody-here@dialtone:{VICTIM};maddr={VICTIM_HOST}", body=body),
                "To tag": phone.build("INVITE", f"sip:x@{target}", to=f"<sip:x@{target}>;tag=abc", body=body),
                "Route of MESSAGE": phone.build("MESSAGE", f"sip:x@{target}", headers=[f"Route: <sip:{target};lr>"]),
                "Route of BYE": phone.build("BYE", f"sip:x@{target}", to="<sip:x@y>;tag=abc", headers=[f"Route: <sip:{target};lr>", f"Route: <sip:{target};lr>"]),
                "OPTIONS": phone.build("OPTIONS", f"sip:x@{target}", headers=[f"Route: <sip:{target};lr>"]),
                "ACK": phone.build("ACK", f"sip:x@{target}", to="<sip:x@y>;tag=abc", headers=[f"Route: <sip:{target};lr>"]),
            }
            for name, text in requests.items():
                phone.transport.send(text)
                sent += 1
                if name == "ACK":
                    continue
                answer = phone.transport.wait(lambda m: m.status >= 200 and m.call_id == Message(text.encode()).call_id, 8, f"an answer to {name}")
                if not known and name not in ("OPTIONS", "To tag", "Route of BYE", "Route of MESSAGE"):
                    self.scenario.equal(answer.status, 401, f"{name} of a stranger")
                if answer.status == 200 and answer.method == "INVITE":
                    phone.transport.send(phone.build("ACK", answer.contact_uri(), answer.call_id, 1, answer.header("to"), answer.header("from")))
            # Answers go to where the request came from, whatever the Via says.
            phone.transport.send(phone.build("OPTIONS", "sip:dialtone", via=f"SIP/2.0/UDP {target};branch=z9hG4bKspoof1;maddr={VICTIM_HOST}"))
            phone.transport.send(phone.build("OPTIONS", "sip:dialtone", via=f"SIP/2.0/UDP {target};branch=z9hG4bKspoof2;received={VICTIM_HOST}"))
            sent += 2
            phone.close()
        probe = Phone(SIP, "probe")
        self.scenario.equal(probe.exchange(probe.build("OPTIONS", "sip:dialtone")).status, 200, "OPTIONS")
        probe.close()
        for victim in victims:
            try:
                data = victim.recv(65536)
                self.scenario.check(False, f"a third party got {data[:80]!r}")
            except BlockingIOError:
                self.scenario.checks += 1
            victim.close()
        return f"{sent} attempts, 0 relayed"

    def threat_20_21_22_applications(self):
        """Every hostile application at once: each call ends in time, with its error; a bystander notices nothing."""
        limit = 15 if self.scenario.long else 1.5
        phone = Phone(SIP, "+15559000", local=(TRUNK, 0))
        # As many calls as below, so that what is measured is the hostility and not the first use of everything.
        warm = [phone.invite(name, sdp("127.0.0.1", 15600)) for name in ["hostile-not-xml"] * 3 + ["echo"] * len(HOSTILE)]
        for call in warm:
            call.accepted()
        for call in warm:
            self.scenario.equal(call.bye().status, 200, "BYE")
        memory = self._memory()
        began = time.monotonic()
        calls = {name: phone.invite(f"hostile-{name}", sdp("127.0.0.1", 15600)) for name in HOSTILE}
        slowest = 0
        for _ in range(5):
            at = time.monotonic()
            bystander = phone.invite("good", sdp("127.0.0.1", 15602))
            self.scenario.equal(bystander.final().status, 603, "the bystander's call, which its document hangs up")
            slowest = max(slowest, time.monotonic() - at)
        self.scenario.check(slowest < 1, f"a bystander's call took {slowest:.2f} s")
        ends = {}

        def serve(name, call):
            # Where there is no document, the caller is told so by a prompt of 4 s, and then hung up.
            call.accepted(limit + 3)
            ends[name] = time.monotonic() - began
            call.wait_bye(12)

        threads = [threading.Thread(target=serve, args=item, daemon=True) for item in calls.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(limit + 16)
        self.scenario.equal(sorted(set(calls) - set(ends)), [], "calls that hang")
        late = {name: f"{took:.1f} s" for name, took in ends.items() if took > limit + 1}
        self.scenario.equal(late, {}, "applications that were waited for too long")
        for name, call in calls.items():
            sid = self.server.ended(call.call_id)["sid"]
            text = self.server.run("call", sid, "--config", "dialtone.toml")[1]
            self.scenario.check(f"Error {HOSTILE[name][1]}" in text, f"{name}: no error {HOSTILE[name][1]} in\n{text}")
        grown = self._memory() - memory
        self.scenario.check(grown < 16, f"memory grew by {grown:.1f} MB")
        phone.close()
        return f"{len(calls)} applications, slowest given up after {max(ends.values()):.1f} s, +{max(grown, 0):.1f} MB"

    def threat_21_verb_loop(self):
        """A document that redirects to itself is slowed down, and ends with the call."""
        phone = Phone(SIP, "+15559000", local=(TRUNK, 0))
        count = lambda: self.application.requests.count("verb-loop")
        cpu, began = self.server.cpu_seconds(), time.monotonic()
        call = phone.invite("verb-loop", sdp("127.0.0.1", 15600))
        wait_for(lambda: count() >= 25, 5, "the loop to go on")
        took = time.monotonic() - began
        self.scenario.check(took > 1.2, f"25 documents in {took:.2f} s")
        share = (self.server.cpu_seconds() - cpu) / took
        self.scenario.check(share < 0.2, f"the loop takes {share:.0%} of a core")
        self.scenario.equal(call.cancel().status, 200, "CANCEL")
        self.scenario.equal(call.final().status, 487, "the INVITE")
        self.server.ended(call.call_id)
        before = count()
        self.scenario.check(phone.transport.find(lambda m: m.is_request or m.status >= 200, 0.4) is None, "a message after the end")
        self.scenario.check(count() <= before + 1, "the loop goes on after the call")
        phone.close()
        return f"{25 / took:.0f} documents a second, {share:.1%} of a core"

    def threat_23_private_targets(self):
        """Without allow_private_targets no URL of a customer reaches a private address."""
        server = Server(self.scenario, GUARDED, name="guarded").start()
        victim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        victim.bind(("127.0.0.1", VICTIM))
        victim.setblocking(False)
        before = len(self.application.requests)
        phone = Phone(SIP_GUARDED, "+15559000", local=(TRUNK, 0))
        numbers = [f"private-{index}" for index in range(len(PRIVATE))] + ["play", "callback", "dial"]
        calls = {name: phone.invite(name, sdp("127.0.0.1", 15610)) for name in numbers}
        for name, call in calls.items():
            if call.final(8).status == 200:
                call.ack()
                self.scenario.equal(call.bye().status in (200, 481), True, f"BYE of {name}")
            record = server.ended(call.call_id, 8)
            codes = {event["code"] for event in record["events"] if event["type"] == "noticed"}
            wanted = {"dial": 13223, "callback": None}.get(name, 11205)
            url = PRIVATE[int(name.split("-")[1])] if "-" in name else name
            self.scenario.check(wanted is None or wanted in codes, f"{url}: notices {codes}")
        self.scenario.equal(self.application.requests[before:], [], "requests that reached the application")
        try:
            self.scenario.check(False, f"the SIP target got {victim.recv(65536)[:80]!r}")
        except BlockingIOError:
            pass
        victim.close()
        phone.close()
        self.scenario.equal(server.stop(), 0, "exit code")
        return f"{len(PRIVATE)} addresses, Play, callback and SIP: 0 connections"

    def books(self):
        wait_for(lambda: not self.server.live(), 5, "no live calls")
        wait_for(lambda: not self.server.legs_with_ports(), 7, "no leg to have a media port")
        self.scenario.check("panicked" not in self.server.log(), "a panic is in the log")
        self.scenario.equal(self.server.stop(), 0, "exit code")

    def _memory(self):
        """Of the keeper, the edge and the workers."""
        keeper = self.server.process.pid
        children = open(f"/proc/{keeper}/task/{keeper}/children").read().split()
        texts = [open(f"/proc/{pid}/status").read() for pid in [keeper, *children]]
        return sum(int(re.search(r"VmRSS:\s+(\d+)", text).group(1)) for text in texts) / 1024


def main():
    with Scenario(__file__) as scenario:
        threats = Threats(scenario)
        parts = [
            threats.start, threats.threat_05_media_of_a_stranger, threats.threat_37_digest, threats.threat_38_guessing, threats.threat_39_open_relay,
            threats.threat_20_21_22_applications, threats.threat_21_verb_loop, threats.threat_23_private_targets, threats.books,
        ]
        wanted = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
        for part in parts:
            if not wanted or part.__name__ == "start" or any(name in part.__name__ for name in wanted):
                scenario.step(part.__name__.replace("_", " "), part)
        scenario.summary = f"{len(HOSTILE)} hostile applications, {len(PRIVATE)} private addresses, stranger's media, digest, guessing and relaying: none came through"


main()
