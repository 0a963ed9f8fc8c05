"""Unmodified programs of the official packages, and the official command line, reach the server by their environment alone."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lib.rtp import Rtp
from lib.scenario import Scenario, wait_for
from lib.server import ACCOUNT, AUTH_TOKEN, Dev, Server, base_config, number, user
from lib.sip import Phone, sdp

SIP, HTTP, PROXY = "127.0.0.1:11010", "127.0.0.1:11011", "127.0.0.1:11012"
RTP, RTP_OF_DEV = "11020-11059", "11060-11099"
# Of `dialtone dev`, whose proxy is one above its HTTP.
SIP_OF_DEV, HTTP_OF_DEV = ("127.0.0.1", 11013), "127.0.0.1:11014"
MORE = number("+15552000", "<Echo/>") + user("bob", "secret-of-bob")
# The command line looks for a newer one of itself, where nobody forbids that.
QUIET = {"TWILIO_DISABLE_AUTOUPDATE": "1", "TWILIO_SKIP_NEW_VERSION_CHECK": "true"}


def config(**keys):
    """A server whose proxy is where the programs look for it."""
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in ({"sdk_proxy": PROXY} | keys).items())
    return base_config(SIP, HTTP, RTP, more=MORE, http_more=lines)


class Environment:
    def __init__(self, scenario):
        self.scenario = scenario
        self.server = Server(scenario, config())

    def start(self):
        self.server.start()

    def printed(self):
        """What `dialtone env` prints is what a shell takes."""
        self.variables = self.shell(self.server, "--config", "dialtone.toml")
        wanted = {"TWILIO_ACCOUNT_SID": ACCOUNT, "TWILIO_AUTH_TOKEN": AUTH_TOKEN, "HTTPS_PROXY": f"http://{PROXY}"}
        self.scenario.equal({name: self.variables.get(name) for name in wanted}, wanted, "the environment")
        key = pathlib.Path(self.variables["NODE_EXTRA_CA_CERTS"]).with_name("ca.key")
        self.scenario.equal(key.stat().st_mode & 0o777, 0o600, "who may read the authority's key")

    def shell(self, server, *arguments):
        """The variables of a shell that has done what `dialtone env` prints."""
        code, text = server.run("env", *arguments)
        self.scenario.equal(code, 0, f"exit code: {text}")
        shell = subprocess.run(["sh", "-c", f"{text}\nenv -0"], capture_output=True, env={"PATH": os.environ["PATH"]}, check=True)
        return dict(line.split("=", 1) for line in shell.stdout.decode().split("\0") if "=" in line)

    def run(self, argv, without=(), **more):
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "NODE_PATH") if name in os.environ}
        variables = {name: value for name, value in (self.variables | more).items() if name not in without}
        return subprocess.run(argv, env=kept | variables, capture_output=True, text=True, timeout=30)

    def program(self, argv, trust):
        """The program works; without what makes it trust us it does not."""
        done = self.run(argv)
        self.scenario.equal(done.returncode, 0, f"exit code of the program: {done.stderr}")
        told = json.loads(done.stdout)
        self.scenario.check(told["listed"][0] == told["call"] and told["call"].startswith("CA"), f"its call first: {told}")
        self.scenario.check(told["trunk"].startswith("TK"), f"a trunk by another host: {told}")
        doubting = self.run(argv, without=[trust])
        self.scenario.check(doubting.returncode != 0, "a program that trusts nobody of ours goes on")
        self.scenario.check("certificate" in doubting.stderr.lower(), f"why: {doubting.stderr[-300:]}")
        return told["call"]

    def python(self):
        return self.program([sys.executable, self.scenario.here / "program.py"], "REQUESTS_CA_BUNDLE")

    def node(self):
        return self.program(["node", self.scenario.here / "program.js"], "NODE_EXTRA_CA_CERTS")

    def twilio(self, *arguments, **more):
        """What the official command line prints, as JSON where it is well."""
        program = pathlib.Path(os.environ["NODE_PATH"]) / ".bin" / "twilio"
        # It keeps what it remembers in the home of its user.
        return self.run([program, *arguments, "-o", "json"], HOME=str(self.scenario.folder), **QUIET, **more)

    def said(self, *arguments):
        done = self.twilio(*arguments)
        self.scenario.equal(done.returncode, 0, f"exit code of {arguments[0]}: {done.stderr}")
        return json.loads(done.stdout)

    def command_line(self):
        """The command line calls a telephone at `dialtone dev`, finds the call, ends it, and lists the numbers."""
        dev = Dev(self.scenario, SIP_OF_DEV, HTTP_OF_DEV, RTP_OF_DEV)
        self.variables = self.shell(dev)
        desk, rtp = Phone(SIP_OF_DEV, "desk", dev.greeting["users"][0]["password"], algorithm="MD5"), Rtp()
        self.scenario.equal(desk.register().status, 200, "REGISTER of desk")
        call, = self.said("api:core:calls:create", "--to", "client:desk", "--from", "+15550000001", "--twiml", "<Response><Pause length='60'/></Response>")
        self.scenario.equal((call["to"], call["from"], call["accountSid"]), ("client:desk", "+15550000001", dev.greeting["account_sid"]), "the new call")
        incoming = desk.wait_invite()
        incoming.accept(sdp("127.0.0.1", rtp.port))
        listed = self.said("api:core:calls:list", "--status", "in-progress")
        self.scenario.equal([one["sid"] for one in listed], [call["sid"]], "calls in progress")
        changed, = self.said("api:core:calls:update", "--sid", call["sid"], "--status", "completed")
        self.scenario.equal((changed["sid"], changed["status"]), (call["sid"], "completed"), "the call that was ended")
        incoming.wait_bye()
        numbers = {one["phoneNumber"] for one in self.said("phone-numbers:list")}
        self.scenario.check({"+15550000001", "+15550000002"} <= numbers, f"numbers: {numbers}")
        gone = self.twilio("api:core:calls:update", "--sid", call["sid"], "--status", "completed")
        self.scenario.check(gone.returncode != 0 and json.loads(gone.stdout)[0]["code"] == 21220, f"an error of ours: {gone.stdout}{gone.stderr}")
        doubting = self.twilio("api:core:calls:list", "-l", "debug", NODE_EXTRA_CA_CERTS="")
        self.scenario.check(doubting.returncode != 0, "a command line that trusts nobody of ours goes on")
        self.scenario.check("certificate" in doubting.stderr.lower(), f"why: {doubting.stderr[-300:]}")
        for part in (desk, rtp):
            part.close()
        self.scenario.equal(dev.stop(), 0, "exit code of dev")

    def connect(self, host, then=b""):
        """What the proxy answers to a CONNECT, and what comes back through it."""
        with socket.create_connection(PROXY.split(":"), 5) as stream:
            stream.settimeout(5)
            stream.sendall(f"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            head = stream.recv(4096).decode()
            status = int(head.split(" ")[1])
            if status == 200 and then:
                stream.sendall(then)
                return status, stream.recv(4096)
            return status, head

    def nowhere_else(self):
        """In a server's own configuration the proxy reaches nothing but the server."""
        for host in ("example.org:443", "127.0.0.1:22", "twilio.com.example.org:443", "eviltwilio.com:443", "[::1]:25"):
            self.scenario.equal(self.connect(host)[0], 403, f"CONNECT {host}")
        self.scenario.equal(self.connect("api.twilio.com:443")[0], 200, "CONNECT api.twilio.com")

    def tunnelled(self):
        """Where it is allowed other hosts are reached, unread."""
        self.scenario.equal(self.server.stop(), 0, "exit code")
        self.server.write_config(config(sdk_proxy_tunnels=True))
        self.server.start()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]

            def answer():
                stream, _ = listener.accept()
                with stream:
                    stream.sendall(stream.recv(100)[::-1])

            threading.Thread(target=answer, daemon=True).start()
            self.scenario.equal(self.connect(f"127.0.0.1:{port}", b"\x16\x03 as it is"), (200, b"si ti sa \x03\x16"), "the tunnel")
        self.scenario.equal(self.connect(f"127.0.0.1:{port}")[0], 502, "a host that is not there")

    def not_configured(self):
        """Without the key there is no proxy, and the command says what to do."""
        self.scenario.equal(self.server.stop(), 0, "exit code")
        self.server.write_config(base_config(SIP, HTTP, RTP, more=MORE))
        self.server.start()
        code, text = self.server.run("env", "--config", "dialtone.toml")
        self.scenario.equal(code, 1, "exit code of env")
        self.scenario.check("sdk_proxy" in text and "base_url" in text, f"advice: {text}")
        try:
            socket.create_connection(PROXY.split(":"), 1).close()
            self.scenario.check(False, "something listens")
        except ConnectionRefusedError:
            pass
        self.scenario.equal(self.server.stop(), 0, "exit code")


def main():
    with Scenario(__file__) as scenario:
        environment = Environment(scenario)
        for part in (
            environment.start, environment.printed, environment.python, environment.node, environment.nowhere_else,
            environment.tunnelled, environment.not_configured, environment.command_line,
        ):
            scenario.step(part.__name__.replace("_", " "), part)
        scenario.summary = "unmodified Python and Node programs and the official command line are served by their environment alone"


main()
