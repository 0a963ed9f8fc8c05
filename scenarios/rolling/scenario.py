"""Edges and workers are restarted one after another while calls are made, as in an upgrade: nobody notices."""

import collections
import concurrent.futures
import pathlib
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import requests

from lib.edges import two_edges
from lib.leg import Leg
from lib.scenario import Failed, Scenario, wait_for
from lib.server import ACCOUNT, AUTH_TOKEN, OPERATOR_TOKEN, number, trunk
from lib.sip import Phone, reply, sdp

ECHO = "+15556000000"
NUMBERS = trunk("phones", **{"from": ["127.0.0.1"]}) + number(ECHO, "<Echo/>")
# What a caller waits for the first word of a server before it asks the next (RFC 3261 timer B is for one that has no other).
PATIENCE = 1.0


class Carrier:
    """Makes calls at a steady rate: each at the next edge in turn, and at the other where that one does not take it (RFC 3263 s4.3)."""

    def __init__(self, edges, rate, hold):
        self.edges, self.hold, self.period = edges, hold, 1 / rate
        self.phones = [Phone(edge.sip, "+15556100001") for edge in edges]
        self.is_running, self.outcomes, self.calls = True, collections.Counter(), {}
        self.pool = concurrent.futures.ThreadPoolExecutor(int(rate * (hold + 4)))
        self.threads = [threading.Thread(target=self.make, daemon=True)]
        self.threads += [threading.Thread(target=self.answer, args=(phone,), daemon=True) for phone in self.phones]
        for thread in self.threads:
            thread.start()

    def make(self):
        due, count = time.monotonic(), 0
        while self.is_running:
            self.pool.submit(self.one, count)
            count, due = count + 1, due + self.period
            time.sleep(max(0.0, due - time.monotonic()))

    def one(self, count):
        """A call, as long as it lasts."""
        for turn in (count, count + 1):
            phone = self.phones[turn % 2]
            call = phone.invite(ECHO, sdp("127.0.0.1", 9))
            try:
                response = call.final(PATIENCE)
            except Failed:
                self.outcomes["gone to the other edge, since this one was away"] += 1
                continue
            if response.status == 503:
                self.outcomes["sent to the other edge"] += 1
                continue
            if response.status != 200:
                self.outcomes[f"refused with {response.status}"] += 1
                return
            call.ack()
            self.calls[call.call_id] = call
            time.sleep(self.hold)
            self.hang_up(phone, call)
            return
        self.outcomes["taken by nobody"] += 1

    def hang_up(self, phone, call):
        """At the edge that it is at now; at the other, where that does not answer."""
        text = call.make("BYE")
        for server in (getattr(call, "edge", phone.transport.server), *(edge.sip for edge in self.edges)):
            phone.transport.send(text, server)
            mine = lambda message: message.status >= 200 and message.call_id == call.call_id and message.method == "BYE"
            try:
                status = phone.transport.wait(mine, 1.0, "the answer to BYE").status
            except Failed:
                continue
            self.outcomes[f"ended with {status}"] += 1
            return
        self.outcomes["BYE not answered"] += 1

    def answer(self, phone):
        """New offers are answered, and calls that end before their time are counted."""
        while self.is_running:
            request = phone.transport.find(lambda message: message.is_request and message.method in ("INVITE", "BYE"), 0.1)
            if request is None:
                continue
            call = self.calls.get(request.call_id)
            if request.method == "BYE":
                self.outcomes["ended by the server"] += 1
                phone.transport.send(reply(request, 200), request.source)
            elif call:
                phone.transport.send(reply(request, 200, body=sdp("127.0.0.1", 9, version=2), headers=[f"Contact: {phone.contact}"]), request.source)
                call.target, call.edge = request.contact_uri(), request.source

    def stop(self):
        self.is_running = False
        self.threads[0].join(1)
        self.pool.shutdown()
        for phone in self.phones:
            phone.close()


