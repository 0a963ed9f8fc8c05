"""What an operator does: check, start, reload, look, drain, and what a crash leaves behind."""

import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lib.document import Document
from lib.rtp import Rtp, correlation, noise, ulaw_encode
from lib.scenario import Failed, Scenario, wait_for
from lib.server import ACCOUNT, AUTH_TOKEN, OPERATOR_TOKEN, Server, base_config, number, trunk, user
from lib.sip import IncomingCall, Phone, sdp

from collector import KIND, NODE, PASSWORD, Collector

SIP, HTTP, METRICS, APP, CARRIER = ("127.0.0.1", 14060), "127.0.0.1:14040", "127.0.0.1:14041", 14030, 14090
TRUNK = "127.0.0.2"
USER_SECRET, TRUNK_SECRET, FILE_TOKEN = "user-secret-91c4", "trunk-secret-30fe", "token-from-a-file-77"
NUMBERS = number("+15553000", "<Echo/>") + number("+15553001", voice_url=f"http://127.0.0.1:{APP}/voice?customer=4")
COLLECTOR, HEP_PASSWORD = 14095, "hep-password-88c1"
FROM = trunk("carrier", **{"from": [f"{TRUNK}/32"]})


def config(more=NUMBERS + FROM + user("desk", USER_SECRET), **keys):
    sip_more = f'hep = {{ collector = "127.0.0.1:{COLLECTOR}", node = 7, password = "{HEP_PASSWORD}" }}'
    return base_config(f"{SIP[0]}:{SIP[1]}", HTTP, "14100-14299", more=more, sip_more=sip_more, http_more=f'metrics_listen = "{METRICS}"', **keys)


# What is wrong, what stands on the line that is named, and words that the message must have.
GOOD = config()
FAULTS = [
    ("unknown key", ("realm =", "reelm ="), "reelm", ["unknown key `reelm`", "did you mean `realm`"]),
    ("unknown key of a number", ("voice_url =", "voice_ur1 ="), "voice_ur1", ["unknown key `voice_ur1`", "did you mean `voice_url`"]),
    ("unknown section", ("[media]", "[medai]"), "[medai]", ["medai", "did you mean `media`"]),
    ("address that is none", ("udp://127.0.0.1:14060", "udp://127.0.0.1:99999"), "99999", ["`listen`", "udp://IP:PORT"]),
    ("wrong type", ("allow_private_targets = true", 'allow_private_targets = "yes"'), '"yes"', ["allow_private_targets", "boolean"]),
    ("port range", ('"14100-14299"', '"14299-14100"'), "14299-14100", ["`ports`"]),
    ("sid that is none", (f'sid = "{ACCOUNT}"', 'sid = "AC12"'), "AC12", ["`sid`"]),
    ("account that nobody has", (f'account = "{ACCOUNT}"\nusername', f'account = "AC{"9" * 32}"\nusername'), "AC" + "9" * 32, ["account"]),
    ("document that is none", ("<Echo/>", "<Echo>"), "<Echo>", ["twiml", "12100"]),
    ("trunk that no call can use", (f'from = ["{TRUNK}/32"]', ""), 'name = "carrier"', ["`uri`", "`from`"]),
    ("source that is none", (f"{TRUNK}/32", "127.0.0.2/99"), "/99", ["`from`"]),
    ("store of another kind", ("sqlite://", "mysql://"), "mysql", ["`url`", "sqlite://PATH"]),
    ("secret file that is not there", (AUTH_TOKEN, "file:nowhere"), "file:nowhere", ["auth_token", "nowhere"]),
    ("secret of an unset variable", (AUTH_TOKEN, "${SCENARIO_UNSET}"), "SCENARIO_UNSET", ["auth_token", "SCENARIO_UNSET"]),
    ("number that stands twice", ("+15553001", "+15553000"), None, ["+15553000", "twice"]),
    ("time that is none", ("drain_timeout = 5", 'drain_timeout = "soon"'), "soon", ["drain_timeout"]),
    ("not TOML at all", ("[server]", "[server"), "[server", []),
]


