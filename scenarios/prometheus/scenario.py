"""A Prometheus scrapes a server under calls: every rule, alert and panel that is shipped has data."""

import base64
import json
import pathlib
import re
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lib.document import Document
from lib.leg import Leg
from lib.scenario import Scenario, wait_for
from lib.server import ACCOUNT, AUTH_TOKEN, OPERATOR_TOKEN, Server, base_config, number, trunk, user
from lib.sip import Phone, sdp

SIP, HTTP, APP, FAR, PROMETHEUS = ("127.0.0.1", 18060), "127.0.0.1:18040", 18030, ("127.0.0.1", 18069), "127.0.0.1:18090"
ECHO, DIALLED, OTHER = "+15557000001", "+15557000002", "AC" + "6" * 32
SHIPPED = pathlib.Path(__file__).resolve().parent.parent.parent / "deploy/prometheus"
MOST_SERIES = 3000

CONFIG = base_config(
    f"{SIP[0]}:{SIP[1]}",
    HTTP,
    "18100-18399",
    more=trunk("phones", **{"from": ["127.0.0.1"]})
    + trunk("carrier", uri=f"sip:{FAR[0]}:{FAR[1]}", numbers=[ECHO], prefixes=["+1999"])
    + number(ECHO, "<Echo/>")
    + number(DIALLED, voice_url=f"http://127.0.0.1:{APP}/voice")
    + user("desk", "of-the-desk")
    + f'\n[[account]]\nsid = "{OTHER}"\nauth_token = "of-the-other"\n',
).replace('name = "scenario"', 'name = "scenario"\nlimits = { calls = 4 }')

RULES = f"""
global:
  scrape_interval: 500ms
  evaluation_interval: 500ms
rule_files: [rules.yml]
scrape_configs:
- job_name: dialtone
  static_configs:
  - targets: ["{HTTP}"]
- job_name: customer
  metrics_path: /2010-04-01/Accounts/{ACCOUNT}/metrics
  basic_auth: {{username: "{ACCOUNT}", password: "{AUTH_TOKEN}"}}
  static_configs:
  - targets: ["{HTTP}"]
"""


class Carrier(threading.Thread):
    """Whoever is called answers."""

    def __init__(self):
        super().__init__(daemon=True)
        self.phone = Phone(SIP, "far", local=FAR)

    def run(self):
        while True:
            try:
                incoming = self.phone.wait_invite(1)
            except Exception:
                continue
            incoming.respond(180)
            incoming.accept(sdp("127.0.0.1", 18998))


