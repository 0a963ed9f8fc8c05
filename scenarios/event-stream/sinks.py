"""A sink: an application of the official package that orders events, and takes them, well or badly."""

import json
import threading
import time

from accounts import short
from twilio.base.exceptions import TwilioRestException
from twilio.request_validator import RequestValidator
from twilio.rest import Client

from lib.document import Document
from lib.scenario import wait_for
from lib.server import ACCOUNT, AUTH_TOKEN

COMPLETED, ANSWERED = (f"com.twilio.voice.status-callback.call.{step}" for step in ("completed", "answered"))
WANTED = ("call.completed", "call.answered")


class Sink:
    def __init__(self, scenario, port, http):
        self.scenario, self.port, self.is_well, self.requests = scenario, port, True, []
        self.lock = threading.Lock()
        self.app = Document(port, self.take)
        self.client = Client(ACCOUNT, AUTH_TOKEN)
        self.client.events.base_url = self.client.monitor.base_url = f"http://{http}"

    def take(self, request):
        """Keeps what came, and whether it was taken."""
        with self.lock:
            self.requests.append((request.path, request.headers, request.form, self.is_well))
        request.document("", "text/plain", 200 if self.is_well else 500)

    @property
    def taken(self):
        """The events of all requests that were answered well."""
        return [event for *_, body, was_well in list(self.requests) if was_well for event in json.loads(body)]

    def validated(self):
        """Created, tested, and validated with what the test event says."""
        equal, sinks = self.scenario.equal, self.client.events.v1.sinks
        destination = {"destination": f"http://127.0.0.1:{self.port}/sink?x=1", "method": "POST", "batch_events": True}
        made = sinks.create(description="mine", sink_configuration=destination, sink_type="webhook")
        equal((made.sid[:2], made.status, made.sink_configuration), ("DG", "initialized", destination), "EV-10: a sink")
        self.sid = made.sid
        equal(sinks(made.sid).sink_test.create().result, "submitted", "EV-10: a test")
        wait_for(lambda: self.requests, 3, "the test event")
        (event,) = json.loads(self.requests[0][2])
        equal(self.refusal(lambda: sinks(made.sid).sink_validate.create(test_id="0" * 32))[0], 400, "EV-10: another test's id")
        equal(sinks(made.sid).sink_validate.create(test_id=event["data"]["test_id"]).result, "valid", "EV-10: the test's id")
        equal(sinks(made.sid).fetch().status, "active", "EV-10: a sink that was tested")

    def subscribed(self):
        events = self.client.events.v1
        made = events.subscriptions.create(description="calls", sink_sid=self.sid, types=[{"type": COMPLETED, "schema_version": 1}, {"type": ANSWERED}])
        self.subscription = made.sid
        self.scenario.equal(sorted(one.type for one in events.subscriptions(made.sid).subscribed_events.list()), [ANSWERED, COMPLETED], "EV-10: types of the subscription")
        names = {one.type for one in events.event_types.list()}
        self.scenario.check({COMPLETED, ANSWERED} <= names, f"EV-10: types that there are: {names}")

    def has(self, calls, what):
        """The sink has the events of so many calls."""
        wanted = calls * len(WANTED)
        try:
            wait_for(lambda: len(self.ids()) >= wanted, 4, "the events")
        finally:
            self.scenario.equal(len(self.ids()), wanted, f"EV-10: events that the sink has, of {what}")

    def ids(self):
        return {event["id"] for event in self.taken if short(event) in WANTED}

    def unwell(self, caller):
        """It answers with 500 for a while: the same comes again under the same token, and its customer is told."""
        equal = self.scenario.equal
        had, before = len(self.ids()), len(self.requests)
        self.is_well = False
        caller.calls(1)
        wait_for(lambda: len(self.requests) > before, 3, "a request that is not taken")
        # More happens while it waits to try again.
        caller.calls(3)
        time.sleep(0.2)
        self.is_well = True
        wait_for(lambda: len(self.ids()) >= had + 4 * len(WANTED), 5, "the events that were not taken")
        equal(len(self.ids()), had + 4 * len(WANTED), "EV-10: events after it was well again")
        failed, later = self.requests[before], self.requests[before + 1 :]
        again = [one for one in later if self.idempotency(one) == self.idempotency(failed)]
        self.scenario.check(again and again[-1][3], "EV-10: what was not taken comes again with its idempotency token")
        alerts = [alert.error_code for alert in self.client.monitor.v1.alerts.list(limit=20)]
        equal(alerts.count("93201"), 1, f"EV-10: alerts of the sink, of {alerts}")
        equal(self.client.events.v1.sinks(self.sid).fetch().status, "active", "EV-10: its status after that")
        return f"{len(self.requests)} requests"

    @staticmethod
    def idempotency(request):
        return request[1]["i-twilio-idempotency-token"]

    def tokens_mean_one_thing(self):
        """Whoever drops what it had already, by the idempotency token, must lose nothing by that."""
        bodies = {}
        for request in self.requests:
            bodies.setdefault(self.idempotency(request), set()).add(request[2])
        several = {token: [len(json.loads(body)) for body in all] for token, all in bodies.items() if len(all) > 1}
        self.scenario.equal(several, {}, "EV-10: idempotency tokens that came with different events: how many each time")
        return f"{len(bodies)} tokens"

    def is_up_to(self, events):
        """It has each event of its types that the stream has told of, and nothing is on its way; those."""
        wanted = {event["id"]: event for event in events if short(event) in WANTED}
        wait_for(lambda: self.ids() >= wanted.keys(), 20, "the rest of the events")
        time.sleep(0.1)
        return wanted

    def has_all(self, events):
        """It has each of these events that is of its types, once, as the stream told it; and each request was signed."""
        equal, validator = self.scenario.equal, RequestValidator(AUTH_TOKEN)
        wanted = self.is_up_to(events)
        first = int(events[0]["sequence"])
        taken = [event for event in self.taken if short(event) in WANTED and int(event["sequence"]) >= first]
        equal(len(taken), len({event["id"] for event in taken}), "EV-10: ids of the events that were taken")
        equal({event["id"]: event for event in taken}, wanted, "EV-10: events of the sink, and of the stream")
        numbers = [int(event["sequence"]) for event in taken]
        equal(numbers, sorted(numbers), "EV-10: their order")
        for path, headers, body, _ in self.requests:
            url = f"http://127.0.0.1:{self.port}{path}"
            equal(headers["content-type"].split(";")[0], "application/json", "EV-10: content type")
            self.scenario.check("bodySHA256=" in path and isinstance(json.loads(body), list), f"EV-10: a batch: {path}")
            self.scenario.check(validator.validate(url, body, headers["x-twilio-signature"]), f"EV-10: signature of {url}")
            self.scenario.check(not validator.validate(url, body + " ", headers["x-twilio-signature"]), "EV-10: signature of another body")

    def refusal(self, ask):
        try:
            ask()
        except TwilioRestException as error:
            return error.status, error.code, error.msg
        return None, None, ""

    def refuses(self):
        """What is used stays, and what is not known is said."""
        equal, events = self.scenario.equal, self.client.events.v1
        equal(self.refusal(lambda: events.sinks(self.sid).delete())[:2], (400, 20001), "EV-10: deleting a sink in use")
        unknown = self.refusal(lambda: events.subscriptions.create(description="x", sink_sid=self.sid, types=[{"type": "com.twilio.sung"}]))
        equal(unknown[:2], (400, 20001), "EV-10: a type that nobody knows")
        self.scenario.check("com.twilio.sung" in unknown[2] and COMPLETED in unknown[2], f"EV-10: what is said of it: {unknown[2]}")
        equal(self.refusal(lambda: events.sinks.create(description="x", sink_configuration={"destination": "nowhere"}, sink_type="webhook"))[0], 400, "EV-10: no URL")
        equal(self.refusal(lambda: events.sinks.create(description="x", sink_configuration={"arn": "x"}, sink_type="kinesis"))[0], 400, "EV-10: a sink of another kind")
        self.scenario.check(events.subscriptions(self.subscription).delete(), "EV-10: deleting the subscription")
        self.scenario.check(events.sinks(self.sid).delete(), "EV-10: deleting the sink")
