"""What a server does by itself: refuses, delays, ends a call for another, and says so."""

import base64
import concurrent.futures
import socket
import time
import urllib.parse

import requests
from accounts import (
    ALL, APP, ASKING, DELAYED, ECHO, FAR, FAX, HTTP, LATER, LINES, MEETING, OTHERS, PREEMPTED, ROOM, SIP, SLOW, TOKEN, URGENT, USUAL, WAIT,
    accounts, hang_up, in_use, ring, shown, take_back,
)
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

from lib.carrier import BusyCarrier
from lib.document import Document
from lib.scenario import Failed, wait_for
from lib.server import ACCOUNT, AUTH_TOKEN, OPERATOR_TOKEN, Server, base_config
from lib.sip import Phone, sdp

# So long takes the application of SLOW to say what is to be done.
THINKS = 0.02


def slowly(request):
    time.sleep(THINKS)
    request.document("<Response><Echo/></Response>")


class OneServer:
    """What a server does by itself."""

    def __init__(self, scenario):
        self.scenario, self.held = scenario, []

    def start(self):
        config = base_config(f"{SIP[0]}:{SIP[1]}", HTTP, "17100-17199", more=accounts(5) + OTHERS, workers=0)
        self.app, self.carrier = Document(APP, slowly), BusyCarrier(SIP, FAR)
        self.carrier.start()
        self.server = Server(self.scenario, config.replace("[server]", f"[server]\ncalls = {ALL}")).start()
        self.phones = {sid: Phone(SIP, "+15556100001", local=(f"127.0.0.{host}", 0)) for host, sid in enumerate((ACCOUNT, DELAYED, PREEMPTED, MEETING, LINES), 1)}
        self.client = self.login(ACCOUNT, AUTH_TOKEN)

    @staticmethod
    def login(sid, token=TOKEN):
        client = Client(sid, token)
        client.api.base_url = f"http://{HTTP}"
        return client

    def call(self, count, sid=ACCOUNT, called=ECHO):
        return ring(self.phones[sid], called, count)

    def hang_up(self, calls):
        hang_up(self.scenario, calls)

    def sid(self, call):
        """Of a call that runs."""
        return wait_for(lambda: [live["sid"] for live in self.server.live() if live["sip_call_id"] == call.call_id], 2, "the call")[0]

    def is_free(self, sid=ACCOUNT, token=AUTH_TOKEN):
        wait_for(lambda: in_use(HTTP, sid, token) == 0, 2, "all places to be free")

    def codes(self, client, sid):
        return [notice.error_code for notice in client.calls(sid).notifications.list()]

    def said_full(self, client, count):
        """So many calls have failed, each with the number for it."""
        failed = wait_for(lambda: len(found := client.calls.list(status="failed")) >= count and found, 2, "the calls that were refused")
        self.scenario.equal([self.codes(client, call.sid) for call in failed], [["10004"]] * count, "notifications of calls that were refused")

    def is_refused(self, answer, whose):
        self.scenario.equal(answer.status, 503, "one call too many")
        self.scenario.check(1 <= int(answer.header("retry-after") or 0) <= 60, f"Retry-After: {answer.header('retry-after')!r}")
        self.scenario.equal(answer.header("reason"), f'SIP;cause=503;text="{whose} as many calls at once as it may"', "Reason")

    def refused(self):
        """Eight at once: five are answered. The others are told when to come again, and why; so is the customer."""
        equal = self.scenario.equal
        self.held, refusals = self.call(8)
        equal((len(self.held), len(refusals)), (5, 3), "answered and refused")
        for answer in refusals:
            self.is_refused(answer, f"account {ACCOUNT} has")
        self.said_full(self.client, 3)
        running = {call.sid for call in self.client.calls.list(status="in-progress")}
        holders = shown(HTTP, what="/Calls/Holders")["holders"]
        equal((len(holders), {holder["call_sid"] for holder in holders}), (5, running), "who holds the places")
        calls = shown(HTTP)
        equal([calls[name] for name in ("resource", "current_value", "limit", "when_full")], ["calls", 5, 5, "reject"], "Concurrency/Calls.json")
        kinds = {each["resource"]: (each["limit"], each["current_value"]) for each in shown(HTTP, what="")["concurrency"]}
        equal(kinds, {"calls": (5, 5), "api": (None, 1), "streams": (None, 0), "conference-participants": (None, 0)}, "Concurrency.json")
        order = self.client.calls.create(to="+15557000001", from_=ECHO, twiml="<Response/>")
        wait_for(lambda: self.client.calls(order.sid).fetch().status == "failed", 2, "a call that was ordered to fail")
        equal((self.codes(self.client, order.sid), self.carrier.called), (["10004"], []), "its notification, and who was called")
        equal(self.server.metric("dialtone_concurrency_impeded_total", resource="calls", action="reject"), 4, "the count of what was refused")
        self.hang_up([self.held.pop()])
        wait_for(lambda: in_use(HTTP) == 4, 2, "a place to be free")
        order = self.client.calls.create(to="+15557000002", from_=ECHO, twiml="<Response/>")
        wait_for(lambda: self.client.calls(order.sid).fetch().status == "busy", 2, "a call that was ordered to be made")
        equal(self.carrier.called, ["+15557000002"], "who was called")

    def given_back_once(self):
        """Calls that both sides end at once, and calls that are taken back while they are answered, leave the count right."""
        equal, phone = self.scenario.equal, self.phones[ACCOUNT]
        ends = lambda sid: self.client.calls(sid).update(status="completed")
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            for call in (self.held.pop(), self.held.pop()):
                done = pool.submit(ends, self.sid(call))
                self.scenario.check(call.bye().status in (200, 481), "BYE of a call that the API ends")
                self.scenario.check(done.exception() is None or done.exception().code == 21220, f"the API's end of a call that hangs up: {done.exception()}")
                try:
                    call.wait_bye(0.05)
                except Failed:
                    pass
        wait_for(lambda: in_use(HTTP) == 2, 2, "the places of both to be free")
        answered = take_back(self.scenario, phone, SLOW, (0, 0.016, 0.02, 0.022, 0.023, 0.024, 0.025, 0.026, 0.028, 0.3))
        self.scenario.check(0 < answered < 10, f"calls that had been answered when they were taken back: {answered}")
        wait_for(lambda: in_use(HTTP) == 2, 2, "their places to be free")
        more, refusals = self.call(4)
        equal((len(more), len(refusals)), (3, 1), "answered and refused")
        self.hang_up(self.held + more)
        # One BYE too many frees nothing.
        equal({call.bye().status for call in more}, {481}, "BYE of calls that are over")
        self.is_free()
        return f"{answered} of 10 that were taken back had been answered"

    def other_limit(self):
        """The operator sets a limit: a larger one lets more in, a smaller one cuts nobody off. A program does not set its own."""
        equal = self.scenario.equal
        url = lambda sid: f"http://{HTTP}/2010-04-01/Accounts/{sid}/Concurrency/Calls.json"
        operator = lambda **form: requests.post(url(ACCOUNT), data=form, headers={"Authorization": f"Bearer {OPERATOR_TOKEN}"}, timeout=5).json()
        self.held, _ = self.call(5)
        equal(requests.post(url(ACCOUNT), data={"Limit": "50"}, auth=(ACCOUNT, AUTH_TOKEN), timeout=5).status_code, 403, "a program that raises its own limit")
        equal(len(self.call(1)[0]), 0, "calls that it lets in")
        equal(operator(Limit=7)["limit"], 7, "limit")
        more, refusals = self.call(3)
        equal((len(more), len(refusals)), (2, 1), "answered and refused of three more")
        self.held += more
        equal([operator(Limit=3)[name] for name in ("limit", "current_value")], [3, 7], "a smaller limit, and what there is")
        self.hang_up([self.held.pop() for _ in range(4)])
        wait_for(lambda: in_use(HTTP) == 3, 2, "four places to be free")
        equal((len(self.server.live()), len(self.call(1)[0])), (3, 0), "who talks still, and who is let in")
        self.hang_up([self.held.pop()])
        wait_for(lambda: in_use(HTTP) == 2, 2, "a place to be free")
        self.held += self.call(1)[0]
        equal(len(self.held), 3, "calls when there is room again")
        equal([operator(Limit=4, WhenFull="delay", Wait=300)[name] for name in ("limit", "when_full", "wait")], [4, "delay", 300], "what happens when it is full")
        equal([operator(Limit="", WhenFull="reject")[name] for name in ("limit", "when_full", "wait")], [5, "reject", None], "the configuration's limit")
        below = requests.post(f"http://{HTTP}/2010-04-01/Accounts.json", auth=(ACCOUNT, AUTH_TOKEN), timeout=5).json()
        of = lambda sid, token: requests.post(url(below["sid"]), data={"Limit": "1"}, auth=(sid, token), timeout=5)
        equal(of(below["sid"], below["auth_token"]).status_code, 403, "an account that was made by another sets its own limit")
        equal(of(ACCOUNT, AUTH_TOKEN).json().get("limit"), 1, "the limit that its maker sets")

    def delayed(self):
        """Who may wait is answered when another hangs up, refused when it has waited long enough, and can go meanwhile."""
        equal, phone = self.scenario.equal, self.phones[DELAYED]
        begin = lambda: phone.invite(LATER, sdp("127.0.0.1", 9))
        (first,), _ = self.call(1, DELAYED, LATER)
        second = begin()
        second.provisional(100)
        gone = begin()
        gone.provisional(100)
        equal((gone.cancel().status, gone.final().status), (200, 487), "one that waits and goes")
        time.sleep(0.2)
        self.hang_up([first])
        second.accepted(0.5)
        began = time.monotonic()
        self.is_refused(begin().final(), f"account {DELAYED} has")
        waited = time.monotonic() - began
        self.scenario.check(WAIT - 0.1 <= waited <= WAIT + 0.4, f"it waits {waited:.2f} s")
        self.said_full(self.login(DELAYED), 1)
        self.hang_up([second])
        self.is_free(DELAYED, TOKEN)
        return f"refused after {waited:.2f} s"

    def preempted(self):
        """A call of more priority ends another, and takes its place. One of as little does not."""
        equal = self.scenario.equal
        (weak,), _ = self.call(1, PREEMPTED, USUAL)
        sid = self.sid(weak)
        _, (answer,) = self.call(1, PREEMPTED, USUAL)
        self.is_refused(answer, f"account {PREEMPTED} has")
        urgent = self.phones[PREEMPTED].invite(URGENT, sdp("127.0.0.1", 9))
        weak.wait_bye(2)
        urgent.accepted(2)
        client = self.login(PREEMPTED)
        wait_for(lambda: client.calls(sid).fetch().status == "completed", 2, "the call to be over")
        equal(self.codes(client, sid), ["10004"], "what its customer is told")
        equal(len(self.call(1, PREEMPTED, URGENT)[0]), 0, "another of that priority")
        self.hang_up([urgent])
        self.is_free(PREEMPTED, TOKEN)

    def meeting(self):
        """One participant too many goes on with the next verb."""
        client = self.login(MEETING)
        (first,), _ = self.call(1, MEETING, ROOM)
        wait_for(lambda: shown(HTTP, MEETING, TOKEN, "/ConferenceParticipants")["current_value"] == 1, 2, "the first to be in the conference")
        (second,), _ = self.call(1, MEETING, ROOM)
        (notice,) = wait_for(lambda: client.calls(self.sid(second)).notifications.list(), 2, "what the customer is told")
        full = f"account {MEETING} has as many participants of conferences at once as it may"
        self.scenario.check(full in urllib.parse.unquote_plus(notice.message_text), notice.message_text)
        self.hang_up([first])
        wait_for(lambda: shown(HTTP, MEETING, TOKEN, "/ConferenceParticipants")["current_value"] == 0, 2, "the place to be free")
        (third,), _ = self.call(1, MEETING, ROOM)
        wait_for(lambda: shown(HTTP, MEETING, TOKEN, "/ConferenceParticipants")["current_value"] == 1, 2, "another to be in the conference")
        self.hang_up([second, third])

    def lines(self):
        """A trunk has a limit, and the whole server has one."""
        self.held += self.call(5 - len(self.held))[0]
        narrow, (answer,) = self.call(3, LINES, FAX)
        self.is_refused(answer, "trunk narrow has")
        wide = Phone(SIP, "+15556100002", local=("127.0.0.6", 0))
        last, (answer,) = ring(wide, FAX, 2)
        self.is_refused(answer, "the server has")
        self.scenario.equal(len(self.held + narrow + last), ALL, "calls of the whole server")
        self.hang_up(narrow + last)
        wide.close()

    def requests(self):
        """Two requests whose bodies do not end hold the places: a third is refused, until one is over or has gone."""
        equal, client = self.scenario.equal, self.login(ASKING)
        ask = lambda sid, token: requests.get(f"http://{HTTP}/2010-04-01/Accounts/{sid}/Calls.json", auth=(sid, token), timeout=5)
        count = lambda: ask(ASKING, TOKEN).headers.get("Twilio-Concurrent-Requests")
        equal(count(), "1", "Twilio-Concurrent-Requests of one request")
        slow = [self.slow_request() for _ in range(2)]
        refusal = self.refusal(client)
        equal(refusal and (refusal.status, refusal.code), (429, 20429), "the refusal of a third")
        equal(ask(ACCOUNT, AUTH_TOKEN).status_code, 200, "another account's request")
        slow[0].sendall(b"x" * 60)
        equal(slow[0].recv(4096).split(b" ")[1], b"400", "the end of a slow request")
        slow[0].close()
        equal(count(), "2", "Twilio-Concurrent-Requests beside a slow request")
        slow[1].close()
        wait_for(lambda: self.asking() == 1, 2, "the place of one that has gone to be free")

    def slow_request(self):
        """One whose body does not come."""
        credentials = "Basic " + base64.b64encode(f"{ASKING}:{TOKEN}".encode()).decode()
        slow = socket.create_connection(tuple(HTTP.split(":")))
        slow.settimeout(3)
        slow.sendall(f"POST /2010-04-01/Accounts/{ASKING}/Calls.json HTTP/1.1\r\nHost: {HTTP}\r\nAuthorization: {credentials}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 60\r\nExpect: 100-continue\r\n\r\n".encode())
        # Whoever is to read the body asks for it: the request has its place.
        self.scenario.equal(slow.recv(4096).split(b" ")[1], b"100", "what comes first")
        return slow

    @staticmethod
    def refusal(client):
        """Of a request, if it is refused."""
        try:
            client.api.accounts(ASKING).fetch()
        except TwilioRestException as error:
            return error

    def asking(self):
        """How many requests are served, this one among them."""
        return shown(HTTP, ASKING, TOKEN, "/Api").get("current_value")

    def flood(self):
        """Sixteen programs, and one place for all of them: who asks again when it is refused has its answer in the end."""
        refusals, slow = [], self.slow_request()

        def program(_):
            client = self.login(ASKING)
            for _ in range(5):
                while error := self.refusal(client):
                    refusals.append((error.status, error.code))
                    time.sleep(0.02)

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            list(pool.map(program, range(16)))
        slow.close()
        self.scenario.equal(set(refusals), {(429, 20429)}, "refusals")
        impeded = self.server.metric("dialtone_concurrency_impeded_total", resource="api", action="reject")
        self.scenario.check(impeded >= len(refusals), f"the count of what was refused: {impeded}")
        wait_for(lambda: self.asking() == 1, 2, "all places but that of the one who asks to be free")
        return f"80 answered, {len(refusals)} times refused before"

    def measured(self):
        """The gauges of an account show what it holds and may hold, and then that it holds nothing."""
        self.server.wait_metric(5, "dialtone_concurrency_used", account=ACCOUNT, resource="calls")
        self.scenario.equal(self.server.metric("dialtone_concurrency_limit", account=ACCOUNT, resource="calls"), 5, "limit")
        self.hang_up(self.held)
        self.is_free()

    def stop(self):
        self.carrier.is_open = False
        for phone in self.phones.values():
            phone.close()
        self.scenario.equal(self.server.stop(), 0, "exit code")