class Operations:
    def __init__(self, scenario):
        self.scenario = scenario
        self.server = Server(scenario, config())
        self.collector = Collector(COLLECTOR)

    def check_configurations(self):
        check = lambda: self.server.run("check", "--config", "dialtone.toml")
        code, text = check()
        self.scenario.equal(code, 0, f"check of the good one ({text})")
        bad = []
        for name, (old, new), marker, words in FAULTS:
            wrong = GOOD.replace(old, new, 1)
            self.scenario.check(wrong != GOOD, f"{name}: nothing was changed")
            self.server.write_config(wrong)
            code, text = check()
            place = "dialtone.toml:"
            if marker:
                place += str(next(index for index, line in enumerate(wrong.splitlines(), 1) if marker in line)) + ":"
            missing = [word for word in (place, *words) if word not in text]
            if code == 0 or missing:
                bad.append(f"{name}: exit code {code}, {missing} not in {text!r}")
        code, text = self.server.run("serve", "--config", "dialtone.toml")
        self.scenario.check(code != 0 and "dialtone.toml" in text, f"a server starts with a wrong configuration: {text}")
        self.server.write_config(GOOD)
        self.scenario.equal(bad, [], "faults that are told badly")
        return f"{len(FAULTS)} faults named"

    def all_or_nothing(self):
        """Where one listener is taken, nothing starts."""
        taken = socket.create_server(("127.0.0.1", 14060))
        code, text = self.server.run("serve", "--config", "dialtone.toml")
        taken.close()
        self.scenario.check(code != 0 and "14060" in text, f"exit code {code}: {text}")

    def start(self):
        self.application = Document(APP, "<Response><Pause length='30'/></Response>")
        self.server.start()
        self.phone = Phone(SIP, "+15559000", local=(TRUNK, 0))
        self.call("+15553000")
        self.call("+15550000", 404)

    def call(self, user, wanted=200):
        """Calls until the answer is the wanted one: a reload reaches the shard a moment after the log says so."""

        def attempt():
            call = self.phone.invite(user, sdp("127.0.0.1", 14300))
            if call.final().status == wanted:
                return call
            if call.answer:
                call.ack()
                call.bye()

        call = wait_for(attempt, 1, f"{wanted} of a call to {user}")
        self.scenario.checks += 1
        if wanted == 200:
            call.ack()
            self.scenario.equal(call.bye().status, 200, "BYE")
            return self.server.ended(call.call_id)

    def reload(self):
        server = self.server
        server.write_config(config(NUMBERS + number("+15553009", "<Echo/>") + FROM + user("desk", USER_SECRET)))
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "are reloaded" in server.log(), 3, "the reload")
        self.call("+15553009")
        server.write_config(config(NUMBERS + number("+15553010", "<Echo/>") + FROM).replace("+15553010", "+15553010\"\nvoice_ulr = \"x", 1))
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "refused; the old one stays" in server.log(), 3, "the refusal")
        line = next(line for line in server.log().splitlines() if "the old one stays" in line)
        self.scenario.check("dialtone.toml:" in line and "voice_ulr" in line, f"the refusal does not say why: {line}")
        # For the commands, which read the file too; the server does not.
        server.write_config(GOOD)
        self.call("+15553009")
        self.call("+15553010", 404)
        desk = Phone(SIP, "desk", USER_SECRET)
        self.scenario.equal(desk.register().status, 200, "the user that the bad file did not have")
        desk.close()
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: server.log().count("are reloaded") == 2, 3, "the second reload")
        self.call("+15553009", 404)

    def look(self):
        """`calls` and `call` for a person, and for a program."""
        live = self.phone.invite("+15553000", sdp("127.0.0.1", 14300)).accepted()
        past = self.call("+15553000")
        code, text = self.server.run("calls", "--config", "dialtone.toml")
        self.scenario.equal(code, 0, "dialtone calls")
        lines = text.splitlines()
        mine = next(line for line in lines if past["sid"] in line)
        self.scenario.check(re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z +completed +[01]s +\+15559000 -> \+15553000$", mine), f"line of a past call: {mine}")
        self.scenario.equal(sum(" live " in line and "in-progress" in line for line in lines), 1, "live calls shown")
        self.scenario.equal(len(self.server.run("calls", "--config", "dialtone.toml", "--limit", "2")[1].splitlines()), 2, "--limit 2")
        code, text = self.server.run("call", past["sid"], "--config", "dialtone.toml")
        for part in (past["sid"], ACCOUNT, "+15559000 -> +15553000  inbound", "status completed", "initiated by way of carrier", "answered", "<Echo>", "ended by the peer", "media PCMU"):
            self.scenario.check(part in text, f"dialtone call does not show {part!r}:\n{text}")
        code, text = self.server.run("call", "CA" + "0" * 32, "--config", "dialtone.toml")
        self.scenario.check(code != 0 and "there is no call" in text, f"a call that is not: {text}")
        self.scenario.equal(live.bye().status, 200, "BYE")
        for path in ("/dialtone/v1/calls", f"/dialtone/v1/calls/{past['sid']}"):
            told = [self.server.get(path, token)[0] for token in (None, "wrong", OPERATOR_TOKEN[:-1], OPERATOR_TOKEN)]
            self.scenario.equal(told, [401, 401, 401, 200], f"{path} without, with wrong and with right token")

    def metrics(self):
        self.server.wait_metric(1, "dialtone_node_state", state="serving")
        status, page = self.server.get("/metrics")
        self.scenario.equal(status, 200, "/metrics from loopback")
        told = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True)
        self.scenario.equal((told.returncode, told.stdout + told.stderr), (0, ""), "promtool check metrics")
        broken = subprocess.run(["promtool", "check", "metrics"], input=page + "a_total 1\na_total 2\n", capture_output=True, text=True)
        self.scenario.check(broken.returncode != 0, "promtool accepts a broken page")
        # The listener of its own is open to whoever reaches it, and has nothing else.
        told = [self.server.get(path, address=METRICS)[0] for path in ("/metrics", "/readyz", "/livez", "/dialtone/v1/calls")]
        self.scenario.equal(told, [200, 200, 200, 404], "metrics_listen")
        started = self.server.metric("dialtone_calls_started_total", direction="inbound")
        ended = self.server.metric("dialtone_calls_ended_total", direction="inbound")
        self.scenario.check(started == ended == len(self.server.calls()), f"{started} started, {ended} ended, {len(self.server.calls())} recorded")
        missing = lambda: [name for name in MUST_HAVE if not re.search(rf"^{name}[{{ ]", self.server.get("/metrics")[1], re.M)]
        # Gauges are brought up to date every 5 s; some exist only once there was something to count.
        live = self.phone.invite("+15553000", sdp("127.0.0.1", 14300)).accepted()
        try:
            wait_for(lambda: not missing(), 7, "every metric", every=0.1)
        except Failed:
            self.scenario.equal(missing(), [], "metrics that are missing")
        self.server.wait_metric(1, "dialtone_media_sessions")
        self.scenario.equal(live.bye().status, 200, "BYE")
        return f"{sum(not line.startswith('#') for line in page.splitlines() if line)} series"

    def capture(self):
        """A collector has each message of a call with where it came from and where it went."""
        equal = self.scenario.equal
        call = self.phone.invite("+15553000", sdp("127.0.0.1", 14300)).accepted()
        equal(call.bye().status, 200, "BYE")
        phone = (self.phone.transport.host, self.phone.transport.port)
        wanted = [(phone, SIP, "INVITE"), (SIP, phone, "SIP/2.0 180"), (SIP, phone, "SIP/2.0 200"), (phone, SIP, "ACK"), (phone, SIP, "BYE"), (SIP, phone, "SIP/2.0 200")]
        wait_for(lambda: len(self.collector.of(call.answer.call_id)) >= len(wanted), 2, "the messages of the call")
        captured = self.collector.of(call.answer.call_id)
        equal([(source, destination) for source, destination, _ in captured], [one[:2] for one in wanted], "where they came from and went")
        equal([line.startswith(begin) for (*_, line), (*_, begin) in zip(captured, wanted)], [True] * len(wanted), f"what they were: {captured}")
        marks = {(message[KIND], message[NODE], message[PASSWORD]) for message in self.collector.messages}
        equal((marks, self.collector.faults), ({(b"\x01", b"\0\0\0\7", HEP_PASSWORD.encode())}, []), "what each is marked with")

    def drain(self):
        """SIGTERM while a call runs: no new ones, this one goes on, exit code 0 when it ends."""
        server, equal = self.server, self.scenario.equal
        rtp = Rtp()
        call = self.phone.invite("+15553000", sdp("127.0.0.1", rtp.port)).accepted()
        rtp.remote = call.answer.media()
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: server.get("/readyz")[0] == 503, 2, "/readyz to say 503")
        equal(server.get("/livez")[0], 200, "/livez")
        refused = self.phone.invite("+15553000", sdp("127.0.0.1", 14300)).final()
        equal(refused.status, 503, "a new call")
        self.scenario.check(1 <= int(refused.header("retry-after")) <= 60, f"Retry-After: {refused.header('retry-after')!r}")
        equal(self.phone.exchange(self.phone.build("OPTIONS", "sip:dialtone")).status, 503, "OPTIONS")
        desk = Phone(SIP, "desk", USER_SECRET)
        equal(desk.register().status, 200, "REGISTER")
        desk.close()
        equal(call.reinvite(sdp("127.0.0.1", rtp.port, version=2)).status, 200, "re-INVITE of the running call")
        sent = noise(0.6, 4)
        rtp.play(ulaw_encode(sent))
        wait_for(lambda: correlation(sent[:4000], rtp.heard()) > 0.9, 2, "the running call's echo")
        equal(server.process.poll(), None, "the server")
        equal(call.bye().status, 200, "BYE")
        equal(server.process.wait(5), 0, "exit code")
        rtp.close()
        equal(server.rows("SELECT status FROM calls WHERE sip_call_id = ?", call.call_id), [("completed",)], "the record")

    def drain_timeout(self):
        """Calls that stay are ended by BYE with Reason; a second signal does the same at once."""
        for name, seconds, signals in (("drain_timeout", 1, 1), ("a second SIGTERM", 60, 2)):
            server = self.server
            server.write_config(config(drain=seconds))
            server.start()
            call = self.phone.invite("+15553000", sdp("127.0.0.1", 14300)).accepted()
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            wait_for(lambda: server.get("/readyz")[0] == 503, 2, "/readyz to say 503")
            if signals > 1:
                server.process.send_signal(signal.SIGTERM)
            bye = call.wait_bye(4)
            took = time.monotonic() - began
            self.scenario.check(bye.header("reason"), f"{name}: BYE without Reason")
            self.scenario.check(took < 2.5 and (signals > 1 or took > 0.9), f"{name}: BYE after {took:.2f} s")
            self.scenario.equal(server.process.wait(5), 0, f"{name}: exit code")
            rows = server.rows("SELECT status FROM calls WHERE sip_call_id = ?", call.call_id)
            self.scenario.equal(len(rows), 1, f"{name}: records")

    def secrets(self):
        """Nothing of a password or token in the log at its finest, on pages, or in the journal."""
        (self.scenario.folder / "secrets" / "data").mkdir(parents=True)
        (self.scenario.folder / "secrets" / "token").write_text(FILE_TOKEN + "\n")
        dial = number("+15553005", "<Dial timeout='5'><Number>+442071838750</Number></Dial>")
        carrier = trunk("out", uri=f"sip:127.0.0.1:{CARRIER}", username="us", password="${SCENARIO_TRUNK}", realm="carrier", numbers=["+15553000"])
        text = config(NUMBERS + dial + FROM + user("desk", USER_SECRET) + carrier).replace(AUTH_TOKEN, "file:token")
        server = Server(self.scenario, text, name="secrets", log_level="trace", log_format="json")
        server.start(environment={"SCENARIO_TRUNK": TRUNK_SECRET})
        desk = Phone(SIP, "desk", USER_SECRET)
        self.scenario.equal(desk.register().status, 200, "REGISTER")
        wrong = Phone(SIP, "desk", USER_SECRET + "x")
        self.scenario.equal(wrong.register().status, 401, "REGISTER with a wrong password")
        self.call_of(server, "+15553001", lambda call: self.application.wait(f"SipCallId={call.call_id}"))
        far = Phone(SIP, "carrier", local=("127.0.0.1", CARRIER))
        call = self.phone.invite("+15553005", sdp("127.0.0.1", 14300))
        incoming = far.wait_invite()
        incoming.respond(401, headers=['WWW-Authenticate: Digest realm="carrier", nonce="abc", algorithm=MD5, qop="auth"'])
        again = far.transport.wait(lambda m: m.method == "INVITE" and m.header("authorization"), 3, "the INVITE with credentials")
        self.scenario.check('username="us"' in again.header("authorization"), "credentials of the trunk")
        IncomingCall(far, again).respond(486)
        self.scenario.check(call.final(8).status in (200, 486, 603), "the caller's answer")
        if call.answer:
            call.ack()
            call.wait_bye()
        code, told = server.run("calls", "--config", "dialtone.toml")
        self.scenario.equal(code, 0, f"dialtone calls with secrets from elsewhere ({told})")
        page = server.get("/metrics")[1]
        answers = [value for value in re.findall(r'response="?([0-9a-f]{32,})', "".join(self.application.seen))]
        self.scenario.equal(server.stop(), 0, "exit code")
        log = server.log()
        self.scenario.check(log.count("\n") > 20 and '"level":"DEBUG"' in log or '"level":"TRACE"' in log, "the log is not at trace level")
        self.scenario.check(ACCOUNT in page and "+15553001" not in page, "the page of metrics")
        places = {"log": log, "metrics": page, "calls": told}
        for path in (self.scenario.folder / "secrets" / "data").rglob("*"):
            if path.is_file():
                places[path.name] = path.read_bytes().decode("latin-1")
        for secret in (FILE_TOKEN, USER_SECRET, TRUNK_SECRET, OPERATOR_TOKEN, again.header("authorization").split('response="')[1][:32]):
            for place, content in places.items():
                self.scenario.check(secret not in content, f"a secret ({secret[:6]}...) stands in {place}")
        for phone in (desk, wrong, far):
            phone.close()
        return f"{log.count(chr(10))} lines at trace level, {len(places)} places"

    def call_of(self, server, number, during):
        call = self.phone.invite(number, sdp("127.0.0.1", 14300))
        during(call)
        call.cancel()
        call.final()

    def crash(self):
        """kill -9 with a running call: after the restart one `failed` record of it, and nothing twice."""
        server = self.server
        server.write_config(config())
        server.start()
        done = [self.phone.invite("+15553000", sdp("127.0.0.1", 14300)).accepted() for _ in range(3)]
        for call in done:
            self.scenario.equal(call.bye().status, 200, "BYE")
        for call in done:
            server.ended(call.call_id)
        running = self.phone.invite("+15553000", sdp("127.0.0.1", 14300)).accepted()
        wait_for(lambda: len(server.live()) == 1, 3, "the live call")
        # What is killed earlier than the journal is synchronised is lost with the machine, not with the process.
        server.kill()
        server.start()
        record = server.ended(running.call_id)
        self.scenario.equal((record["status"], record["completed"]["ended_by"]), ("failed", "server"), "the call that ran")
        for call in done:
            self.scenario.equal(server.ended(call.call_id)["status"], "completed", "a call that was over")
        self.scenario.equal(running.bye().status, 481, "BYE of a call that is gone")
        server.kill()
        server.start()
        ids = [call.call_id for call in (*done, running)]
        listed = [call["sip_call_id"] for call in server.calls()]
        self.scenario.equal([listed.count(call_id) for call_id in ids], [1] * 4, "records of each call")
        self.scenario.equal(server.stop(), 0, "exit code")
        for call_id in ids:
            rows = server.rows("SELECT sid FROM calls WHERE sip_call_id = ?", call_id)
            self.scenario.equal(len(rows), 1, "rows of a call")
            self.scenario.equal(server.rows("SELECT count(*) FROM ledger WHERE call = ?", rows[0][0]), [(1,)], "ledger lines of a call")


MUST_HAVE = [
    "dialtone_build_info", "dialtone_node_state", "dialtone_sip_requests_total", "dialtone_sip_responses_total", "dialtone_sip_transactions",
    "dialtone_registrations", "dialtone_calls", "dialtone_calls_started_total", "dialtone_calls_ended_total", "dialtone_call_duration_seconds_bucket",
    "dialtone_usage_units_total", "dialtone_media_sessions", "dialtone_rtp_packets_total", "dialtone_rtp_bytes_total", "dialtone_store_up",
    "dialtone_store_backlog", "dialtone_store_operations_total",
]


def main():
    with Scenario(__file__) as scenario:
        operations = Operations(scenario)
        parts = [
            operations.check_configurations, operations.all_or_nothing, operations.start, operations.reload, operations.look, operations.metrics, operations.capture,
            operations.drain, operations.drain_timeout, operations.secrets, operations.crash,
        ]
        for part in parts:
            scenario.step(part.__name__.replace("_", " "), part)
        scenario.summary = f"{len(FAULTS)} faults named, reloaded, drained, crashed and looked at"


main()
