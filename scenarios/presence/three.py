"""The long form: three edges, and how soon everybody at each of them is told who comes and goes."""

import time

from people import Account

from lib.edges import edges
from lib.scenario import wait_for

BASE, CLIENTS = 20200, 400
# Seconds within which 99 of a hundred are told.
SOON = 0.25


class ThreeEdges:
    def __init__(self, scenario):
        self.scenario = scenario

    def start(self):
        self.edges, _ = edges(self.scenario, BASE, "", names=("north", "east", "west"))
        first = Account(self.edges[0].http)
        self.accounts = [first, *(first.at(edge) for edge in self.edges[1:])]
        # Two at each.
        self.listeners = [account.listen() for account in self.accounts for _ in range(2)]
        for listener in self.listeners:
            listener.stream.wait_named("snapshot")

    def told_soon(self):
        """Clients come at one of them, and say that they take no calls any more: from then until each listener knows."""
        said = {}
        opened = []
        for at in range(CLIENTS):
            identity = f"client-{at}"
            before = time.monotonic()
            web = self.accounts[at % len(self.accounts)].register(identity, web_socket=True)
            opened.append((identity, web))
            said[identity, True] = before
            # Of one client no more than one thing is told in a second.
            if at >= 100:
                self.leave(said, *opened[at - 100])
        for identity, web in opened[-100:]:
            time.sleep(0.01)
            self.leave(said, identity, web)
        whole = lambda listener: len(listener.events) >= len(said)
        wait_for(lambda: all(map(whole, self.listeners)), 10, "all to be told of all")
        delays = []
        for listener in self.listeners:
            told = [(frame.data["data"]["identity"], frame.data["data"]["available"]) for frame in listener.events]
            self.scenario.equal(sorted(told), sorted(said), "what was told, each once")
            delays += [frame.at - said[one] for frame, one in zip(listener.events, told)]
        delays.sort()
        p50, p99 = delays[len(delays) // 2], delays[len(delays) * 99 // 100]
        self.scenario.check(p99 < SOON, f"99% are told within {p99 * 1000:.0f} ms")
        return f"{len(said)} changes at 3 edges, {len(self.listeners)} listeners: told after {p50 * 1000:.0f} ms, 99% after {p99 * 1000:.0f} ms, at most {delays[-1] * 1000:.0f} ms"

    def leave(self, said, identity, web):
        said[identity, False] = time.monotonic()
        web.say(available=False)
