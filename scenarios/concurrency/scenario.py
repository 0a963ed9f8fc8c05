"""An account has no more calls, requests and participants at once than it may, at one edge or at several, whatever befalls them."""

import base64
import concurrent.futures
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import requests
from callers import IN_TROUBLE, Crowd
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

from lib.carrier import BusyCarrier
from lib.document import Document
from lib.edges import child, edges, listen_on
from lib.leg import Leg
from lib.scenario import Failed, Scenario, wait_for
from lib.server import ACCOUNT, AUTH_TOKEN, OPERATOR_TOKEN, Server, base_config
from lib.sip import Phone, sdp

SIP, HTTP, APP, FAR = ("127.0.0.1", 17060), "127.0.0.1:17040", 17030, ("127.0.0.1", 17069)
ECHO, SLOW, LATER, ROOM, USUAL, URGENT, FAX = (f"+1555600000{digit}" for digit in range(7))
DELAYED, PREEMPTED, MEETING, LINES, ASKING = ("AC" + letter * 32 for letter in "12345")
TOKEN = "of-an-account-with-limits"
# What the whole server may have, and how long a call of DELAYED waits.
ALL, WAIT = 8, 1.2
# What an account may have at two edges, and at four.
SHARED, MANY = 6, 50
# The application of SLOW takes so long to say what is to be done.
THINKS = 0.02
# Seconds without trouble, before the long form ends.
QUIET = 60


def table(kind, **keys):
    return f"\n[[{kind}]]\n" + "".join(f"{name} = {value if name == 'limits' else json.dumps(value)}\n" for name, value in keys.items())


def account(sid, limits):
    return table("account", sid=sid, auth_token=TOKEN, limits=limits)


def trunk(sid, host, name="phones", **keys):
    return table("trunk", account=sid, name=name, **{"from": [host]}, **keys)


def number(sid, text, verbs="<Echo/>", **keys):
    return table("number", account=sid, number=text, **(keys if "voice_url" in keys else {"twiml": f"<Response>{verbs}</Response>"} | keys))


def phones(limit):
    """Accounts whose calls come to one server, or to several. The first line belongs to the account that every configuration has."""
    return (
        f"limits = {{ calls = {limit} }}\n"
        + trunk(ACCOUNT, "127.0.0.1", uri=f"sip:{FAR[0]}:{FAR[1]}", numbers=[ECHO])
        + number(ACCOUNT, ECHO)
        + number(ACCOUNT, SLOW, voice_url=f"http://127.0.0.1:{APP}/")
        + account(DELAYED, f'{{ calls = 1, when_full = "delay", wait = "{WAIT * 1000:.0f}ms" }}')
        + trunk(DELAYED, "127.0.0.2")
        + number(DELAYED, LATER)
    )


OTHERS = (
    account(PREEMPTED, '{ calls = 1, when_full = "preempt" }')
    + trunk(PREEMPTED, "127.0.0.3")
    + number(PREEMPTED, USUAL)
    + number(PREEMPTED, URGENT, priority=5)
    + account(MEETING, "{ conference_participants = 1 }")
    + trunk(MEETING, "127.0.0.4")
    + number(MEETING, ROOM, "<Dial><Conference>all</Conference></Dial><Pause length='9'/>")
    + account(LINES, "{}")
    + trunk(LINES, "127.0.0.5", "narrow", calls=2)
    + trunk(LINES, "127.0.0.6", "wide")
    + number(LINES, FAX)
    + account(ASKING, "{ api = 2 }")
)


def shown(http, sid=ACCOUNT, token=AUTH_TOKEN, what="/Calls"):
    """What `Concurrency` says."""
    return requests.get(f"http://{http}/2010-04-01/Accounts/{sid}/Concurrency{what}.json", auth=(sid, token), timeout=5).json()


def in_use(http, sid=ACCOUNT, token=AUTH_TOKEN):
    return shown(http, sid, token)["current_value"]


def slowly(request):
    time.sleep(THINKS)
    request.document("<Response><Echo/></Response>")


def take_back(scenario, phone, called, delays):
    """A call after another that is taken back so soon; how many were answered, and hung up then."""
    answered = 0
    for delay in delays:
        call = phone.invite(called, sdp("127.0.0.1", 9))
        time.sleep(delay)
        cancelled, final = call.cancel().status, call.final().status
        scenario.check((cancelled, final) in ((200, 487), (200, 200), (481, 200)), f"answers to a CANCEL and its INVITE: {cancelled}, {final}")
        if final == 200:
            answered += 1
            call.ack()
            scenario.equal(call.bye().status, 200, "BYE")
    return answered


def ring(phone, called, count):
    """So many calls at once: those that are answered, and the refusals of the others."""
    calls = [phone.invite(called, sdp("127.0.0.1", 9)) for _ in range(count)]
    answers = [call.final() for call in calls]
    answered = [call for call, answer in zip(calls, answers) if answer.status == 200]
    for call in answered:
        call.ack()
    return answered, [answer for answer in answers if answer.status != 200]


