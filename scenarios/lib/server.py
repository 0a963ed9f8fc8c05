"""A server under test: the release binary with a configuration of its own."""

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import urllib.error
import urllib.request

from .scenario import tail, wait_for

ACCOUNT = "AC" + "0123456789abcdef" * 2
AUTH_TOKEN = "scenario-auth-token-5c1e"
OPERATOR_TOKEN = "scenario-operator-token-77aa"
# What a leg has a line of: recordings and texts have their own.
OF_LEGS = "category LIKE 'calls-%' AND category <> 'calls-recordings'"


def twiml(verbs):
    """A document, as the value of a TOML key."""
    return json.dumps(f"<Response>{verbs}</Response>")


def base_config(sip, http, rtp, private=True, sip_more="", http_more="", media_more="", more="", drain=5, workers=1):
    """The part that every configuration has; `sip` is one address or a list of listeners."""
    listen = sip if isinstance(sip, list) else [f"udp://{sip}", f"tcp://{sip}"]
    return f"""
[sip]
listen = {json.dumps(listen)}
realm = "dialtone"
{sip_more}
[http]
listen = "{http}"
allow_private_targets = {str(private).lower()}
operator_token = "{OPERATOR_TOKEN}"
{http_more}
[media]
ports = "{rtp}"
workers = {workers}
{media_more}

[store]
url = "sqlite://data/dialtone.db"

[server]
drain_timeout = {drain}

[[account]]
sid = "{ACCOUNT}"
auth_token = "{AUTH_TOKEN}"
name = "scenario"
{more}
"""


def number(text, verbs=None, **keys):
    """A `[[number]]`: inline verbs, or keys such as `voice_url`."""
    return _table("number", {"number": text} | ({"twiml": f"<Response>{verbs}</Response>"} if verbs else {}) | keys)


def user(name, password, **keys):
    return _table("user", {"username": name, "password": password} | keys)


def trunk(name, **keys):
    return _table("trunk", {"name": name} | keys)


def _table(kind, keys):
    lines = [f"{key} = {json.dumps(value)}" for key, value in ({"account": ACCOUNT} | keys).items()]
    return f"\n[[{kind}]]\n" + "\n".join(lines) + "\n"


