"""SIP over TLS with encrypted media: phones that register and are called by their connection, and a carrier that must prove who it is."""

import os
import pathlib
import signal
import socket
import ssl
import sys
import threading

import requests

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lib import certificates
from lib.baresip import Baresip
from lib.rtp import Rtp, correlation, noise, ulaw_encode
from lib.scenario import Scenario, wait_for
from lib.server import ACCOUNT, AUTH_TOKEN, Server, base_config, number, trunk, user
from lib.sip import Phone, sdp
from lib.srtp import PROFILES, SecureRtp, keys_of

SIP, TLS, HTTP, RTP = ("127.0.0.1", 20300), ("127.0.0.1", 20301), "127.0.0.1:20302", "20310-20339"
CARRIER, IMPOSTOR = 20303, 20304
SOFTPHONE, CONSOLE, SOFTPHONE_RTP = 20305, 20307, (20340, 20347)
WITH_WORKERS = ("127.0.0.1", 20350)
ECHO, OURS, SECRET = "+15552000", "+15553000", "secret-of-the-user"
ENOUGH = 0.9


class Carrier:
    """A server of SIP over TLS, of one connection: whom it belongs to, its certificate says."""

    def __init__(self, port, certificate, key):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.listener, self.phone, self.faults = socket.create_server(("127.0.0.1", port)), None, []
        self.thread = threading.Thread(target=self._accept, args=(context,), daemon=True)
        self.thread.start()

    def _accept(self, context):
        connection, source = self.listener.accept()
        try:
            self.phone = Phone(source, "carrier", tls=context.wrap_socket(connection, server_side=True))
        except OSError as fault:
            self.faults.append(fault)

    def close(self):
        self.listener.close()
        if self.phone:
            self.phone.close()


