"""One of two edges is lost with its machine, or is told to stop: the other one goes on with its calls."""

import concurrent.futures
import http.server
import pathlib
import sys
import threading
import time
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from twilio.rest import Client

from lib.carrier import BusyCarrier
from lib.edges import listen_on, two_edges
from lib.leg import Leg
from lib.scenario import Scenario, wait_for
from lib.server import number, trunk

ECHO, TOLD, APP, FAR, SLOW = "+15556000000", "+15556000001", 16195, ("127.0.0.1", 16196), "AC" + "5" * 32
NUMBERS = trunk("phones", **{"from": ["127.0.0.1"]}) + number(ECHO, "<Echo/>") + number(TOLD, "<Echo/>", status_callback=f"http://127.0.0.1:{APP}/told")
NUMBERS += f"""
[[account]]
sid = "{SLOW}"
auth_token = "of-the-slow"
limits = {{ cps = 1 }}

[[trunk]]
account = "{SLOW}"
name = "carrier"
uri = "sip:{FAR[0]}:{FAR[1]}"
numbers = ["{ECHO}"]
"""


class Application(http.server.ThreadingHTTPServer):
    """Is told of calls, and says that it is not, as long as it is not well."""

    def __init__(self):
        self.is_well, self.told = True, []
        super().__init__(("127.0.0.1", APP), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        self.server.told.append((form["CallSid"], form["CallStatus"], self.headers["I-Twilio-Idempotency-Token"], self.server.is_well))
        self.send_response(204 if self.server.is_well else 503)
        self.end_headers()

    def log_message(self, *_):
        pass



class EdgeLost:
    def __init__(self, scenario):
        self.scenario = scenario

    def start(self):
        self.app = Application()
        self.left, self.right, _ = two_edges(self.scenario, 16200, NUMBERS)
        self.carrier = BusyCarrier(self.right.sip, FAR)
        self.carrier.start()
        self.ordered = [f"+1555600010{digit}" for digit in range(4)]

    def lost(self, legs=10):
        """A machine with an edge and workers is lost: the other edge goes on with its calls."""
        equal, check = self.scenario.equal, self.scenario.check
        self.app.is_well = False
        unheard = Leg(self.left.sip, TOLD)
        unheard.end()
        wait_for(lambda: self.app.told, 3, "the application not to hear of a call's end")
        callers = [Leg(self.left.sip, ECHO) for _ in range(legs)]
        others = [Leg(self.right.sip, ECHO) for _ in range(2)]
        leaver = Leg(self.left.sip, ECHO)
        sids = [call["sid"] for call in wait_for(lambda: len(self.left.live()) == legs + 3 and self.left.live(), 2, "the calls")]
        client = Client(SLOW, "of-the-slow")
        client.api.base_url = f"http://{self.left.http}"
        orders = [client.calls.create(to=to, from_=ECHO, twiml="<Response/>") for to in self.ordered]
        equal([order.status for order in orders], ["queued"] * 4, "calls that are ordered, one a second")
        time.sleep(0.5)
        at = time.monotonic()
        self.left.kill()
        # Nobody goes on with this call yet, and it is not over for that.
        leaver.phone.transport.server = self.right.sip
        bye = concurrent.futures.ThreadPoolExecutor(1).submit(leaver.phone.insist, leaver.call.make("BYE"))
        moved = []
        for caller in callers:
            caller.phone.transport.server = self.right.sip
        for caller in callers:
            before = caller.media.remote
            check(caller.reinvited(8) is not None, "each is told where its call is now")
            moved.append(caller.media.remote != before)
        back = time.monotonic() - at
        equal(bye.result().status, 200, "BYE before anybody went on with the call")
        leaver.stop()
        self.app.is_well = True
        listen_on(callers, 1)
        now = time.monotonic()
        check(all(caller.media.packets[-1].at > now - 0.3 for caller in callers), "everybody hears still")
        stayed = [caller.gaps(at - 0.02, now)[0] for caller, has_moved in zip(callers, moved) if not has_moved]
        gone = [caller.gaps(at - 0.02, now)[0] for caller, has_moved in zip(callers, moved) if has_moved]
        check(max(stayed, default=0) < 0.2, f"gaps of those whose worker lives: {stayed}")
        for caller in callers + others:
            equal(caller.call.bye().status, 200, "BYE at the edge that is left")
            caller.stop()
        wait_for(lambda: not self.right.live(), 5, "the calls to end")
        equal([call["status"] for call in self.right.calls() if call["sid"] in sids], ["completed"] * len(sids), "how they ended")
        wait_for(lambda: len(self.carrier.called) == 4, 6, "the other edge to make the calls that waited")
        equal(self.carrier.called, self.ordered, "who was called, by the order in which they waited")
        tokens = {token for _, _, token, _ in self.app.told}
        heard = wait_for(lambda: [told for *told, is_well in self.app.told if is_well], 5, "the other edge to tell of the call's end")
        equal([(status, {token} == tokens) for _, status, token in heard], [("completed", True)], "what was told of the call that had ended, with the token of every try")
        return f"{legs} calls of a lost edge go on after {back:.1f} s, and what waited for its turn there is made; largest gap {max(stayed, default=0) * 1000:.0f} ms where the worker lives, {max(gone, default=0) * 1000:.0f} ms where it does not"

    def left_for_others(self, legs=6):
        """The machine is back, without the calls that others have; and when the other one is told to stop, this one goes on with
        its calls."""
        equal, check = self.scenario.equal, self.scenario.check
        statuses = lambda edge: {call["sid"]: call["status"] for call in edge.calls()}
        wait_for(lambda: list(statuses(self.right).values()).count("busy") == len(self.ordered), 5, "the end of every call that was ordered")
        before = statuses(self.right)
        self.left.start()
        wait_for(lambda: len(self.left.workers("active")) == 2, 6, "the workers of both machines")
        equal([(sid, status, before.get(sid)) for sid, status in statuses(self.left).items() if status != before.get(sid)], [], "calls that the edge that is back tells otherwise than the other")
        callers = [Leg(self.right.sip, ECHO) for _ in range(legs)]
        sids = [call["sid"] for call in wait_for(lambda: len(self.right.live()) == legs and self.right.live(), 2, "the calls")]
        time.sleep(0.5)
        at = time.monotonic()
        self.right.process.terminate()
        for caller in callers:
            caller.phone.transport.server = self.left.sip
        for caller in callers:
            check(caller.reinvited(8) is not None, "each is told where its call is now")
        back = time.monotonic() - at
        # Its workers end too, a moment after their edge, and whoever was there is told of another address.
        until = time.monotonic() + 10
        while self.right.process.poll() is None and time.monotonic() < until:
            listen_on(callers, 0.1)
        listen_on(callers, 1)
        equal(self.scenario.end(self.right.process), 0, "exit code")
        now = time.monotonic()
        check(all(caller.media.packets[-1].at > now - 0.3 for caller in callers), "everybody hears still")
        gaps = [caller.gaps(at - 0.02, now)[0] for caller in callers]
        for caller in callers:
            equal(caller.call.bye().status, 200, "BYE at the edge that is left")
            caller.stop()
        wait_for(lambda: not self.left.live(), 5, "the calls to end")
        equal([call["status"] for call in self.left.calls() if call["sid"] in sids], ["completed"] * legs, "how they ended")
        equal(self.carrier.called, self.ordered, "nobody is called again by the edge that is back")
        return f"{legs} calls of an edge that was told to stop are told of the other after {back:.1f} s; largest gap {max(gaps) * 1000:.0f} ms"


def main():
    with Scenario(__file__) as scenario:
        edges = EdgeLost(scenario)
        _, scenario.summary, _ = scenario.steps(edges.start, edges.lost, edges.left_for_others)


if __name__ == "__main__":
    main()
