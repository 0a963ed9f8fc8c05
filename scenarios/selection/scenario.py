"""Calls that a program of the official package orders leave one after another, whatever happens to the server."""

import http.server
import pathlib
import sys
import threading
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

from lib.carrier import BusyCarrier
from lib.scenario import Scenario, wait_for
from lib.server import ACCOUNT, AUTH_TOKEN, Server, base_config

SIP, HTTP, APP, FAR = ("127.0.0.1", 14460), "127.0.0.1:14440", 14430, ("127.0.0.1", 14469)
CROWD, CPS = "AC" + "c" * 32, 4
FROM = "+15552000"


def trunk(account, name, more=""):
    return f"""
[[trunk]]
account = "{account}"
name = "{name}"
uri = "sip:{FAR[0]}:{FAR[1]}"
numbers = ["{FROM}"]
{more}
"""


CONFIG = base_config(
    f"{SIP[0]}:{SIP[1]}",
    HTTP,
    "14500-14799",
    more=trunk(ACCOUNT, "carrier")
    + f'\n[[account]]\nsid = "{CROWD}"\nauth_token = "of-the-crowd"\nlimits = {{ cps = {CPS} }}\n'
    + trunk(CROWD, "carrier")
    + trunk(CROWD, "slow", 'prefixes = ["+1777"]\ncps = 1'),
)


