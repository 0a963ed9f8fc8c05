"""What edges do that share limits, two for a moment and four for minutes."""

import concurrent.futures
import os
import signal
import subprocess
import time

from accounts import ECHO, LATER, MANY, SHARED, accounts, hang_up, in_use, ring, shown, take_back
from callers import IN_TROUBLE, Crowd

from lib.edges import child, edges, listen_on
from lib.leg import Leg
from lib.scenario import wait_for
from lib.server import ACCOUNT, Server, base_config
from lib.sip import Phone, sdp

# Seconds without trouble, before the long form ends.
QUIET = 60


class TwoEdges:
    """What edges do that share a limit."""

    def __init__(self, scenario):
        self.scenario = scenario

    def start(self):
        """By a Redis, without which nobody is let in; and two others by the PostgreSQL alone."""
        (self.left, self.right), self.stores = edges(self.scenario, 17200, accounts(SHARED), cluster_more='on_store_loss = "closed"\n')
        self.phones = [Phone(edge.sip, "+15556100001") for edge in (self.left, self.right)]
        # Most of what happens to them is that a lease ends: it does so meanwhile.
        self.at_database = concurrent.futures.ThreadPoolExecutor(1).submit(self.databases)

    def by_database(self, name, base):
        config = base_config(f"127.0.0.1:{base}", f"127.0.0.1:{base + 2}", f"{base + 10}-{base + 99}", more=accounts(SHARED), workers=0)
        config = config.replace('url = "sqlite://data/dialtone.db"', f'url = "{self.stores.postgres}"\nfolder = "data"')
        server = Server(self.scenario, config, name).start(arguments=["--name", name])
        server.sip = ("127.0.0.1", base)
        return server

    def crowd(self, both, seconds):
        """Callers at both without pause: all places are used, and never one more."""
        equal = self.scenario.equal
        crowd = Crowd(both, ECHO, 2 * SHARED, (0.2, 0.5), (0.02, 0.1))
        time.sleep(seconds)
        equal((crowd.stop(), crowd.strange()), ([], {}), "callers that do not come to an end, and outcomes that should not be")
        equal(crowd.most_at_once(), SHARED, "calls at once, at most")
        equal(crowd.outcomes["told to come again"], crowd.outcomes["refused with 503"], "refusals that say when to come again")
        self.are_free(*both)
        return f"{crowd.outcomes['admitted']} calls, {crowd.outcomes['refused with 503']} refused, {crowd.most_at_once()} at once"

    def are_free(self, *all):
        for edge in all:
            wait_for(lambda: in_use(edge.http) == 0, 3, "all places to be free")

    def both(self):
        return self.crowd((self.left, self.right), 1.7)

    def taken_back(self):
        """Calls that are taken back while their edge asks whether they may be, or just after that, leave the count right."""
        equal = self.scenario.equal
        take_back(self.scenario, self.phones[0], ECHO, [step / 4000 for step in range(16)])
        self.are_free(self.left, self.right)
        left, right = (ring(phone, ECHO, SHARED // 2 + at) for at, phone in enumerate(self.phones))
        equal(len(left[0] + right[0]), SHARED, "calls at both edges, of one more")
        hang_up(self.scenario, left[0] + right[0])
        self.are_free(self.left, self.right)

    def delayed(self):
        """Who waits at one edge is answered when somebody hangs up at the other."""
        first, second = (Phone(edge.sip, "+15556100001", local=("127.0.0.2", 0)) for edge in (self.left, self.right))
        (call,), _ = ring(first, LATER, 1)
        waits = second.invite(LATER, sdp("127.0.0.1", 9))
        time.sleep(0.3)
        self.scenario.check(second.transport.find(lambda message: message.status >= 200, 0) is None, "the second is not answered yet")
        hang_up(self.scenario, [call])
        at = time.monotonic()
        waits.accepted(0.6)
        after = time.monotonic() - at
        hang_up(self.scenario, [waits])
        for phone in (first, second):
            phone.close()
        return f"answered {after * 1000:.0f} ms after that"

    def lost(self):
        """One is lost with its machine. The other has its calls, which count all the time; no place is lost with it."""
        equal, check, right = self.scenario.equal, self.scenario.check, self.phones[1]
        callers = [Leg(self.left.sip, ECHO) for _ in range(SHARED - 2)] + [Leg(self.right.sip, ECHO) for _ in range(2)]
        nodes = {holder["count"]: holder["node"] for holder in shown(self.right.http)["holders"]}
        equal(set(nodes), {SHARED - 2, 2}, "what each holds")
        at = time.monotonic()
        self.left.kill()
        gone, tries = callers[: SHARED - 2], 0
        for caller in gone:
            caller.phone.transport.server = self.right.sip
        told = set()
        while len(told) < len(gone):
            check(time.monotonic() < at + 8, f"{len(told)} of {len(gone)} calls are told where they are now")
            told |= {caller for caller in gone if caller.reinvited(0.03)}
            answered, _ = ring(right, ECHO, 1)
            equal(len(answered), 0, f"one call too many {time.monotonic() - at:.1f} s after the edge was lost")
            tries += 1
        back = time.monotonic() - at
        wait_for(lambda: shown(self.right.http)["current_value"] == SHARED, 2, "what the other holds")
        equal([holder["node"] for holder in shown(self.right.http)["holders"]], [nodes[2]], "who holds it")
        equal(len(ring(right, ECHO, 1)[0]), 0, "one call too many when it has them")
        listen_on(callers, 0.7)
        now = time.monotonic()
        check(all(caller.media.packets[-1].at > now - 0.3 for caller in callers), "everybody hears still")
        for caller in callers:
            equal(caller.call.bye().status, 200, "BYE at the edge that is left")
            caller.stop()
        self.are_free(self.right)
        self.calls, refusals = ring(right, ECHO, SHARED + 1)
        equal((len(self.calls), len(refusals)), (SHARED, 1), "answered and refused by the edge that is left")
        return f"taken up after {back:.1f} s; {tries} more calls refused meanwhile"

    def forgotten(self):
        """The Redis comes back empty: nobody is let in until all have had the time to say what they have."""
        equal, right = self.scenario.equal, self.phones[1]
        hang_up(self.scenario, self.calls[2:])
        wait_for(lambda: in_use(self.right.http) == 2, 3, "four places to be free")
        port = self.stores.redis.rsplit(":", 1)[1]
        self.stores.run("redis", "stop")
        equal(len(ring(right, ECHO, 1)[0]), 0, "calls that are let in without a Redis")
        at = time.monotonic()
        self.stores.run("redis", "start", port)
        more = []
        while not more and time.monotonic() < at + 9:
            more, _ = ring(right, ECHO, 1)
        after = time.monotonic() - at
        self.scenario.check(more and 3 <= after <= 6, f"the first call is let in after {after:.2f} s: {len(more)}")
        more += ring(right, ECHO, SHARED)[0]
        equal(len(more), SHARED - 2, "calls beside those that there were")
        hang_up(self.scenario, [*self.calls[:2], *more])
        self.are_free(self.right)
        return f"the first call is let in {after:.1f} s after it is back"

    def stop(self):
        for phone in self.phones:
            phone.close()
        self.scenario.equal(self.right.stop(), 0, "exit code")

    def database(self):
        """Two servers share a limit by a PostgreSQL alone. One is lost: its places are free when its lease is over."""
        return self.at_database.result(20)

    def databases(self):
        equal, check = self.scenario.equal, self.scenario.check
        one, other = alone = [self.by_database(name, base) for name, base in (("one", 17500), ("other", 17600))]
        told = self.crowd(alone, 1.5)
        phones = [Phone(server.sip, "+15556100001") for server in alone]
        (lost, _), (kept, _) = (ring(phone, ECHO, SHARED // 2) for phone in phones)
        equal((len(lost), len(kept)), (SHARED // 2, SHARED // 2), "answered")
        at = time.monotonic()
        one.kill()
        equal(len(ring(phones[1], ECHO, 1)[0]), 0, "one call too many")
        more = []
        while not more and time.monotonic() < at + 6:
            more, _ = ring(phones[1], ECHO, 1)
        after = time.monotonic() - at
        check(more and after <= 4, f"a place of the lost one is free after {after:.1f} s: {len(more)}")
        more += ring(phones[1], ECHO, SHARED)[0]
        equal(len(more), SHARED // 2, "calls that have the places of the lost one")
        hang_up(self.scenario, kept + more)
        self.are_free(other)
        for phone in phones:
            phone.close()
        equal(other.stop(), 0, "exit code")
        return f"{told}; free {after:.1f} s after one was lost"


class FourEdges:
    """Callers without pause at four edges, while one trouble follows another."""

    def __init__(self, scenario, minutes):
        self.scenario, self.seconds, self.troubles = scenario, minutes * 60, 0

    def start(self):
        self.edges, self.stores = edges(self.scenario, 17200, accounts(MANY), ("north", "east", "south", "west"), 190, cluster_more='on_store_loss = "closed"\n')
        self.began = time.monotonic()
        self.crowd = Crowd(self.edges, ECHO, 70, (4, 6), (0.5, 1))

    def is_quiet_until(self, seconds):
        """Whether that long from now the last minute has not begun."""
        return time.monotonic() + seconds < self.began + self.seconds - QUIET

    def befall(self):
        """Each trouble, of one edge after another, as long as there is time; each at least once."""
        while self.troubles == 0 or self.is_quiet_until(50):
            edge = self.edges[self.troubles % len(self.edges)]
            next_edge = self.edges[(self.troubles + 1) % len(self.edges)]
            self.troubles += 1
            self.scenario.step(f"kill -9 of the machine of {edge.folder.name}", self.lost, edge)
            self.scenario.step(f"SIGSTOP of the edge of {next_edge.folder.name}", self.stands_still, next_edge)
            self.scenario.step("Redis away, and back empty", self.forgotten)

    def lost(self, edge):
        """For longer than its lease; then it is started again."""
        edge.kill()
        time.sleep(6)
        edge.start()
        self.settle()

    def stands_still(self, edge):
        """For longer than its lease. It goes on as another process."""
        pid = child(edge, "edge")
        os.kill(pid, signal.SIGSTOP)
        time.sleep(5)
        os.kill(pid, signal.SIGCONT)
        wait_for(lambda: child(edge, "edge") not in (None, pid), 10, "the edge to end, and another to be there")
        self.settle()

    def forgotten(self):
        """What runs goes on meanwhile."""
        port = self.stores.redis.rsplit(":", 1)[1]
        self.stores.run("redis", "stop")
        time.sleep(2)
        self.stores.run("redis", "start", port)
        self.settle()

    def settle(self):
        """Until everything is there again, and used."""
        for edge in self.edges:
            wait_for(lambda: self.has_all_workers(edge), 30, f"all workers to be there again at {edge.folder.name}")
        time.sleep(4)

    def has_all_workers(self, edge):
        try:
            return edge.get("/readyz")[0] == 200 and len(edge.workers("active")) == len(edge.workers("standby")) == len(self.edges)
        except (OSError, RuntimeError):
            return False

    def quiet(self):
        """Nothing happens in the last minute."""
        time.sleep(max(0.0, max(self.began + self.seconds, time.monotonic() + QUIET) - time.monotonic()))
        until = time.monotonic()
        equal, outcomes = self.scenario.equal, self.crowd.outcomes
        endless = self.crowd.stop()
        self.most, self.used = self.crowd.most_at_once(), self.crowd.mean(until - QUIET, until) / MANY
        equal(endless, [], "callers that do not come to an end")
        equal(self.crowd.strange(IN_TROUBLE), {}, f"outcomes that should not be, of {dict(outcomes)}")
        equal(outcomes["told to come again"], outcomes["refused with 503"], "refusals that say when to come again")
        equal(self.most, MANY, "calls at once, at most")
        self.scenario.check(self.used >= 0.9, f"share of the places that was used in the last minute: {self.used:.3f}")

    def nothing_is_left(self):
        for edge in self.edges:
            wait_for(lambda: in_use(edge.http) == 0, 10, "all places to be free")
        wait_for(lambda: not self.left(), 10, "the Redis to have nothing of them")
        self.scenario.equal(self.edges[0].live(), [], "calls that run still")

    def left(self):
        """What the Redis has of what is held."""
        port = self.stores.redis.rsplit(":", 1)[1]
        return subprocess.run(["redis-cli", "-p", port, "keys", "{dialtone}:hold:*"], check=True, capture_output=True, text=True).stdout.split()

    def table(self):
        """The figures, as Markdown."""
        outcomes = self.crowd.outcomes
        rows = [
            ("limit", MANY),
            ("calls at once, at most", self.most),
            ("in use in the last minute, of the limit", f"{self.used:.1%}"),
            ("seconds", f"{self.crowd.ended - self.began:.0f}"),
            ("rounds of trouble", self.troubles),
            ("admitted", outcomes["admitted"]),
            *sorted((what, count) for what, count in outcomes.items() if count and what not in ("admitted", "told to come again")),
            ("keys left in Redis", len(self.left())),
        ]
        print("\n| what | |\n|---|---:|\n" + "\n".join(f"| {what} | {value} |" for what, value in rows) + "\n", flush=True)
