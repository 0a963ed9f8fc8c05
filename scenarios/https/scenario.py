"""HTTPS and secure WebSockets by a certificate of one's own, and by `dialtone dev`'s authority, with keys of the configuration."""

import json
import os
import pathlib
import ssl
import signal
import subprocess
import sys

import requests

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lib import certificates
from lib.scenario import Scenario, wait_for
from lib.server import ACCOUNT, AUTH_TOKEN, Server, base_config
from lib.stream import Stream
from twilio.http.http_client import TwilioHttpClient
from twilio.jwt.access_token import AccessToken
from twilio.jwt.access_token.grants import VoiceGrant
from twilio.rest import Client

SIP, PORT, RTP = "127.0.0.1:20250", 20251, "20260-20279"
HERE, NAMED = f"127.0.0.1:{PORT}", f"localhost:{PORT}"
KEY, SECRET, APPLICATION = "SK" + "1" * 32, "a-secret-of-32-characters-or-more", "AP" + "2" * 32
# A program of another machine is one of another network.
SPACE, NEAR, FAR, OUTSIDE = "dialtone-https", "10.199.86.1", "10.199.86.2", 20252
AS_ROOT = [] if os.geteuid() == 0 else ["sudo"]


def tables():
    key = f'\n[[key]]\naccount = "{ACCOUNT}"\nsid = "{KEY}"\nsecret = "{SECRET}"\n'
    return key + f'\n[[application]]\naccount = "{ACCOUNT}"\nsid = "{APPLICATION}"\ntwiml = "<Response><Echo/></Response>"\n'