class Rolling:
    def __init__(self, scenario):
        self.scenario = scenario

    def start(self):
        self.left, self.right, _ = two_edges(self.scenario, 16800, NUMBERS, span=600)
        self.rate = 20 if self.scenario.long else 8
        self.carrier = Carrier((self.left, self.right), self.rate, 2.0)
        self.talkers = [Leg(edge.sip, ECHO) for edge in (self.left, self.right) for _ in range(3)]
        self.began = time.monotonic()
        time.sleep(1)

    def edge(self, edge):
        """SIGTERM: no new calls, and what still runs a second later is the other's. Then it is started again."""
        other = self.right if edge is self.left else self.left
        edge.process.terminate()
        until = time.monotonic() + 10
        while edge.process.poll() is None and time.monotonic() < until:
            self.listen(other, 0.05)
        self.scenario.equal(self.scenario.end(edge.process), 0, "exit code")
        self.listen(other, 0.5)
        edge.start()
        wait_for(lambda: len(other.workers("active")) == 2, 6, "its workers to be back")
        # Whoever has asked it while it was away asks the other by then: that is not to be told to stop before.
        self.listen(other, 1.5 * PATIENCE)

    def listen(self, other, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for talker in self.talkers:
                if talker.reinvited(0.005):
                    talker.phone.transport.server = other.sip

    def worker(self, edge):
        """A worker takes no more, and another process has its place."""
        name = next(worker["id"] for worker in edge.workers("active") if worker["id"].startswith(edge.folder.name))
        answer = requests.post(f"http://{edge.http}/dialtone/v1/Workers/{name}", data={"Drain": "true"}, headers={"Authorization": f"Bearer {OPERATOR_TOKEN}"}, timeout=5)
        self.scenario.equal(answer.status_code, 202, answer.text)
        until = time.monotonic() + 12
        while any(worker["id"] == name and worker["state"] != "lost" for worker in edge.workers()) and time.monotonic() < until:
            self.listen(edge, 0.2)
        wait_for(lambda: len(edge.workers("active")) == 2, 6, "another in its place")
        self.listen(edge, 1)

    def nothing_is_lost(self):
        """Every call was taken by one of the edges, and ended when its caller wanted; each has one CDR and one line in the ledger."""
        equal, seconds = self.scenario.equal, time.monotonic() - self.began
        self.carrier.stop()
        outcomes = dict(self.carrier.outcomes)
        self.scenario.check(set(outcomes) <= {"ended with 200", "sent to the other edge", "gone to the other edge, since this one was away"}, f"what became of the calls: {outcomes}")
        made = outcomes["ended with 200"]
        self.scenario.check(made >= 0.8 * self.rate * seconds, f"calls that were made in {seconds:.0f} s: {made}")
        now = time.monotonic()
        self.scenario.check(all(talker.media.packets[-1].at > now - 0.5 for talker in self.talkers), "who talked before talks still")
        for talker in self.talkers:
            equal(talker.call.bye().status, 200, "BYE")
            talker.stop()
        wait_for(lambda: not self.left.live(), 5, "the calls to end")
        made += len(self.talkers)
        ended = [call for call in self.left.calls() if call["answered_ms"]]
        equal(collections.Counter(call["status"] for call in ended), {"completed": made}, "how they ended")
        url = f"http://{self.right.http}/2010-04-01/Accounts/{ACCOUNT}/Usage/Records.json?Category=calls-inbound"
        used = lambda: int(requests.get(url, auth=(ACCOUNT, AUTH_TOKEN), timeout=5).json()["usage_records"][0]["count"])
        wait_for(lambda: used() >= made, 5, "the ledger to have the calls")
        equal(used(), made, "lines in the ledger")
        self.summary = f"{made} calls at {self.rate} a second while edges and workers were restarted: none lost, {outcomes.get('sent to the other edge', 0)} sent to the other edge"
        return self.summary


def main():
    with Scenario(__file__) as scenario:
        rolling = Rolling(scenario)
        scenario.step("start", rolling.start)
        scenario.step("edge", rolling.edge, rolling.left)
        if scenario.long:
            scenario.step("the other edge", rolling.edge, rolling.right)
            scenario.step("worker", rolling.worker, rolling.left)
            scenario.step("the other worker", rolling.worker, rolling.right)
        scenario.step("nothing is lost", rolling.nothing_is_lost)
        scenario.summary = getattr(rolling, "summary", "")


if __name__ == "__main__":
    main()
