"""Two edges are one: a phone may speak with either, and when one machine is lost the other has its calls."""

import os
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lib.leg import Leg
from lib.scenario import Scenario, tail, wait_for
from lib.sip import sdp
from lib.server import Server, base_config, number, trunk, user

HERE = pathlib.Path(__file__).resolve().parent
TESTS = HERE.parent.parent / "tests"
ECHO = "+15556000000"


class Edge(Server):
    """One of the edges: a machine of its own, as far as processes go."""

    def __init__(self, scenario, name, base, postgres, redis, token=None, join=None):
        self.sip, self.cluster = ("127.0.0.1", base), f"127.0.0.1:{base + 1}"
        more = trunk("phones", **{"from": ["127.0.0.1"]}) + user("bob", "secret-of-bob") + number(ECHO, "<Echo/>")
        config = base_config(f"127.0.0.1:{base}", f"127.0.0.1:{base + 2}", f"{base + 20}-{base + 139}", more=more)
        config = config.replace('url = "sqlite://data/dialtone.db"', f'url = "{postgres}"\nhot = "{redis}"\nfolder = "data"')
        config += f'\n[cluster]\nlisten = "{self.cluster}"\n' + ("" if join else 'dir = "cluster"\n')
        super().__init__(scenario, config, name)
        self.arguments = ["--name", name] + (["--role", "edge", "--join", join] if join else [])
        self.token = {"DIALTONE_JOIN_TOKEN": token} if token else {}

    def start(self):
        return super().start(environment=self.token, arguments=self.arguments)

    def children(self, part):
        pids = open(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read().split()
        of = lambda pid: open(f"/proc/{pid}/environ").read().split("DIALTONE_PROCESS=")[1].split("\0")[0]
        return [int(pid) for pid in pids if of(pid).startswith(part)]


class Edges:
    def __init__(self, scenario):
        self.scenario = scenario

    def start(self):
        """Each edge has workers of its own, and both edges have all of them."""
        postgres, redis = (self.scenario.folder / name for name in ("postgres", "redis"))
        run = lambda *argv: subprocess.run([str(part) for part in argv], check=True, capture_output=True, text=True).stdout.strip()
        self.scenario.folder.chmod(0o755)
        self.postgres = run(TESTS / "postgres", "start", postgres)
        self.scenario.at_end(lambda: run(TESTS / "postgres", "stop", postgres))
        self.redis = run(TESTS / "redis", "start", redis)
        self.scenario.at_end(lambda: run(TESTS / "redis", "stop", redis))
        self.left = Edge(self.scenario, "left", 15800, self.postgres, self.redis)
        code, told = self.left.run("cluster", "init", "--dir", "cluster")
        self.scenario.equal(code, 0, told)
        code, token = self.left.run("cluster", "join-token", "--dir", "cluster")
        self.scenario.equal(code, 0, token)
        self.left.start()
        self.right = Edge(self.scenario, "right", 15950, self.postgres, self.redis, token.strip(), self.left.cluster).start()
        for edge in (self.left, self.right):
            wait_for(lambda: len(edge.workers("active")) == 2 and len(edge.workers("standby")) == 2, 6, "the workers of both machines")

    def handed_on(self):
        """What comes to the edge that does not have the call is handed on to the one that has it."""
        caller = Leg(self.left.sip, ECHO)
        sid = wait_for(self.left.live, 2, "the call")[0]["sid"]
        caller.phone.transport.server = self.right.sip
        answer = caller.call.reinvite(sdp(caller.media.host, caller.media.port, version=2))
        self.scenario.equal(answer.status, 200, "a new offer by way of the other edge")
        time.sleep(0.3)
        self.scenario.equal(caller.call.bye().status, 200, "BYE by way of the other edge")
        caller.stop()
        wait_for(lambda: not self.left.live(), 2, "the call to end")
        self.scenario.equal(self.left.call(sid)["status"], "completed", "how it ended")

    def lost(self, legs=10):
        """A machine with an edge and workers is lost: the other edge goes on with its calls."""
        equal, check = self.scenario.equal, self.scenario.check
        callers = [Leg(self.left.sip, ECHO) for _ in range(legs)]
        others = [Leg(self.right.sip, ECHO) for _ in range(2)]
        sids = [call["sid"] for call in wait_for(lambda: len(self.left.live()) == legs and self.left.live(), 2, "the calls")]
        time.sleep(1.5)
        at = time.monotonic()
        self.left.kill()
        moved = []
        for caller in callers:
            caller.phone.transport.server = self.right.sip
        for caller in callers:
            before = caller.media.remote
            check(caller.reinvited(8) is not None, "each is told where its call is now")
            moved.append(caller.media.remote != before)
        back = time.monotonic() - at
        time.sleep(1)
        now = time.monotonic()
        check(all(caller.media.packets[-1].at > now - 0.3 for caller in callers), "everybody hears still")
        stayed = [caller.gaps(at - 0.02, now)[0] for caller, has_moved in zip(callers, moved) if not has_moved]
        gone = [caller.gaps(at - 0.02, now)[0] for caller, has_moved in zip(callers, moved) if has_moved]
        check(max(stayed, default=0) < 0.2, f"gaps of those whose worker lives: {stayed}")
        for caller in callers + others:
            equal(caller.call.bye().status, 200, "BYE at the edge that is left")
            caller.stop()
        wait_for(lambda: not self.right.live(), 5, "the calls to end")
        equal({call["status"] for call in self.right.calls() if call["sid"] in sids}, {"completed"}, "how they ended")
        self.summary = f"{legs} calls of a lost edge go on after {back:.1f} s; largest gap {max(stayed, default=0) * 1000:.0f} ms where the worker lives, {max(gone, default=0) * 1000:.0f} ms where it does not"
        return self.summary


def main():
    with Scenario(__file__) as scenario:
        edges = Edges(scenario)
        scenario.step("start", edges.start)
        scenario.step("handed_on", edges.handed_on)
        scenario.step("lost", edges.lost)
        scenario.summary = getattr(edges, "summary", "")


if __name__ == "__main__":
    main()
