"""Two machines with an edge and two workers each, and calls on all of them, while one thing after another dies or is cut off."""

import collections
import http.server
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import requests
from crowd import Crowd

from lib import rtp
from lib.baresip import Baresip
from lib.edges import Edge, Stores, child
from lib.scenario import Scenario, wait_for
from lib.server import ACCOUNT, AUTH_TOKEN, number, trunk, user

LEFT, RIGHT, APP = "10.77.0.1", "10.77.0.2", 18095
ECHO, MUSIC, ROOMS = "+15556000000", "+15556000001", [f"+1555600001{digit}" for digit in range(8)]
TOLD = {"status_callback": f"http://{LEFT}:{APP}/told"}
SOFTPHONES = ("desk", "mobile")
NUMBERS = (
    "".join(user(name, f"secret-of-{name}") for name in SOFTPHONES)
    + trunk("phones", **{"from": ["10.77.0.0/24"]})
    + number(ECHO, "<Echo/>", **TOLD)
    + number(MUSIC, '<Play loop="0">dialtone:hold-music</Play>', **TOLD)
    + "".join(number(room, f'<Dial><Conference beep="false">room {room}</Conference></Dial>', **TOLD) for room in ROOMS)
)


def run(*argv):
    return subprocess.run([str(part) for part in argv], check=True, capture_output=True, text=True).stdout


