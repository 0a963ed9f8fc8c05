"""An edge stands still for longer than the others wait; the store that edges share is away, and has forgotten everything."""

import concurrent.futures
import os
import pathlib
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import requests

from lib.edges import child, listen_on, two_edges
from lib.leg import Leg
from lib.scenario import Scenario, wait_for
from lib.server import ACCOUNT, AUTH_TOKEN, number, trunk, user
from lib.sip import Phone

ECHO = "+15556000000"
NUMBERS = trunk("phones", **{"from": ["127.0.0.1"]}) + number(ECHO, "<Echo/>") + user("desk", "secret-of-desk")


class Trouble:
    def __init__(self, scenario):
        self.scenario, self.made = scenario, 0

    def start(self):
        self.left, self.right, self.stores = two_edges(self.scenario, 16500, NUMBERS)

    def call(self, edge, count):
        self.made += count
        return [Leg(edge.sip, ECHO) for _ in range(count)]

    def hang_up(self, callers, edge):
        for caller in callers:
            self.scenario.equal(caller.call.bye().status, 200, "BYE")
            caller.stop()
        wait_for(lambda: not edge.live(), 5, "the calls to end")

    def used(self):
        """Each call has one CDR, which says that it was completed, and one line in the ledger."""
        self.scenario.equal([call["status"] for call in self.right.calls()], ["completed"] * self.made, "how the calls ended")
        url = f"http://{self.right.http}/2010-04-01/Accounts/{ACCOUNT}/Usage/Records.json?Category=calls-inbound"
        records = lambda: requests.get(url, auth=(ACCOUNT, AUTH_TOKEN), timeout=5).json()["usage_records"]
        wait_for(lambda: int(records()[0]["count"]) >= self.made, 5, "the ledger to have the calls")
        self.scenario.equal(int(records()[0]["count"]), self.made, "calls in the ledger")

    def told_elsewhere(self, callers, edge):
        for caller in callers:
            caller.phone.transport.server = edge.sip
        for caller in callers:
            self.scenario.check(caller.reinvited(8) is not None, "each is told where its call is now")

    def stopped(self):
        """It has lost its calls when it goes on, and knows it before it does anything with them."""
        callers = self.call(self.left, 5)
        time.sleep(0.5)
        edge = child(self.left, "edge")
        os.kill(edge, signal.SIGSTOP)
        began = time.monotonic()
        self.told_elsewhere(callers, self.right)
        after = time.monotonic() - began
        # What comes to it while it stands still is not for it any more, and gets to whoever has the call.
        leaver = callers.pop()
        leaver.phone.transport.server = self.left.sip
        bye = concurrent.futures.ThreadPoolExecutor(1).submit(leaver.phone.insist, leaver.call.make("BYE"))
        os.kill(edge, signal.SIGCONT)
        wait_for(lambda: child(self.left, "edge") not in (None, edge), 4, "the edge to end, and another to be there")
        wait_for(lambda: self.is_ready(self.left), 6, "it to be ready")
        self.scenario.equal(bye.result().status, 200, "BYE by way of the edge that had lost the call")
        leaver.stop()
        time.sleep(0.5)
        now = time.monotonic()
        self.scenario.check(all(caller.media.packets[-1].at > now - 0.3 for caller in callers), "everybody hears still")
        self.hang_up(callers, self.right)
        self.used()
        return f"taken up after {after:.1f} s"

    def is_ready(self, edge):
        try:
            return edge.get("/readyz")[0] == 200
        except OSError:
            return False

    def is_there(self, identity):
        """Whether the right edge says that a client can be called."""
        url = f"http://{self.right.http}/2010-04-01/Accounts/{ACCOUNT}/Clients/{identity}.json"
        return requests.get(url, auth=(ACCOUNT, AUTH_TOKEN), timeout=5).json()["available"]

    def forgotten(self):
        """While the shared store is away calls go on and are made; when it comes back empty all is written there again."""
        callers = self.call(self.left, 5)
        phone = Phone(self.left.sip, "desk", "secret-of-desk")
        self.scenario.equal(phone.register().status, 200, "REGISTER")
        wait_for(lambda: self.is_there("desk"), 3, "the other edge to hear of a phone")
        port = self.stores.redis.rsplit(":", 1)[1]
        self.stores.run("redis", "stop")
        time.sleep(1.2)
        callers += self.call(self.left, 2)
        self.hang_up([callers.pop(0)], type("Nobody", (), {"live": lambda: False}))
        self.stores.run("redis", "start", port)
        wait_for(lambda: "written there again" in self.left.log() and "written there again" in self.right.log(), 5, "both edges to notice")
        # Who comes now knows nobody but by the store.
        edge = child(self.right, "edge")
        os.kill(edge, signal.SIGKILL)
        wait_for(lambda: child(self.right, "edge") not in (None, edge) and self.is_ready(self.right), 6, "the other edge to be back")
        wait_for(lambda: self.is_there("desk"), 3, "it to find the phone")
        phone.close()
        self.left.kill()
        self.told_elsewhere(callers, self.right)
        listen_on(callers, 0.7)
        now = time.monotonic()
        self.scenario.check(all(caller.media.packets[-1].at > now - 0.3 for caller in callers), "everybody hears still")
        self.hang_up(callers, self.right)
        self.used()


def main():
    with Scenario(__file__) as scenario:
        trouble = Trouble(scenario)
        scenario.steps(trouble.start, trouble.stopped, trouble.forgotten)
        scenario.summary = f"{trouble.made} calls, each with one end and one line in the ledger"


if __name__ == "__main__":
    main()