class Https:
    def __init__(self, scenario):
        self.scenario = scenario
        self.make_certificate()

    def make_certificate(self):
        """Makes one in the place of the last."""
        self.cert, self.key = certificates.make(self.scenario.folder, "localhost", "127.0.0.1", NEAR)

    def config(self, http=HERE, tls=""):
        tls = tls or f'{{ cert = "{self.cert}", key = "{self.key}" }}'
        return base_config(SIP, http, RTP, http_more=f"tls = {tls}\n", more=tables(), workers=0)

    def start(self):
        self.server = Server(self.scenario, self.config()).start()

    def client(self, trusts, user=ACCOUNT, password=AUTH_TOKEN):
        http = TwilioHttpClient()
        http.session.verify = trusts
        http.session.trust_env = False
        client = Client(user, password, account_sid=ACCOUNT, http_client=http)
        client.api.base_url = f"https://{NAMED}"
        return client

    def program(self):
        """The official package by HTTPS: who trusts the certificate is served, with the account's token and a configured key."""
        for user, password in ((ACCOUNT, AUTH_TOKEN), (KEY, SECRET)):
            self.scenario.equal(self.client(str(self.cert), user, password).api.accounts(ACCOUNT).fetch().friendly_name, "scenario", "the account")
        try:
            self.client(True).api.accounts(ACCOUNT).fetch()
            self.scenario.check(False, "a program that trusts no such certificate was served")
        except requests.exceptions.SSLError:
            pass

    def versions(self):
        """TLS 1.2 and 1.3, and none before."""
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = ssl.create_default_context(cafile=self.cert)
            context.minimum_version = context.maximum_version = version
            stream = Stream(NAMED, "/livez", tls=context)
            self.scenario.equal(stream.status, 200, version.name)
            stream.socket.close()
        told = subprocess.run(["openssl", "s_client", "-connect", HERE, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], input=b"", capture_output=True)
        self.scenario.check(told.returncode != 0 and b"SSL alert number" in told.stderr, f"TLS 1.1: {told.stderr.decode()}")

    def web_socket(self):
        """A client registers by a token that the configured key has signed, on a secure WebSocket."""
        token = AccessToken(ACCOUNT, KEY, SECRET, identity="ann", ttl=600)
        token.add_grant(VoiceGrant(outgoing_application_sid=APPLICATION, incoming_allow=True))
        context = ssl.create_default_context(cafile=self.cert)
        opened = Stream(NAMED, "/2010-04-01/Registration", {"AccessToken": token.to_jwt()}, web_socket=True, tls=context)
        self.scenario.check(opened.is_open, f"refused: {opened.body}")
        opened.wait_named("registered")
        forged = AccessToken(ACCOUNT, KEY, "another-secret-of-32-characters-or-more", identity="ann", ttl=600)
        forged.add_grant(VoiceGrant(incoming_allow=True))
        refused = Stream(NAMED, "/2010-04-01/Registration", {"AccessToken": forged.to_jwt()}, web_socket=True, tls=context)
        self.scenario.equal(refused.status, 401, "a token that another has signed")

    def commands(self):
        """The command line and probes of this machine need no certificate."""
        code, text = self.server.run("calls", "--config", "dialtone.toml", "--json")
        self.scenario.equal((code, text.strip()), (0, '{"calls":[]}'), "dialtone calls")

    def renewed(self):
        """SIGHUP: the next connection is taken by the new certificate; one that does not fit its key changes nothing."""
        first = self.scenario.folder / "first.pem"
        first.write_bytes(self.cert.read_bytes())
        self.make_certificate()
        self.server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: self.is_served(self.cert) and not self.is_served(first), 5, "the new certificate")
        second = self.cert.read_bytes()
        self.cert.write_bytes(first.read_bytes())
        code, text = self.server.run("check", "--config", "dialtone.toml")
        self.scenario.check(code != 0 and "do not serve together" in text, f"check: {text}")
        self.server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "do not serve together" in self.server.log(), 5, "the log to say so")
        self.cert.write_bytes(second)
        self.scenario.check(self.is_served(self.cert), "it goes on by the last good one")
        self.scenario.equal(self.server.stop(), 0, "exit code")

    def is_served(self, trusts):
        try:
            return self.client(str(trusts)).api.accounts(ACCOUNT).fetch().sid == ACCOUNT
        except requests.exceptions.SSLError:
            return False

    def elsewhere(self):
        """A program of another machine that leaves TLS out is told, in words, and served only where the configuration says so."""
        run = lambda *argv: subprocess.run([*AS_ROOT, *argv], check=True, capture_output=True)
        run("ip", "netns", "add", SPACE)
        try:
            run("ip", "link", "add", "dt-https0", "type", "veth", "peer", "name", "dt-https1", "netns", SPACE)
            run("ip", "address", "add", f"{NEAR}/24", "dev", "dt-https0")
            run("ip", "link", "set", "dt-https0", "up")
            run("ip", "-n", SPACE, "address", "add", f"{FAR}/24", "dev", "dt-https1")
            run("ip", "-n", SPACE, "link", "set", "dt-https1", "up")
            for tls, status in (("", "400"), ("{ own = true, plain = true }", "200")):
                server = Server(self.scenario, self.config(f"{NEAR}:{OUTSIDE}", tls), name="outside" + status).start()
                ask = lambda *more: subprocess.run([*AS_ROOT, "ip", "netns", "exec", SPACE, sys.executable, self.scenario.here / "ask.py", *more], capture_output=True, text=True, timeout=20)
                plain = ask(f"http://{NEAR}:{OUTSIDE}/livez")
                self.scenario.equal(plain.stdout.split()[:1], [status], f"plain HTTP: {plain.stdout} {plain.stderr}")
                self.scenario.check(status == "200" or "https://" in plain.stdout, f"what it is told: {plain.stdout}")
                trusts = server.folder / "data" / "ca.pem" if tls else self.cert
                self.scenario.equal(ask(f"https://{NEAR}:{OUTSIDE}/livez", str(trusts)).stdout.split()[:1], ["200"], "HTTPS")
                self.scenario.equal(server.stop(), 0, "exit code")
        finally:
            subprocess.run([*AS_ROOT, "ip", "link", "delete", "dt-https0"], capture_output=True)
            run("ip", "netns", "delete", SPACE)

    def dev(self):
        """`dialtone dev` takes both on one port, and is whom a client asks for."""
        folder = self.scenario.folder / "dev"
        folder.mkdir()
        greeting = folder / "greeting"
        argv = [self.scenario.dialtone, "dev", "--sip", SIP, "--http", HERE, "--rtp", RTP, "--json"]
        process = self.scenario.start(argv, cwd=folder, stdout=open(greeting, "wb"), stderr=open(folder / "log", "wb"))
        wait_for(lambda: greeting.read_text().endswith("\n"), 10, "the greeting")
        told = json.loads(greeting.read_text())
        self.scenario.equal((told["http"], told["https"]), (f"http://{HERE}", f"https://{HERE}"), "where it is")
        authority = folder / told["authority"]
        for url, trusts in ((told["http"], True), (told["https"], str(authority)), (f"https://{NAMED}", str(authority))):
            self.scenario.equal(requests.get(f"{url}/livez", verify=trusts, timeout=5).status_code, 200, url)
        self.scenario.end(process)


def main():
    with Scenario(__file__) as scenario:
        https = Https(scenario)
        for step in ("start", "program", "versions", "web_socket", "commands", "renewed", "elsewhere", "dev"):
            scenario.step(step.replace("_", " "), getattr(https, step))
        scenario.summary = "the official package and WebSockets over TLS 1.2 and 1.3; certificates renewed while it runs"


main()
