"""SIP over TLS: phones that register and are called by their connection, and a carrier that must prove who it is."""

import pathlib
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

SIP, TLS, HTTP, RTP = ("127.0.0.1", 20300), ("127.0.0.1", 20301), "127.0.0.1:20302", "20310-20339"
CARRIER, IMPOSTOR = 20303, 20304
SOFTPHONE, CONSOLE, SOFTPHONE_RTP = 20305, 20307, (20340, 20347)
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
        """It calls and hears itself; and it is called by the connection that it has opened."""
        equal, phone, rtp, sent = self.scenario.equal, self.phone_for("desk"), Rtp(), noise(1.5, 7)
        phone.register()
        call = phone.invite(ECHO, sdp(rtp.host, rtp.port)).accepted()
        equal((call.answer.headers("via")[0].split()[0], "transport=tls" in call.answer.header("contact")), ("SIP/2.0/TLS", True), "Via, and Contact")
        rtp.remote = call.answer.media()
        rtp.play(ulaw_encode(sent))
        wait_for(lambda: correlation(sent, rtp.heard()) >= ENOUGH, 4, "the echo", every=0.2)
        call.bye()
        status = self.order("client:desk", OURS)
        incoming = phone.wait_invite()
        equal(incoming.invite.headers("via")[0].split()[0], "SIP/2.0/TLS", "the INVITE's Via")
        incoming.accept(sdp("127.0.0.1", 20349)).bye()
        wait_for(lambda: status() == "completed", 3, "the call to be over")
        phone.close(), rtp.close()

    def softphone(self):
        """baresip, which checks our certificate, registers, calls and hears itself."""
        sent = noise(3, 8)
        settings = f"sip_cafile {self.own[0]}\nsip_verify_server yes\n"
        phone = Baresip(self.scenario, "baresip", f"{TLS[0]}:{TLS[1]};transport=tls", "soft", SECRET, SOFTPHONE, CONSOLE, SOFTPHONE_RTP, sent, settings=settings)
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
            call.accept(sdp("127.0.0.1", 20349))
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
        for part in (tls.start, tls.registers, tls.calls, tls.softphone, tls.carrier, tls.impostor, tls.stop):
            scenario.step(part.__name__, part)
        scenario.summary = "a phone, baresip and a carrier by TLS; an impostor is told nothing"


main()