class Server:
    """One server. `name` is its folder inside the scenario's; starting again continues with its data."""

    def __init__(self, scenario, config, name="server", log_level="info", log_format="pretty"):
        self.scenario = scenario
        self.folder = scenario.folder / name
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        self.config_file = self.folder / "dialtone.toml"
        self.log_file = self.folder / "server.log"
        self.logging = ["--log-level", log_level, "--log-format", log_format]
        self.process = None
        self.environment = dict(os.environ)
        self.write_config(config)
        scenario.on_failure(lambda: tail(self.log_file))

    def write_config(self, config):
        self.config = config
        self.config_file.write_text(config)
        self.http = re.search(r'\[http\]\nlisten = "([^"]+)"', config).group(1)

    def start(self, prefix=(), environment=None, arguments=(), **options):
        argv = [*prefix, self.scenario.dialtone, "serve", "--config", "dialtone.toml", *arguments, *self.logging]
        self.environment = os.environ | (environment or {})
        self.process = self.scenario.start(argv, log=self.log_file, cwd=self.folder, env=self.environment, **options)
        wait_for(self._answers, 10, "the server to be ready")
        return self

    def _answers(self):
        if self.process.poll() is not None:
            told = [line for line in self.log().splitlines() if " DEBUG " not in line]
            raise RuntimeError(f"the server ended with {self.process.returncode}: {' / '.join(told[-3:])}")
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def stop(self):
        """Drains; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        return self.scenario.end(self.process)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(5)
        self.scenario.end(self.process)

    def get(self, path, token=None, address=None):
        """Status and text of one request."""
        request = urllib.request.Request(f"http://{address or self.http}{path}")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def run(self, *arguments):
        """Runs a `dialtone` command beside the server: exit code and what it printed."""
        argv = [self.scenario.dialtone, *arguments]
        done = subprocess.run(argv, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL)
        return done.returncode, done.stdout + done.stderr

    def calls(self, limit=1000):
        """What `dialtone calls --json` tells, the newest first."""
        code, text = self.run("calls", "--config", "dialtone.toml", "--limit", str(limit), "--json")
        if code:
            raise RuntimeError(text)
        return json.loads(text)["calls"]

    def call(self, sid):
        """What `dialtone call SID --json` tells."""
        code, text = self.run("call", sid, "--config", "dialtone.toml", "--json")
        if code:
            raise RuntimeError(text)
        return json.loads(text)

    def workers(self, state=None):
        """What `dialtone workers --json` tells, of those in that state or of all."""
        code, text = self.run("workers", "--config", "dialtone.toml", "--json")
        if code:
            raise RuntimeError(text)
        return [worker for worker in json.loads(text)["workers"] if state in (None, worker["state"])]

    def ended(self, find, seconds=5):
        """The one call that `find` accepts, once it is over. `find` is a function of a call, or a SIP Call-ID."""
        wanted = find if callable(find) else lambda call: call["sip_call_id"] == find

        def look():
            found = [call for call in self.calls() if wanted(call)]
            return found and all(call["ended_ms"] for call in found) and found

        found = wait_for(look, seconds, "a call to end", every=0.05)
        self.scenario.equal(len(found), 1, "calls found")
        return self.call(found[0]["sid"])

    def live(self):
        return [call for call in self.calls() if not call["ended_ms"]]

    def metric(self, name, **labels):
        """The sum of a metric's series that have these labels; `KeyError` where the page does not have the metric at all."""
        found = []
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith("#") or not line.startswith(name):
                continue
            series, value = line.rsplit(" ", 1)
            known = dict(re.findall(r'(\w+)="([^"]*)"', series))
            if series.split("{")[0] == name:
                found.append(float(value) if labels.items() <= known.items() else 0.0)
        if not found:
            raise KeyError(f"/metrics has no {name}")
        return sum(found)

    def at_most(self, share, name):
        """The bound of a histogram's bucket that this share of what was measured does not pass."""
        bounds = re.findall(rf'^{name}_bucket{{[^}}]*le="([^"]+)"}} (\d+)', self.get("/metrics")[1], re.MULTILINE)
        counts = [(float(bound), int(count)) for bound, count in bounds]
        return min(bound for bound, count in counts if count >= share * max(count for _, count in counts) > 0)

    def wait_metric(self, wanted, name, seconds=7, **labels):
        """Waits until the metric is on the page and has this value; gauges are brought up to date every 5 s."""

        def look():
            try:
                return self.metric(name, **labels) == wanted
            except KeyError:
                return False

        wait_for(look, seconds, f"{name} to be {wanted:g}", every=0.05)

    def legs_with_ports(self):
        """How many legs have a media port, as the server says every 5 s. One that is free again may be open still, for its
        next leg."""
        pairs = len(range(self.media_range[0] + self.media_range[0] % 2, self.media_range[1], 2))
        return round(self.metric("dialtone_media_capacity_ratio") * pairs)

    @property
    def media_range(self):
        return tuple(map(int, re.search(r'ports = "(\d+)-(\d+)"', self.config).groups()))

    def media_ports(self):
        """UDP ports of the media range that the server has open."""
        first, last = self.media_range
        mine = set()
        for entry in os.scandir(f"/proc/{self.process.pid}/fd"):
            try:
                mine.add(os.readlink(entry.path))
            except OSError:
                continue
        ports = []
        for table in ("/proc/net/udp", "/proc/net/udp6"):
            for line in open(table).readlines()[1:]:
                fields = line.split()
                port = int(fields[1].rsplit(":", 1)[1], 16)
                if first <= port <= last and f"socket:[{fields[9]}]" in mine:
                    ports.append(port)
        return ports

    def rows(self, sql, *arguments):
        """Rows of the database, as they are on disk."""
        # One that is left to the garbage collector keeps the database in use, also for a `dialtone restore`.
        with contextlib.closing(sqlite3.connect(f"file:{self.folder}/data/dialtone.db?mode=ro", uri=True)) as database:
            return database.execute(sql, arguments).fetchall()

    def written(self, sids, seconds=6):
        """Waits until every call has its CDR, and checks that each has one ledger line too."""
        marks = ",".join("?" * len(sids))
        count = f"SELECT count(*) FROM calls WHERE sid IN ({marks})"
        wait_for(lambda: self.rows(count, *sids)[0][0] == len(sids), seconds, "the CDRs to be written", every=0.05)
        lines = self.rows(f"SELECT count(*), count(DISTINCT call) FROM ledger WHERE {OF_LEGS} AND call IN ({marks})", *sids)[0]
        self.scenario.equal(lines, (len(sids), len(sids)), "ledger lines, and calls that have one")

    def kept(self, kind, sids, seconds=6):
        """Waits until the store has these recordings, conferences or messages."""
        count = f"SELECT count(*) FROM records WHERE kind = ? AND sid IN ({','.join('?' * len(sids))})"
        wait_for(lambda: self.rows(count, kind, *sids)[0][0] == len(sids), seconds, f"{kind}s to be written", every=0.05)

    def log(self):
        return self.log_file.read_text(errors="replace")

    def cpu_seconds(self):
        """Of the keeper, the edge and the workers."""
        children = open(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read().split()
        seconds = 0
        for pid in [self.process.pid, *children]:
            fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
            seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return seconds


class Dev(Server):
    """`dialtone dev` in an empty folder; `greeting` is what it says of itself."""

    def __init__(self, scenario, sip, http, rtp, app="http://127.0.0.1:3000/voice"):
        super().__init__(scenario, f'[http]\nlisten = "{http}"\n', name="dev")
        self.config_file.unlink()
        out = open(self.folder / "greeting", "wb")
        argv = [scenario.dialtone, "dev", "--sip", ":".join(map(str, sip)), "--http", http, "--rtp", rtp, "--app", app, "--json"]
        self.process = scenario.start(argv, cwd=self.folder, stdout=out, stderr=open(self.log_file, "wb"))
        wait_for(self._answers, 10, "dev to be ready")
        wait_for(lambda: (self.folder / "greeting").read_text().endswith("\n"), 2, "the greeting")
        self.greeting = json.loads((self.folder / "greeting").read_text())