class OneServer:
    """What a server does by itself."""

    def __init__(self, scenario):
        self.scenario, self.held = scenario, []

    def start(self):
        config = base_config(f"{SIP[0]}:{SIP[1]}", HTTP, "17100-17199", more=phones(5) + OTHERS, workers=0)
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
        for call in calls:
            self.scenario.equal(call.bye().status, 200, "BYE")

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
        answered = take_back(self.scenario, phone, SLOW, (0, 0.01, 0.014, 0.016, 0.018, 0.02, 0.022, 0.024, 0.03, 0.1))
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
        """Sixteen programs that ask again when they are refused all have their answers."""
        refusals = []

        def program(_):
            client = self.login(ASKING)
            for _ in range(5):
                while error := self.refusal(client):
                    refusals.append((error.status, error.code))
                    time.sleep(0.02)

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            list(pool.map(program, range(16)))
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


class TwoEdges:
    """What edges do that share a limit."""

    def __init__(self, scenario):
        self.scenario = scenario

    def start(self):
        """By a Redis, without which nobody is let in; and two others by the PostgreSQL alone."""
        (self.left, self.right), self.stores = edges(self.scenario, 17200, phones(SHARED), cluster_more='on_store_loss = "closed"\n')
        self.alone = [self.by_database(name, base) for name, base in (("one", 17500), ("other", 17600))]
        self.phones = [Phone(edge.sip, "+15556100001") for edge in (self.left, self.right)]
        # Most of what happens to them is that a lease ends: it does so meanwhile.
        self.at_database = concurrent.futures.ThreadPoolExecutor(1).submit(self.databases)

    def by_database(self, name, base):
        config = base_config(f"127.0.0.1:{base}", f"127.0.0.1:{base + 2}", f"{base + 10}-{base + 99}", more=phones(SHARED), workers=0)
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
        for call in left[0] + right[0]:
            equal(call.bye().status, 200, "BYE")
        self.are_free(self.left, self.right)

    def delayed(self):
        """Who waits at one edge is answered when somebody hangs up at the other."""
        first, second = (Phone(edge.sip, "+15556100001", local=("127.0.0.2", 0)) for edge in (self.left, self.right))
        (call,), _ = ring(first, LATER, 1)
        waits = second.invite(LATER, sdp("127.0.0.1", 9))
        time.sleep(0.3)
        self.scenario.check(second.transport.find(lambda message: message.status >= 200, 0) is None, "the second is not answered yet")
        self.scenario.equal(call.bye().status, 200, "BYE")
        at = time.monotonic()
        waits.accepted(0.6)
        after = time.monotonic() - at
        self.scenario.equal(waits.bye().status, 200, "BYE")
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
        for call in self.calls[2:]:
            equal(call.bye().status, 200, "BYE")
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
        for call in [*self.calls[:2], *more]:
            equal(call.bye().status, 200, "BYE")
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
        one, other = self.alone
        told = self.crowd(self.alone, 1.5)
        phones = [Phone(server.sip, "+15556100001") for server in self.alone]
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
        for call in kept + more:
            equal(call.bye().status, 200, "BYE")
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
        self.edges, self.stores = edges(self.scenario, 17200, phones(MANY), ("north", "east", "south", "west"), 190, 'on_store_loss = "closed"\n')
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
        port = self.stores.redis.rsplit(":", 1)[1]
        self.stores.run("redis", "stop")
        time.sleep(2)
        self.stores.run("redis", "start", port)
        self.settle()

    def settle(self):
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


def short(scenario):
    one, two = OneServer(scenario), TwoEdges(scenario)
    scenario.step("start", one.start)
    for part in (
        one.refused, one.given_back_once, one.other_limit, one.delayed, one.preempted, one.meeting, one.lines, one.requests, one.flood,
    ):
        scenario.step(part.__name__.replace("_", " "), part)
    # The gauges of the one have their time while the others start.
    scenario.step("start", two.start)
    scenario.step("measured", one.measured)
    scenario.step("stop", one.stop)
    for part in (two.both, two.taken_back, two.delayed, two.lost, two.forgotten, two.stop, two.database):
        scenario.step(f"edges: {part.__name__.replace('_', ' ')}", part)
    scenario.summary = "calls, participants and requests at one server and at several: never one too many, and no place lost"


def long(scenario):
    minutes = float(sys.argv[sys.argv.index("--minutes") + 1]) if "--minutes" in sys.argv else 10
    four = FourEdges(scenario, minutes)
    scenario.step("start", four.start)
    four.befall()
    scenario.step("quiet", four.quiet)
    scenario.step("nothing is left", four.nothing_is_left)
    four.table()
    scenario.summary = f"{four.most} calls at once at most of {MANY}, {four.crowd.outcomes['admitted']} admitted, {four.troubles} rounds of trouble"


def main():
    with Scenario(__file__) as scenario:
        (long if scenario.long else short)(scenario)


if __name__ == "__main__":
    main()