class Told(http.server.ThreadingHTTPServer):
    """What status callbacks say."""

    def __init__(self):
        self.forms = []
        super().__init__(("127.0.0.1", APP), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def of(self, sid):
        return [form["CallStatus"] for form in list(self.forms) if form["CallSid"] == sid]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.forms.append(dict(urllib.parse.parse_qsl(body, keep_blank_values=True)))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


class Selection:
    def __init__(self, scenario):
        self.scenario = scenario

    def start(self):
        self.told, self.carrier = Told(), BusyCarrier(SIP, FAR)
        self.carrier.start()
        self.server = Server(self.scenario, CONFIG).start()
        self.crowd, self.other = self.login(CROWD, "of-the-crowd"), self.login(ACCOUNT, AUTH_TOKEN)

    @staticmethod
    def login(sid, token):
        client = Client(sid, token)
        client.api.base_url = f"http://{HTTP}"
        return client

    def order(self, client, to, **more):
        return client.calls.create(to=to, from_=FROM, twiml="<Response/>", **more)

    def over(self, calls, client=None, seconds=12):
        """The calls as the server tells them, once all have ended."""
        client = client or self.crowd
        wait_for(lambda: all(client.calls(call.sid).fetch().status == "busy" for call in calls), seconds, "the calls to end", every=0.1)
        return [self.server.call(call.sid) for call in calls]

    def rate(self):
        """Twelve at once leave in their order, four a second, and each knows how long it waits."""
        equal, check = self.scenario.equal, self.scenario.check
        calls = [self.order(self.crowd, f"+1555400{number:02}") for number in range(12)]
        equal({call.status for call in calls}, {"queued"}, "status")
        waits = [int(call.queue_time) for call in calls]
        equal(waits[0], 0, "queue_time of the first")
        steps = [later - earlier for earlier, later in zip(waits[1:], waits[2:])]
        # Milliseconds pass between two requests.
        check(all(150 <= step <= 250 for step in steps), f"queue_time grows by {steps}")
        waiting = self.crowd.calls(calls[-1].sid).fetch()
        equal((waiting.status, waiting.start_time), ("queued", None), "the last one meanwhile")
        check(calls[-1].sid in [call.sid for call in self.crowd.calls.list(status="queued")], "the list of those that wait")
        # Another account has its turn at once.
        aside = self.order(self.other, "+15554900")
        equal(aside.queue_time, "0", "queue_time of another account's call")
        made = self.over(calls)
        self.over([aside], self.other)
        check(self.carrier.called.index("+15554900") < 10, f"its place among {self.carrier.called}")
        own = [number for number in self.carrier.called if number != "+15554900"]
        equal(own, [f"+1555400{number:02}" for number in range(12)], "who was called, in order")
        began = [call["started_ms"] for call in made]
        gaps = [later - earlier for earlier, later in zip(began, began[1:])]
        check(all(gap >= 249 for gap in gaps), f"between two calls passed {gaps} ms")
        fetched = self.crowd.calls(calls[-1].sid).fetch()
        check(int(fetched.queue_time) >= 2700, f"queue_time of the last when it is over: {fetched.queue_time}")
        check(self.server.metric("dialtone_call_queue_wait_seconds_count") >= 12, "the histogram of the waits")
        self.gaps = f"{min(gaps)} ms or more between two calls of {CPS} a second"
        return self.gaps

    def slow_trunk(self):
        """A trunk's own rate holds for its calls only."""
        slow = [self.order(self.crowd, f"+1777000{number}") for number in range(3)]
        quick = [self.order(self.crowd, f"+1555500{number}") for number in range(3)]
        depth = lambda: self.server.metric("dialtone_queue_depth", gateway="slow", kind="call")
        wait_for(lambda: depth() in (1, 2), 2, "the queue of the slow one in the metrics", every=0.05)
        made = self.over([*slow, *quick])
        self.server.wait_metric(0, "dialtone_queue_depth", gateway="slow", kind="call")
        began = [call["started_ms"] for call in made]
        self.scenario.check(began[1] - began[0] >= 999 and began[2] - began[1] >= 999, f"one a second by the slow one: {began}")
        self.scenario.check(max(began[3:]) < began[2], f"the others do not wait for it: {began}")

    def taken_back(self):
        """One that waits is taken back: never dialled, told once. It takes no other change."""
        equal = self.scenario.equal
        callback = f"http://127.0.0.1:{APP}/"
        calls = [self.order(self.crowd, f"+1555600{number}", status_callback=callback, status_callback_event=["initiated", "completed"]) for number in range(4)]
        try:
            self.crowd.calls(calls[3].sid).update(twiml="<Response/>")
            self.scenario.check(False, "a call that waits takes a document")
        except TwilioRestException as error:
            equal(error.code, 21220, "error number")
        equal(self.crowd.calls(calls[2].sid).update(status="canceled").status, "canceled", "status")
        self.over([calls[0], calls[1], calls[3]])
        equal(self.crowd.calls(calls[2].sid).fetch().status, "canceled", "status in the end")
        wait_for(lambda: self.told.of(calls[3].sid) == ["initiated", "busy"], 3, "the callbacks of the last")
        equal(self.told.of(calls[2].sid), ["canceled"], "callbacks of the one that was taken back")
        self.scenario.check("+15556002" not in self.carrier.called, "it was dialled")

    def emergency(self):
        """A call for help waits for nobody."""
        calls = [self.order(self.crowd, f"+1555650{number}") for number in range(8)]
        help_me = self.order(self.crowd, "911")
        self.scenario.equal(help_me.queue_time, "0", "queue_time")
        self.over([help_me])
        self.scenario.check(self.crowd.calls(calls[-1].sid).fetch().status == "queued", "the others wait meanwhile")
        self.over(calls)

    def killed(self):
        """kill -9 and start: those that waited are known, and made once."""
        return self.survives("+1555700", self.server.kill)

    def stopped(self):
        """The same by a stop."""
        return self.survives("+1555800", lambda: self.scenario.equal(self.server.stop(), 0, "exit code"))

    def survives(self, prefix, end):
        equal = self.scenario.equal
        calls = [self.order(self.crowd, f"{prefix}{number:02}") for number in range(10)]
        end()
        before = [number for number in self.carrier.called if number.startswith(prefix)]
        self.server.start()
        waiting = [call.sid for call in self.crowd.calls.list(status="queued")]
        self.scenario.check(calls[-1].sid in waiting, "the last waits again")
        wait_for(lambda: not self.crowd.calls.list(status="queued"), 10, "the queue to be empty", every=0.1)
        wait_for(lambda: all(self.crowd.calls(call.sid).fetch().end_time for call in calls), 5, "the calls to end", every=0.1)
        called = [number for number in self.carrier.called if number.startswith(prefix)]
        equal(called, [f"{prefix}{number:02}" for number in range(10)], "who was called, in order, once")
        return f"{10 - len(before)} of 10 waited"

    def stop(self):
        left = lambda: self.server.rows("SELECT count(*) FROM records WHERE kind = 'order'")[0][0]
        wait_for(lambda: left() == 0, 5, "the database to have no orders", every=0.1)
        self.carrier.is_open = False
        self.scenario.equal(self.server.stop(), 0, "exit code")


def main():
    with Scenario(__file__) as scenario:
        selection = Selection(scenario)
        for part in (
            selection.start, selection.rate, selection.slow_trunk, selection.taken_back, selection.emergency,
            selection.killed, selection.stopped, selection.stop,
        ):
            scenario.step(part.__name__.replace("_", " "), part)
        scenario.summary = f"{len(selection.carrier.called)} calls had their turn; {selection.gaps}"


main()