def forward(port, to):
    """What the other machine reaches of the stores on loopback: a way that is cut with its network."""

    def carry(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def serve():
        while True:
            here, _ = listener.accept()
            try:
                there = socket.create_connection(("127.0.0.1", to))
            except OSError:
                here.close()
                continue
            for pair in ((here, there), (there, here)):
                threading.Thread(target=carry, args=pair, daemon=True).start()

    listener = socket.create_server((LEFT, port))
    threading.Thread(target=serve, daemon=True).start()


class Application(http.server.ThreadingHTTPServer):
    """Is told of calls."""

    def __init__(self):
        self.told = []
        super().__init__((LEFT, APP), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        self.server.told.append((form["CallSid"], form["CallStatus"], self.headers["I-Twilio-Idempotency-Token"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


class Chaos:
    def __init__(self, scenario):
        self.scenario, self.rows, self.softphones = scenario, [], []

    def start(self):
        """The other machine is a network of its own, with a cable in between."""
        run("ip", "link", "set", "lo", "up")
        # Names of networks are kept in a folder: one that nobody else sees.
        run("mount", "-t", "tmpfs", "none", "/run")
        run("ip", "netns", "add", "other")
        run("ip", "link", "add", "here", "type", "veth", "peer", "name", "there", "netns", "other")
        for where, what, address in (((), "here", LEFT), (("ip", "netns", "exec", "other"), "there", RIGHT)):
            run(*where, "ip", "address", "add", f"{address}/24", "dev", what)
            run(*where, "ip", "link", "set", what, "up")
        run("ip", "netns", "exec", "other", "ip", "link", "set", "lo", "up")
        self.stores = Stores(self.scenario)
        ports = {name: int(url.rsplit(":", 1)[1].split("/")[0]) for name, url in (("postgres", self.stores.postgres), ("redis", self.stores.redis))}
        for port in ports.values():
            forward(port, port)
        self.stores.postgres, self.stores.redis = (url.replace("127.0.0.1", LEFT) for url in (self.stores.postgres, self.stores.redis))
        self.app = Application()
        edge = lambda name, host, **more: Edge(self.scenario, name, 18100, self.stores, NUMBERS, host=host, workers=2, span=2000, sip_more='digest = ["MD5"]\n', **more)
        self.left = edge("left", LEFT)
        self.left.run("cluster", "init", "--dir", "cluster")
        token = self.left.run("cluster", "join-token", "--dir", "cluster")[1].strip()
        self.left.start()
        self.right = edge("right", RIGHT, token=token, join=self.left.cluster, prefix=("ip", "netns", "exec", "other")).start()
        for edge in (self.left, self.right):
            wait_for(lambda: len(edge.workers("active")) == 4 and len(edge.workers("standby")) == 2, 8, "the workers of both machines")

    def begin(self, calls):
        """A tenth of them in conferences of four, a fifth with music, the others hear themselves."""
        self.crowd, self.calls = Crowd(LEFT), calls
        for index in range(calls):
            edge = (self.left, self.right)[index % 2]
            kind, called = ("echo", ECHO) if index % 10 < 7 else ("music", MUSIC) if index % 10 < 9 else ("room", ROOMS[index // 40])
            self.crowd.call(edge, kind, called)
        wait_for(lambda: len(self.crowd.talking()) == calls, 8, "everybody to hear something")
        if self.scenario.long:
            self.softphones = [
                Baresip(self.scenario, name, f"{edge.sip[0]}:{edge.sip[1]}", name, f"secret-of-{name}", 17000 + 4 * at, 17100 + at, (17200 + 20 * at, 17219 + 20 * at), rtp.noise(2, 90 + at) * 300, host=LEFT)
                for at, (name, edge) in enumerate(zip(SOFTPHONES, (self.left, self.right)))
            ]
            for phone in self.softphones:
                phone.says("200 OK")
                phone.dial(ECHO)
                phone.says("established")

    def event(self, name, befall, seconds):
        """What befalls, and what everybody heard of it until so many seconds later."""
        before = len(self.crowd.talking())
        at = time.monotonic()
        befall()
        time.sleep(max(0.0, at + seconds - time.monotonic()))
        until = time.monotonic() - 0.1
        kept = [caller for caller in self.crowd.callers if not caller.is_over]
        gaps = sorted(caller.largest_gap(at - 0.02, until) * 1000 for caller in kept)
        share = lambda part: gaps[min(len(gaps) - 1, int(len(gaps) * part))]
        kinds = {kind: max((caller.largest_gap(at - 0.02, until) * 1000 for caller in kept if caller.kind == kind), default=0) for kind in ("echo", "music", "room")}
        self.rows.append((name, f"{len(self.crowd.talking())} of {before}", *(f"{share(part):.0f}" for part in (0.5, 0.95, 0.99)), *(f"{gap:.0f}" for gap in kinds.values())))
        self.scenario.equal(len(self.crowd.talking()), self.calls, f"calls that hear something after {name}")

    def kill(self, edge, part):
        pid = child(edge, part)
        os.kill(pid, signal.SIGKILL)
        return pid

    def is_ready(self, edge):
        try:
            return edge.get("/readyz")[0] == 200
        except OSError:
            return False

    def stand_still(self, seconds):
        pid = child(self.right, "edge")
        os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(pid, signal.SIGCONT)
        wait_for(lambda: child(self.right, "edge") not in (None, pid) and self.is_ready(self.right), 10, "the edge to be back")

    def empty_redis(self, seconds):
        port = self.stores.redis.rsplit(":", 1)[1]
        self.stores.run("redis", "stop")
        time.sleep(seconds)
        self.stores.run("redis", "start", port)

    def cut(self, seconds):
        """The other machine is cut off: from this one, its edge and workers, from the stores and from the callers."""
        run("ip", "link", "set", "here", "down")
        time.sleep(seconds)
        run("ip", "link", "set", "here", "up")
        wait_for(lambda: self.is_ready(self.right), 20, "the machine to be back")

    def lose_machine(self):
        self.left.kill()
        time.sleep(5)
        self.left.start()

    def settle(self):
        for edge in (self.left, self.right):
            wait_for(lambda: len(edge.workers("active")) == 4 and len(edge.workers("standby")) == 2, 15, "all workers to be there again")
        time.sleep(1.5)

    def end(self):
        """Each call has one end everywhere, and nothing of it is left."""
        equal = self.scenario.equal
        for phone in self.softphones:
            last = phone.heard()[-8000:]
            self.scenario.check(sum(map(abs, last)) / len(last) > 500, f"{phone.name} hears itself still")
            phone.hang_up()
        equal(self.crowd.hang_up(), self.calls, "calls that ended as their callers wanted")
        self.calls += len(self.softphones)
        wait_for(lambda: not self.left.live(), 10, "the calls to end")
        self.crowd.close()
        made = self.left.calls()
        equal(collections.Counter(call["status"] for call in made), {"completed": self.calls}, "how they ended")
        told = lambda: {sid for sid, status, _ in self.app.told if status == "completed"}
        wait_for(lambda: len(told()) >= self.calls, 10, "the application to be told of every end")
        equal(told(), {call["sid"] for call in made}, "calls whose end was told")
        tokens = collections.Counter((sid, status) for sid, status, _ in self.app.told)
        repeated = sum(tokens.values()) - len(tokens)
        for sid, status in tokens:
            equal(len({token for one, state, token in self.app.told if (one, state) == (sid, status)}), 1, f"idempotency tokens of {sid}")
        url = f"http://{self.left.http}/2010-04-01/Accounts/{ACCOUNT}/Usage/Records.json?Category=calls-inbound"
        used = lambda: int(requests.get(url, auth=(ACCOUNT, AUTH_TOKEN), timeout=5).json()["usage_records"][0]["count"])
        wait_for(lambda: used() >= self.calls, 5, "the ledger to have the calls")
        equal(used(), self.calls, "lines in the ledger")
        port = self.stores.redis.rsplit(":", 1)[1]
        ask = lambda *what: run("redis-cli", "-p", port, *what).split()
        wait_for(lambda: not ask("keys", "{dialtone}:states:*") and not ask("hkeys", "{dialtone}:claims"), 10, "the shared store to have nothing of any call")
        owners = lambda: ask("hvals", "{dialtone}:slots")
        wait_for(lambda: len(owners()) == len(set(owners())) == 2, 5, f"each edge to have one slot: {owners()}")
        return f"callbacks: 0 lost, {repeated} repeated; CDRs and ledger lines: {self.calls} of {self.calls}, none twice; nothing is left in the shared store"

    def table(self):
        names = ("event", "calls that go on", "gap p50", "p95", "p99", "echo max", "music max", "room max")
        widths = [max(len(row[column]) for row in (names, *self.rows)) for column in range(len(names))]
        for row in (names, *self.rows):
            print("  " + "  ".join(cell.ljust(width) if index < 2 else cell.rjust(width) for index, (cell, width) in enumerate(zip(row, widths))), flush=True)


def main():
    with Scenario(__file__) as scenario:
        chaos = Chaos(scenario)
        calls = int(os.environ.get("CHAOS_CALLS", 100 if scenario.long else 20))
        step = lambda name, *arguments: scenario.step(name, chaos.event, name, *arguments)
        scenario.step("start", chaos.start)
        scenario.step("begin", chaos.begin, calls)
        step("nothing", lambda: None, 6 if scenario.long else 2)
        if scenario.long:
            for edge in (chaos.left, chaos.right):
                for _ in range(2):
                    step(f"kill -9 of a worker of {edge.folder.name}", lambda: chaos.kill(edge, "worker"), 6)
                    scenario.step("settle", chaos.settle)
            for edge in (chaos.left, chaos.right):
                step(f"kill -9 of the edge of {edge.folder.name}", lambda: chaos.kill(edge, "edge"), 6)
                scenario.step("settle", chaos.settle)
            step("Redis away for 5 s, and back empty", lambda: chaos.empty_redis(5), 10)
            step("SIGSTOP of an edge for 8 s", lambda: chaos.stand_still(8), 14)
            scenario.step("settle", chaos.settle)
            step("a machine lost, and back", chaos.lose_machine, 16)
            scenario.step("settle", chaos.settle)
            step("a machine cut off for 30 s", lambda: chaos.cut(30), 45)
            scenario.step("settle", chaos.settle)
            step("nothing, again", lambda: None, 6)
        else:
            step("kill -9 of a worker", lambda: chaos.kill(chaos.left, "worker"), 2)
            step("kill -9 of an edge", lambda: chaos.kill(chaos.right, "edge"), 3)
        scenario.step("end", chaos.end)
        chaos.table()
        scenario.summary = f"{calls} calls, {len(chaos.rows)} events"


if __name__ == "__main__":
    main()