class Watched:
    def __init__(self, scenario):
        self.scenario = scenario

    def start(self):
        Document(APP, "<Response><Dial><Number>+19995550001</Number></Dial></Response>")
        Carrier().start()
        self.server = Server(self.scenario, CONFIG).start()
        (self.scenario.folder / "prometheus.yml").write_text(RULES)
        # As they are shipped, but looked at more often.
        rules = (SHIPPED / "rules.yml").read_text()
        (self.scenario.folder / "rules.yml").write_text(rules.replace("interval: 30s", "interval: 500ms"))
        argv = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb", f"--web.listen-address={PROMETHEUS}"]
        self.scenario.start(argv, log="prometheus.log")
        wait_for(self.is_ready, 10, "Prometheus")
        # A counter has grown only where it was seen before.
        wait_for(lambda: self.values("up == 1"), 10, "Prometheus to have looked at the server")

    @staticmethod
    def is_ready():
        try:
            return urllib.request.urlopen(f"http://{PROMETHEUS}/-/ready", timeout=1).status == 200
        except OSError:
            return False

    def ask(self, path, **query):
        with urllib.request.urlopen(f"http://{PROMETHEUS}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=5) as answer:
            return json.load(answer)["data"]

    def values(self, expression):
        """By labels; what is no number is not there."""
        found = self.ask("query", query=expression)["result"]
        return {json.dumps(one["metric"], sort_keys=True): float(one["value"][1]) for one in found if one["value"][1] != "NaN"}

    def calls(self):
        """Calls that talk, calls that are dialled on, and one that finds no room."""
        desk = Phone(SIP, "desk", "of-the-desk")
        self.scenario.equal(desk.register().status, 200, "REGISTER")
        until = time.monotonic() + 6
        refused = 0
        while time.monotonic() < until:
            legs = [Leg(SIP, ECHO) for _ in range(2)]
            phone = Phone(SIP, "+15556100002")
            dialled = phone.invite(DIALLED, sdp("127.0.0.1", 18996)).accepted()
            time.sleep(1)
            crowd = [Phone(SIP, f"+1555610001{digit}") for digit in range(3)]
            for one in crowd:
                call = one.invite(ECHO, sdp("127.0.0.1", 18996))
                if call.final().status == 503:
                    refused += 1
                else:
                    call.ack()
                    call.bye()
                one.close()
            for leg in legs:
                leg.end()
            dialled.bye()
        self.scenario.check(refused > 0, "nobody was refused")
        # One stays, so that gauges have something to tell.
        self.talker = Leg(SIP, ECHO)
        time.sleep(0.7)

    def rules(self):
        """Each rule that records has data, no alert fires, and each has a test by which it does."""
        equal, check = self.scenario.equal, self.scenario.check
        tested = subprocess.run(["promtool", "test", "rules", SHIPPED / "rules_test.yml"], capture_output=True, text=True)
        equal(tested.returncode, 0, tested.stdout + tested.stderr)
        text = (SHIPPED / "rules.yml").read_text()
        alerts, tests = set(re.findall(r"alert: (\w+)", text)), set(re.findall(r"alertname: (\w+)", (SHIPPED / "rules_test.yml").read_text()))
        equal(alerts - tests, set(), "alerts without a test")
        records = re.findall(r"record: (\S+)", text)
        missing = lambda: [name for name in records if not self.values(name)]
        wait_for(lambda: not missing(), 10, f"rules to have data: {missing()}")
        loaded = [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]
        equal({rule["name"] for rule in loaded if rule["type"] == "alerting"}, alerts, "alerts that Prometheus knows")
        equal([(rule["name"], rule.get("lastError")) for rule in loaded if rule["health"] not in ("ok", "unknown")], [], "rules that fail")
        equal([alert["labels"]["alertname"] for alert in self.ask("alerts")["alerts"] if alert["state"] == "firing" and alert["labels"]["alertname"] != "AccountNearConcurrencyLimit"], [], "alerts of a server that is well")
        # What an alert is about is there, by the labels that it names.
        expressions = re.findall(r"expr: (.*)", text)
        names = {name for expression in expressions for name in re.findall(r"\bdialtone_\w+", expression)}
        rare = {"dialtone_calls_recovered_total", "dialtone_callbacks_lost_total", "dialtone_rtp_packets_lost_total"}
        page = self.server.get("/metrics")[1]
        equal({name for name in names - rare if not re.search(rf"^{name}[{{ ]", page, re.M)}, set(), "metrics of rules that the server does not have")
        source = "".join(path.read_text() for path in (SHIPPED.parent.parent / "src").rglob("*.rs"))
        equal({name for name in rare if name not in source}, set(), "metrics of rules that nobody counts")
        return f"{len(records)} rules and {len(alerts)} alerts"

    def dashboard(self):
        """Each panel has data."""
        panels = json.loads((SHIPPED / "dashboard.json").read_text())["panels"]
        expressions = [target["expr"] for panel in panels for target in panel.get("targets", [])]
        filled = [expression.replace("$account", ".*").replace("$__rate_interval", "1m") for expression in expressions]
        empty = lambda: [expression for expression in filled if not self.values(expression)]
        wait_for(lambda: not empty(), 10, f"panels to have data: {empty()}")
        return f"{len(filled)} expressions"

    def customer(self):
        """Scrapes itself with its own credentials, and nobody else."""
        equal, check = self.scenario.equal, self.scenario.check
        own = self.values('sum by (account) (dialtone_calls_started_total{job="customer"})')
        equal(list(own), [json.dumps({"account": ACCOUNT})], "accounts that the customer sees")
        check(list(own.values())[0] >= 5, f"calls that it has made: {own}")
        status, text = self.server.get(f"/2010-04-01/Accounts/{ACCOUNT}/metrics")
        equal((status, "account=" in text), (401, False), "without credentials")
        request = urllib.request.Request(f"http://{HTTP}/2010-04-01/Accounts/{ACCOUNT}/metrics")
        request.add_header("Authorization", "Basic " + base64.b64encode(f"{OTHER}:of-the-other".encode()).decode())
        try:
            urllib.request.urlopen(request, timeout=5)
            self.scenario.check(False, "another account saw the page")
        except urllib.error.HTTPError as error:
            equal(error.code, 404, "with another account's credentials")
        page = self.server.get("/metrics/accounts?top=1", OPERATOR_TOKEN)[1]
        equal(set(re.findall(r'account="(\w+)"', page)), {ACCOUNT}, "the busiest account")

    def page(self):
        """promtool takes it, and it is small."""
        page = self.server.get("/metrics")[1]
        told = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True)
        self.scenario.equal((told.returncode, told.stdout + told.stderr), (0, ""), "promtool check metrics")
        count = sum(bool(line) and not line.startswith("#") for line in page.splitlines())
        self.scenario.check(count < MOST_SERIES, f"{count} series")
        self.talker.end()
        return f"{count} series"


def main():
    with Scenario(__file__) as scenario:
        watched = Watched(scenario)
        scenario.steps(watched.start, watched.calls)
        figures = scenario.steps(watched.rules, watched.dashboard, watched.customer, watched.page)
        scenario.summary = ", ".join(figure for figure in figures if figure)


if __name__ == "__main__":
    main()