class SipTls:
    def __init__(self, scenario):
        self.scenario = scenario
        self.own = certificates.make(scenario.folder, "localhost", "127.0.0.1", as_file="own")
        self.theirs = certificates.make(scenario.folder, "localhost", as_file="carrier")
        # Both are trusted as authorities: what is wrong with this one is its name alone.
        self.other = certificates.make(scenario.folder, "elsewhere.example", as_file="other")
        self.trusted = scenario.folder / "trusted.pem"
        self.trusted.write_text(self.theirs[0].read_text() + self.other[0].read_text())
        self.context = ssl.create_default_context(cafile=self.own[0])

    def start(self):
        listen = [f"udp://{SIP[0]}:{SIP[1]}", f"tls://{TLS[0]}:{TLS[1]}"]
        sip = f'tls = {{ cert = "{self.own[0]}", key = "{self.own[1]}" }}\ntls_authorities = "{self.trusted}"\ndigest = ["MD5"]\n'
        more = number(ECHO, "<Echo/>") + user("desk", SECRET) + user("soft", SECRET)
        for name, port, prefix in (("carrier", CARRIER, "+1555"), ("impostor", IMPOSTOR, "+1666")):
            more += trunk(name, uri=f"sip:localhost:{port};transport=tls", numbers=[OURS if name == "carrier" else "+15553001"], prefixes=[prefix])
        self.server = Server(self.scenario, base_config(listen, HTTP, RTP, sip_more=sip, more=more, workers=0)).start()

    def phone_for(self, name):
        return Phone(TLS, name, SECRET, algorithm="MD5", tls=(self.context, "localhost"))

    def registers(self):
        """A phone registers, and its client is there as long as its connection."""
        equal, phone = self.scenario.equal, self.phone_for("desk")
        equal(phone.register().status, 200, "REGISTER")
        self.is_there("desk", True)
        with socket.create_connection(TLS) as plain:
            plain.sendall(b"OPTIONS sip:x SIP/2.0\r\nContent-Length: 0\r\n\r\n")
            plain.settimeout(3)
            answer = plain.recv(1000)
        self.scenario.check(b"SIP/2.0" not in answer, f"who leaves TLS out is answered: {answer}")
        phone.close()
        self.is_there("desk", False)

    def is_there(self, name, wanted):
        url = f"http://{HTTP}/2010-04-01/Accounts/{ACCOUNT}/Clients/{name}.json"
        ask = lambda: requests.get(url, auth=(ACCOUNT, AUTH_TOKEN), timeout=5).json()["available"] == wanted
        wait_for(ask, 6, f"{name} to be {'there' if wanted else 'gone'}")

    def calls(self):
        """It calls and hears itself, by each suite; and it is called by the connection that it has opened."""
        equal, phone = self.scenario.equal, self.phone_for("desk")
        phone.register()
        for suite in PROFILES:
            rtp, sent = SecureRtp(suite), noise(1.5, 7)
            call = phone.invite(ECHO, rtp.sdp(tag=3)).accepted()
            equal((call.answer.headers("via")[0].split()[0], "transport=tls" in call.answer.header("contact")), ("SIP/2.0/TLS", True), "Via, and Contact")
            answer = call.answer.body.decode()
            equal((rtp.agree(answer), len(keys_of(answer)), " RTP/SAVP " in answer), (3, 1, True), f"the answer {answer}")
            self.echo(rtp, call, sent)
            equal(rtp.refused, 0, "packets that could not be opened")
            call.bye(), rtp.close()
        status = self.order("client:desk", OURS)
        incoming, rtp = phone.wait_invite(), SecureRtp("AEAD_AES_128_GCM")
        offer = incoming.invite.body.decode()
        equal(incoming.invite.headers("via")[0].split()[0], "SIP/2.0/TLS", "the INVITE's Via")
        equal((" RTP/SAVP " in offer, [suite for suite, _ in keys_of(offer).values()]), (True, list(PROFILES)), "what is offered")
        incoming.accept(rtp.sdp(tag=rtp.agree(offer))).bye()
        wait_for(lambda: status() == "completed", 3, "the call to be over")
        phone.close(), rtp.close()

    def echo(self, rtp, call, sent):
        rtp.remote = call.answer.media()
        rtp.play(ulaw_encode(sent))
        wait_for(lambda: correlation(sent, rtp.heard()) >= ENOUGH, 4, "the echo", every=0.2)

    def no_downgrade(self):
        """By TLS nothing is heard in the clear: such an offer is refused, such an answer ends the call, and a packet is dropped.
        By UDP who offers encryption has it, and who does not has none."""
        equal, phone, plain = self.scenario.equal, self.phone_for("desk"), sdp("127.0.0.1", 20349)
        phone.register()
        equal(phone.invite(ECHO, plain).final().status, 488, "a plain offer by TLS")
        rtp = SecureRtp()
        equal(phone.invite(ECHO, rtp.sdp().replace("_80", "_32")).final().status, 488, "a suite that is not spoken")
        self.order("client:desk", OURS)
        equal(phone.wait_invite().accept(plain).wait_bye(5).header("reason"), "SIP;cause=488", "why a plain answer ends the call")
        call = phone.invite(ECHO, rtp.sdp()).accepted()
        rtp.agree(call.answer.body.decode())
        before = self.server.metric("dialtone_rtp_dropped_packets_total", reason="forged")
        rtp.seal = lambda packet: packet
        rtp.remote = call.answer.media()
        rtp.play(ulaw_encode(noise(0.4, 3)))
        wait_for(lambda: self.server.metric("dialtone_rtp_dropped_packets_total", reason="forged") >= before + 20, 7, "plain packets to be counted", every=0.2)
        equal(rtp.packets, [], "what came back")
        del rtp.seal
        self.echo(rtp, call, noise(1, 4))
        call.bye(), rtp.close(), phone.close()
        phone = Phone(SIP, "desk", SECRET, algorithm="MD5")
        equal(phone.register().status, 200, "REGISTER")
        for rtp in (SecureRtp(), Rtp()):
            call = phone.invite(ECHO, rtp.sdp() if isinstance(rtp, SecureRtp) else sdp(rtp.host, rtp.port)).accepted()
            answer = call.answer.body.decode()
            equal(len(keys_of(answer)), int(isinstance(rtp, SecureRtp)), "keys in the answer by UDP")
            if isinstance(rtp, SecureRtp):
                rtp.agree(answer)
            self.echo(rtp, call, noise(0.6, 5))
            call.bye(), rtp.close()
        phone.close()

    def killed_worker(self):
        """The worker dies under an encrypted call: the next one goes on under its keys, no number comes twice, and nobody is told."""
        more = number(ECHO, "<Echo/>") + user("desk", SECRET)
        config = base_config([f"udp://{WITH_WORKERS[0]}:{WITH_WORKERS[1]}"], "127.0.0.1:20351", "20360-20399", sip_more='digest = ["MD5"]\n', more=more)
        server, equal, rtp = Server(self.scenario, config, name="workers").start(), self.scenario.equal, SecureRtp()
        wait_for(lambda: server.workers("active") and server.workers("standby"), 5, "a worker and a standby")
        phone = Phone(WITH_WORKERS, "desk", SECRET, algorithm="MD5")
        equal(phone.register().status, 200, "REGISTER")
        call = phone.invite(ECHO, rtp.sdp()).accepted()
        rtp.agree(call.answer.body.decode())
        rtp.remote, sent = call.answer.media(), noise(4, 9)
        rtp.play(ulaw_encode(sent), wait=False)
        wait_for(lambda: len(rtp.packets) > 50, 4, "the echo to begin")
        worker = server.workers("active")[0]
        os.kill(worker["pid"], signal.SIGKILL)
        wait_for(lambda: correlation(sent[-8000:], rtp.heard()) >= ENOUGH, 6, "the echo to go on", every=0.2)
        gap = max(later.at - earlier.at for earlier, later in zip(rtp.packets, rtp.packets[1:]))
        numbers = [packet.sequence for packet in rtp.packets]
        equal((len(set(numbers)), rtp.refused, len({packet.ssrc for packet in rtp.packets})), (len(numbers), 0, 1), "numbers, refused packets and sources")
        self.scenario.check(correlation(sent[:8000], rtp.heard()) >= ENOUGH, "the echo before")
        call.bye(), rtp.close(), phone.close()
        equal(server.stop(), 0, "exit code")
        return f"largest gap {gap * 1000:.0f} ms"

    def softphone(self):
        """baresip, which checks our certificate, registers, calls and hears itself."""
        sent = noise(3, 8)
        settings = f"module srtp.so\nsip_cafile {self.own[0]}\nsip_verify_server yes\n"
        phone = Baresip(self.scenario, "baresip", f"{TLS[0]}:{TLS[1]};transport=tls", "soft", SECRET, SOFTPHONE, CONSOLE, SOFTPHONE_RTP, sent, settings=settings, account=";mediaenc=srtp-mand")
        self.is_there("soft", True)
        phone.command(f"/dial {ECHO}\n")
        wait_for(lambda: correlation(sent[:8000], phone.heard()) >= ENOUGH, 8, "the echo", every=0.25)
        phone.hang_up()

    def order(self, to, from_):
        """The status of a call that the API makes."""
        form = {"To": to, "From": from_, "Twiml": "<Response><Pause length='30'/></Response>", "Timeout": "8"}
        url = f"http://{HTTP}/2010-04-01/Accounts/{ACCOUNT}/Calls"
        made = requests.post(f"{url}.json", form, auth=(ACCOUNT, AUTH_TOKEN), timeout=5).json()
        return lambda: requests.get(f"{url}/{made['sid']}.json", auth=(ACCOUNT, AUTH_TOKEN), timeout=5).json()["status"]

    def carrier(self):
        """The carrier of the trunk proves to be who its URI names, and takes calls, the second by the connection of the first."""
        carrier = Carrier(CARRIER, *self.theirs)
        for _ in range(2):
            status = self.order("+15550199", OURS)
            wait_for(lambda: carrier.phone, 5, "the carrier to be connected to")
            call = carrier.phone.wait_invite()
            self.scenario.equal(call.invite.headers("via")[0].split()[0], "SIP/2.0/TLS", "the INVITE's Via")
            rtp = SecureRtp()
            call.accept(rtp.sdp(tag=rtp.agree(call.invite.body.decode())))
            rtp.close()
            wait_for(lambda: status() == "in-progress", 3, "the call to be answered")
            call.bye()
            wait_for(lambda: status() == "completed", 3, "the call to be over")
        carrier.close()

    def impostor(self):
        """Who has another's name is told nothing, and the operator why."""
        impostor = Carrier(IMPOSTOR, *self.other)
        status = self.order("+16660199", "+15553001")
        wait_for(lambda: status() == "failed", 8, "the call to fail")
        impostor.thread.join(3)
        self.scenario.check(impostor.phone is None and impostor.faults, "no handshake was ended with it")
        log = self.server.log()
        self.scenario.check("a connection could not be opened" in log and "not valid for name" in log, "the log says why")
        impostor.close()

    def stop(self):
        self.scenario.equal(self.server.stop(), 0, "exit code")


def main():
    with Scenario(__file__) as scenario:
        tls = SipTls(scenario)
        for part in (tls.start, tls.registers, tls.calls, tls.no_downgrade, tls.softphone, tls.carrier, tls.impostor, tls.stop, tls.killed_worker):
            scenario.step(part.__name__, part)
        scenario.summary = "a phone, baresip and a carrier by TLS and SRTP; an impostor is told nothing, and nothing is heard in the clear"


main()
