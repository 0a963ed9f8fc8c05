"""The long form: streams of a hundred accounts at one server, and one that is killed again and again."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import requests
from accounts import CROWD, HTTP, MANY, SIP, STEPS, TOKEN, Caller, broken, by_call, contiguous, own, steps_of, token
from alone import OneServer
from listeners import Follower

from lib.edges import child
from lib.scenario import Failed, wait_for

STREAMS, SECONDS, CALLS_A_SECOND, HOLD = 10_000, int(os.environ.get("STREAM_SECONDS", 60)), 10, 0.3
KILLS = 10
# Seconds that a fact takes at most to be written, of a call that goes on meanwhile.
MOMENT = 0.2
# Nobody calls this one: its streams hear that they are open still.
QUIET = MANY[-1]


class Rash(threading.Thread):
    """Calls without pause, whatever becomes of it. `over`: its calls that it has hung up, and when."""

    def __init__(self, scenario, at):
        super().__init__(daemon=True)
        (host, self.called), self.is_running, self.over = own(at), True, []
        self.caller = Caller(scenario, SIP, host)
        self.start()

    def run(self):
        while self.is_running:
            try:
                call = self.caller.ring(self.called).accepted(1)
                time.sleep(random.uniform(0, 0.1))
                if self.caller.phone.exchange(call.make("BYE"), 1).status == 200:
                    self.over.append((call.call_id, time.monotonic()))
            except Failed:
                time.sleep(0.05)
        self.caller.close()


class ManyStreams(OneServer):
    def __init__(self, scenario):
        super().__init__(scenario, MANY)

    def killed_often(self):
        """EV-08: each event once and in order, and each call whole, however often the server or its edge is killed amid calls."""
        equal, server = self.scenario.equal, self.server
        followers = {sid: Follower([HTTP], token(sid, TOKEN)) for sid in CROWD}
        callers = [Rash(self.scenario, at) for at in range(len(CROWD))]
        kills = []
        for turn in range(KILLS):
            time.sleep(random.uniform(0.5, 2))
            kills.append(time.monotonic())
            if turn % 2:
                edge = child(server, "edge")
                os.kill(edge, signal.SIGKILL)
                wait_for(lambda: child(server, "edge") not in (None, edge) and self.is_ready(), 20, "another edge")
            else:
                server.kill()
                server.start()
        time.sleep(1)
        for caller in callers:
            caller.is_running = False
        for caller in callers:
            caller.join(5)
        # Of those that could not hang up then.
        for sid in CROWD:
            calls = f"http://{HTTP}/2010-04-01/Accounts/{sid}/Calls"
            for call in requests.get(f"{calls}.json?Status=in-progress&PageSize=1000", auth=(sid, TOKEN), timeout=5).json()["calls"]:
                requests.post(f"{calls}/{call['sid']}.json", data={"Status": "completed"}, auth=(sid, TOKEN), timeout=5)
        is_over = lambda follower: all("call.completed" in steps_of(told) for told in by_call(follower.events).values())
        wait_for(lambda: not server.live() and all(map(is_over, followers.values())), 20, "the calls to be over", every=0.5)
        # Until they are in the database.
        time.sleep(3)
        told, events = set(), 0
        for sid, follower in followers.items():
            here = follower.events
            contiguous(self.scenario, follower.numbers, 1)
            equal(len({event["id"] for event in here}), len(here), "EV-08: ids")
            equal({event["accountsid"] for event in here}, {sid}, "EV-08: whose they are")
            equal(broken(here), [], "EV-08: chains that are broken")
            equal(set(follower.said(0)), {"snapshot"}, "EV-08: what streams said of themselves")
            wrong = [steps for of in by_call(here).values() if (steps := steps_of(of)) != [step for step in STEPS if step in steps] or steps[0] != STEPS[0]]
            equal(wrong, [], "EV-08: steps of calls")
            told, events = told | by_call(here).keys(), events + len(here)
            follower.close()
        sids = dict(server.rows("SELECT sip_call_id, sid FROM calls"))
        over = [(call_id, at) for caller in callers for call_id, at in caller.over]
        lost = [min(kill - at for kill in kills if kill > at) for call_id, at in over if sids.get(call_id) not in told]
        # What happens in its last moment is with nobody yet.
        lost = sorted(before for before in lost if before > MOMENT)
        equal([f"{before:.2f}" for before in lost], [], f"EV-08: seconds before the server was killed in which calls were over, of {len(over)}, that nobody knows of")
        return f"{KILLS} times killed amid {len(told)} calls; {events} events, none lost, none twice"

    def streams(self):
        """EV-04: each has its own account's events and all of them."""
        equal, each = self.scenario.equal, STREAMS // len(MANY)
        listed = self.scenario.folder / "accounts"
        listed.write_text("".join(f"{sid} {token(sid, TOKEN)} {each}\n" for sid in MANY))
        edge = child(self.server, "edge")
        # What the accounts had before is not told again.
        self.before = resident(edge)
        command = [sys.executable, self.scenario.here / "crowd.py", HTTP, listed]
        crowd = self.scenario.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.opened = json.loads(crowd.stdout.readline())
        equal((self.opened["opened"], self.opened["strange"]), (STREAMS, []), "EV-04: streams that are open")
        self.after = resident(edge)
        calls = dict.fromkeys(MANY, 0)
        callers = {sid: Caller(self.scenario, SIP, own(at)[0]) for at, sid in enumerate(MANY) if sid != QUIET}
        held, began, count = [], time.monotonic(), 0
        while time.monotonic() < began + SECONDS:
            at = count % len(callers)
            held.append((time.monotonic() + HOLD, MANY[at], callers[MANY[at]].call(own(at)[1])))
            calls[MANY[at]] += 1
            count += 1
            while held and held[0][0] <= time.monotonic():
                callers[held[0][1]].hang_up(held.pop(0)[2])
            time.sleep(max(0.0, began + count / CALLS_A_SECOND - time.monotonic()))
        for _, sid, call in held:
            callers[sid].hang_up(call)
        self.under = resident(edge)
        crowd.stdin.write(json.dumps({sid: count * len(STEPS) for sid, count in calls.items()}) + "\n")
        crowd.stdin.flush()
        self.result = json.loads(crowd.stdout.readline())
        for caller in callers.values():
            caller.close()
        result, total = self.result, sum(calls.values())
        equal([result[what] for what in ("foreign", "gaps", "ended", "missing", "strange")], [0, 0, 0, 0, []], "EV-04: events of another account, gaps, streams that ended or miss something, other frames")
        equal(result["events"], total * len(STEPS) * each, "EV-04: events of all streams together")
        self.scenario.check(result["kept_alive"] >= each, f"EV-04: streams that were told that they are open still: {result['kept_alive']}")
        self.calls = total
        self.scenario.end(crowd)
        return f"{result['events']} events at {STREAMS} streams; {result['p50']} ms, {result['p99']} ms at the 99th percentile"

    @property
    def said(self):
        return f"{STREAMS} streams of {len(MANY)} accounts: {self.result['foreign']} events of another; an event is there after {self.result['p50']} ms, 99% after {self.result['p99']} ms"

    def table(self):
        """The figures, as Markdown."""
        result = self.result
        rows = [
            ("streams open, of so many accounts", f"{STREAMS}, {len(MANY)}"),
            ("opened in, s", f"{self.opened['seconds']:.1f}"),
            ("calls, of 4 events each", self.calls),
            ("events at streams", result["events"]),
            ("... of another account, missing, out of order", f"{result['foreign']}, {result['missing']}, {result['gaps']}"),
            ("from the event to its client, p50 ms", result["p50"]),
            ("... p99 ms", result["p99"]),
            ("... at most, ms", result["most"]),
            ("memory of the edge without streams, MB", f"{self.before / 1024:.1f}"),
            ("... with them, MB", f"{self.after / 1024:.1f}"),
            ("... with them and calls, MB", f"{self.under / 1024:.1f}"),
            ("a stream, kB", f"{(self.after - self.before) / STREAMS:.1f}"),
        ]
        print("\n| what | |\n|---|---:|\n" + "\n".join(f"| {what} | {value} |" for what, value in rows) + "\n", flush=True)


def resident(pid):
    """kB of memory that a process has."""
    return next(int(line.split()[1]) for line in open(f"/proc/{pid}/status") if line.startswith("VmRSS"))
