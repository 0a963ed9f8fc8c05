"""One server: who may listen, what each is told and in which order, who does not read, and what a crash leaves."""

import base64
import concurrent.futures
import json
import os
import signal
import statistics
import time

import requests
from accounts import (
    APP, CALLER, CHANGED, CROWD, ECHO, FAULTS, HTTP, KEYS, LATE, LOUD, OTHER_TOKEN, SIP, STEPS, STOPPED, TOKEN,
    Caller, account, accounts, broken, by_call, contiguous, own, short, steps_of, token, whole, with_callers,
)
from listeners import Follower, Listener, stuck
from sinks import Sink
from twilio.jwt.access_token import AccessToken
from twilio.jwt.client import ClientCapabilityToken
from twilio.rest import Client

from lib.edges import child
from lib.scenario import wait_for
from lib.server import ACCOUNT, AUTH_TOKEN, Server, base_config
from lib.sip import sdp

# As the server has them: events that a listener may be behind.
BUFFER = 1_024
SPENDER, LATE_CALLER = ("127.0.2.1", "+15558000003"), ("127.0.2.2", "+15558000005")
NODE_TYPE = "call.completed"


def config(crowd, changed=TOKEN):
    more = accounts(crowd) + account(CHANGED, changed) + with_callers(STOPPED, *SPENDER) + with_callers(LATE, *LATE_CALLER)
    return base_config(f"{SIP[0]}:{SIP[1]}", HTTP, "20100-20999", more=more)


class OneServer:
    def __init__(self, scenario, crowd=CROWD):
        self.scenario, self.first, self.config = scenario, 0.0, config(crowd)

    def start(self):
        self.server = Server(self.scenario, self.config).start()
        self.caller = Caller(self.scenario, SIP)
        # Hears everything of this account, to the end.
        self.follower = Follower([HTTP], token())
        # It takes a while to read its packages.
        filters = json.dumps({"Type": NODE_TYPE, "From": CALLER})
        self.scenario.start(["node", self.scenario.here / "program.js", f"http://{HTTP}", ACCOUNT, AUTH_TOKEN, filters], log="program.out", env=os.environ)

    def program(self, what):
        """What the Node program has told of that."""
        lines = (self.scenario.folder / "program.out").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith(f'{{"what":"{what}"')]

    def quiet(self, live=0):
        """Everything was told that is known of calls so far, of which so many run."""
        self.follower.wait(self.caller.events - live, 20)

    def live(self):
        """A call that runs."""
        call = self.caller.call()
        self.quiet(live=1)
        return call

    def end(self, *listeners):
        for one in listeners:
            one.close()

    def refused(self):
        """EV-02: nobody without a right token; a query only narrows; what is not known is said with what is."""
        equal, check = self.scenario.equal, self.scenario.check
        one = token()
        head, _, signature = one.rpartition(".")
        unscoped, elsewhere = ClientCapabilityToken(ACCOUNT, AUTH_TOKEN), ClientCapabilityToken(ACCOUNT, AUTH_TOKEN)
        unscoped.allow_client_incoming("jenny")
        elsewhere.allow_event_stream()
        elsewhere.capabilities["events"].params["path"] = "/2010-04-01/Calls"
        unsigned = base64.urlsafe_b64encode(b'{"typ":"JWT","alg":"none"}').decode().rstrip("=") + "." + one.split(".")[1] + "."
        tokens = {
            "no token": None,
            "something else": "x",
            "signed with another secret": token(secret="of-nobody-in-particular-77e1"),
            "a changed signature": f"{head}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}",
            "not signed": unsigned,
            "an issuer that nobody knows": token("AC" + "0" * 32),
            "signed by another account": token(CROWD[0], AUTH_TOKEN),
            "expired": token(ttl=-5),
            "valid for longer than a day": token(ttl=3 * 86400),
            "no scope": unscoped.to_jwt(),
            "a scope of another path": elsewhere.to_jwt(),
            "a filter that nobody knows": token(Colour="red"),
            "an access token": AccessToken(ACCOUNT, "SK" + "1" * 32, AUTH_TOKEN).to_jwt(),
        }
        self.caller.calls(1)
        tried = [(what, Listener(HTTP, shown, web_socket=by)) for what, shown in tokens.items() for by in (False, True)]
        tried += [("credentials that are wrong", Listener(HTTP, basic=(ACCOUNT, "wrong")))]
        equal([(what, one.status) for what, one in tried if one.status != 401], [], "EV-02: what is not answered with 401")
        equal([what for what, one in tried if one.error != 20003], [], "EV-02: errors of another number")
        equal([(what, one.body) for what, one in tried if "specversion" in one.body or "callsid" in one.body.lower()], [], "EV-02: answers that tell something")
        narrow = token(Type="call", CallSid="CA" + "1" * 32)
        wider = [{"Type": "recording"}, {"Type": "call,message"}, {"CallSid": "CA" + "2" * 32}, [("CallSid", "CA" + "1" * 32), ("CallSid", "CA" + "2" * 32)]]
        equal([Listener(HTTP, narrow, filters=filters).status for filters in wider], [403] * len(wider), "EV-02: what a token does not allow")
        narrower = [{"Type": "call.completed"}, {"From": CALLER}, {"CallSid": "CA" + "1" * 32, "Type": "call.ringing,call.answered"}]
        opened = [Listener(HTTP, narrow, filters=filters) for filters in narrower] + [Listener(HTTP, basic=(ACCOUNT, AUTH_TOKEN)), Listener(HTTP, one)]
        equal([one.status for one in opened], [200] * len(opened), "EV-02: less than a token allows, and the account's own credentials")
        for filters, known in (({"Type": "call.sung"}, ["call.sung", *STEPS, "recording.completed"]), ({"Colour": "red"}, ["Colour", "Type", "CallSid", "PhoneNumber"])):
            answer = Listener(HTTP, one, filters=filters)
            equal((answer.status, answer.error), (400, 20001), f"EV-02: {filters}")
            equal([word for word in known if word not in answer.body], [], f"EV-02: what the answer to {filters} does not say")
        equal(Listener(HTTP, one, last="soon").status, 400, "EV-02: a Last-Event-ID that is no number")
        for one in opened:
            one.close()
        return f"{len(tried)} tries refused"

    def tokens(self):
        """EV-01: tokens of both packages, with their filters, in either way in which they write those."""
        equal, check = self.scenario.equal, self.scenario.check
        (opened,) = wait_for(lambda: self.program("opened"), 5, "the Node program to open the stream")
        equal((opened["status"], opened["type"]), (200, "text/event-stream"), "EV-01: the answer to the Node package's token")
        check("appParams=" in opened["scope"], f"EV-01: the filters of the Node package: {opened['scope']}")
        wait_for(lambda: self.program("snapshot"), 2, "the Node program's first frame")
        live = self.live()
        everything = Listener(HTTP, token())
        sid = everything.wait_named("snapshot").data["calls"][0]["sid"]
        named = {
            "all": everything,
            "by CallSid": Listener(HTTP, token(CallSid=sid)),
            "by type": Listener(HTTP, token(Type="call.completed")),
            "by another name of it": Listener(HTTP, token(type="com.twilio.voice.status-callback.call.completed")),
            "by group": Listener(HTTP, token(Type="call")),
            "by two types": Listener(HTTP, token(Type=["call.initiated", "call.completed"])),
            "by token and query": Listener(HTTP, token(Type="call"), filters={"CallSid": sid}),
            "by number": Listener(HTTP, token(PhoneNumber=ECHO)),
            "by another's number": Listener(HTTP, token(PhoneNumber="+15550000000")),
            "by WebSocket": Listener(HTTP, token(CallSid=sid, Type="call.completed"), web_socket=True),
        }
        for what, one in named.items():
            one.wait_named("snapshot")
            if what != "by WebSocket":
                equal((one.status, one.headers["content-type"], one.headers["cache-control"]), (200, "text/event-stream", "no-store"), f"EV-01: the answer {what}")
        self.first = statistics.median(one.first for one in named.values() if one.first)
        check(max(one.first for one in named.values() if one.first) < 1, f"EV-01: the first frame after {self.first:.2f} s")
        self.caller.hang_up(live)
        for _ in range(2):
            self.quiet()
            self.caller.calls(1)
        everything.wait(9)
        expected = {
            "all": ["call.completed", *STEPS, *STEPS],
            "by CallSid": ["call.completed"],
            "by type": ["call.completed"] * 3,
            "by another name of it": ["call.completed"] * 3,
            "by group": ["call.completed", *STEPS, *STEPS],
            "by two types": ["call.completed", *["call.initiated", "call.completed"] * 2],
            "by token and query": ["call.completed"],
            "by number": ["call.completed", *STEPS, *STEPS],
            "by another's number": [],
            "by WebSocket": ["call.completed"],
        }
        time.sleep(0.1)
        equal({what: [short(event) for event in one.events] for what, one in named.items()}, expected, "EV-01: what each filter lets through")
        equal({event["callsid"] for what in ("by CallSid", "by token and query", "by WebSocket") for event in named[what].events}, {sid}, "EV-01: whose events these are")
        equal([len(named[what].named("snapshot").data["calls"]) for what in ("by CallSid", "by number", "by another's number")], [1, 1, 0], "EV-01: live calls that a filter shows")
        told = wait_for(lambda: len(found := self.program("event")) >= 3 and found, 2, "the Node program to be told")
        equal({short(one["told"]) for one in told}, {NODE_TYPE}, "EV-01: what the Node program was told")
        equal([one["number"] for one in told[-3:]], [str(number) for number in named["by type"].numbers], "EV-01: their numbers, in both programs")
        for one in named.values():
            one.close()
        return f"the first frame after {self.first * 1000:.0f} ms"

    def crowd(self):
        """EV-04: accounts that have calls at the same time; each stream has its own account's events, and all of them."""
        equal, calls = self.scenario.equal, 5
        streams = {sid: Listener(HTTP, token(sid, TOKEN), web_socket=at % 2 == 1) for at, sid in enumerate(CROWD)}
        callers = {sid: Caller(self.scenario, SIP, own(at)[0]) for at, sid in enumerate(CROWD)}
        with concurrent.futures.ThreadPoolExecutor(len(CROWD)) as pool:
            list(pool.map(lambda at: callers[CROWD[at]].calls(calls, own(at)[1]), range(len(CROWD))))
        for sid, stream in streams.items():
            stream.wait(calls * len(STEPS))
        time.sleep(0.1)
        equal([(sid, event["accountsid"]) for sid, stream in streams.items() for event in stream.events if event["accountsid"] != sid], [], "EV-04: events of another account")
        for sid, stream in streams.items():
            whole(self.scenario, stream.events, calls)
            contiguous(self.scenario, stream.numbers, 1)
            listed = requests.get(f"http://{HTTP}/2010-04-01/Accounts/{sid}/Calls.json", auth=(sid, TOKEN), timeout=5).json()["calls"]
            equal({event["callsid"] for event in stream.events}, {call["sid"] for call in listed}, "EV-04: calls that the stream and the API know")
        for one in (*streams.values(), *callers.values()):
            one.close()
        return f"{len(CROWD)} accounts, {len(CROWD) * calls} calls"

    def resumed(self):
        """EV-05, EV-06: in order, without a gap, from how things stand; and after a pause exactly what was missed."""
        equal = self.scenario.equal
        live = self.live()
        both = [Listener(HTTP, token()), Listener(HTTP, token(), web_socket=True)]
        stands = [one.wait_named("snapshot").data for one in both]
        for stand in stands:
            equal([(call["status"], call["from"], call["to"]) for call in stand["calls"]], [("in-progress", CALLER, ECHO)], "EV-06: live calls in the snapshot")
        began = both[0].frames[0].number
        # A client that says something loses nothing by that.
        equal([stand["cursor"] for stand in stands], [str(began)] * 2, "EV-06: where the snapshots stand")
        for _ in range(3):
            both[1].ping()
        self.caller.calls(2)
        self.caller.hang_up(live)
        for one in both:
            one.wait(9)
            contiguous(self.scenario, one.numbers, began + 1)
            whole(self.scenario, [event for event in one.events if event["callsid"] != stands[0]["calls"][0]["sid"]], 2)
        wait_for(lambda: both[1].pongs == 3, 2, "answers to pings")
        self.end(*both)
        last = both[0].last
        self.caller.calls(3)
        again = [Listener(HTTP, token(), last), Listener(HTTP, token(), last, web_socket=True)]
        for one in again:
            one.wait(12)
            contiguous(self.scenario, one.numbers, last + 1)
            whole(self.scenario, one.events, 3)
            equal(one.named("snapshot"), None, "EV-06: a snapshot for whoever goes on")
        self.caller.calls(1)
        for one in again:
            contiguous(self.scenario, one.wait(16).numbers, last + 1)
        # EV-12: both ways the same, to the letter.
        for sse, web_socket in (both, again):
            equal(sse.texts, web_socket.texts, "EV-12: what both ways tell")
        end = again[0].last
        far = Listener(HTTP, token(), end + 1000)
        reset, stand = far.wait_named("reset").data, far.wait_named("snapshot").data
        equal((reset["reason"], reset["last"], stand["cursor"], [frame.name for frame in far.frames]), ("unknown", end + 1000, str(end), ["reset", "snapshot"]), "EV-06: beyond the log")
        nothing = Listener(HTTP, token(), end)
        self.caller.calls(1)
        for one in (far, nothing):
            contiguous(self.scenario, one.wait(4).numbers, end + 1)
        everything = Listener(HTTP, token(), 0).wait(end + 4)
        contiguous(self.scenario, everything.numbers, 1)
        equal(everything.texts, self.follower.texts, "EV-06: the log, from its beginning on, and what was told meanwhile")
        self.end(*again, far, nothing, everything)

    def kinds(self):
        """EV-05: what else happens in a call stands between its steps, in its place."""
        self.quiet()
        before = len(self.follower.numbers)
        call = self.caller.call(KEYS)
        call.reinvite(sdp("127.0.0.1", 9, direction="sendonly", version=2))
        call.reinvite(sdp("127.0.0.1", 9, version=3))
        call.info("Signal=5\r\nDuration=100\r\n", "application/dtmf-relay")
        time.sleep(0.2)
        self.caller.hang_up(call)
        wait_for(lambda: "call.completed" in self.follower.texts[-1], 3, "the end of the call")
        told = self.follower.events[before:]
        # Those that are too many for the usual count.
        self.caller.events += len(told) - len(STEPS)
        self.scenario.equal([short(event) for event in told], [*STEPS[:3], "call.held", "call.held", "dtmf.received", STEPS[3]], "EV-05: what is told of a call that is held, taken back, and in which a key is pressed")
        self.scenario.equal(broken(told), [], "EV-05: its chain")

    def verified(self):
        """EV-12: `dialtone verify` takes what was received, in any form, and finds what is lost or changed."""
        equal, folder, received = self.scenario.equal, self.server.folder, self.follower
        events, calls = received.texts, by_call(received.events)
        forms = {"as a stream": "\n".join(received.lines), "line by line": "\n".join(events), "as batches": "[" + ",".join(events[::-1]) + "]", "twice": "\n".join(events + events[:9])}

        def verify(text, *more):
            (folder / "received").write_text(text)
            return self.server.run("verify", *more, "received")

        for form, text in forms.items():
            code, said = verify(text)
            equal((code, said.splitlines()[-1]), (0, f"{len(calls)} calls, {len(calls)} whole, 0 not"), f"EV-12: {form}")
        equal(broken(received.events), [], "EV-12: chains, by the rule that is written down")
        call = next(call for call, told in reversed(calls.items()) if len(told) == len(STEPS))
        at = {event["callsequence"]: number for number, event in enumerate(received.events) if event["callsid"] == call}
        for number, what in ((0, "from number 1 on"), (1, "event 1 is missing"), (2, "event 2 is missing"), (3, "no end")):
            code, said = verify("\n".join(events[: at[number]] + events[at[number] + 1 :]))
            line = next(line for line in said.splitlines() if call in line)
            self.scenario.check(code == 1 and what in line, f"EV-12: without event {number}: {code}, {said}")
        for number in range(4):
            changed = events[at[number]].replace(CALLER, "+15550000000", 1)
            code, said = verify("\n".join(events[: at[number]] + [changed] + events[at[number] + 1 :]))
            self.scenario.check(code == 1 and f"event {number} is not the one that was told" in said, f"EV-12: event {number} is another: {code}, {said}")
        code, said = verify("\n".join(events[at[1] : at[2] + 1]), "--partial")
        equal((code, verify("no event\n")[0]), (0, 1), "EV-12: a part, and no events at all")
        return f"{len(events)} events of {len(calls)} calls"

    def set_up(self, count):
        """Seconds that a call takes to be answered."""
        took = []
        for _ in range(count):
            at = time.monotonic()
            call = self.caller.call()
            took.append(time.monotonic() - at)
            self.caller.hang_up(call)
        return statistics.median(took)

    def stuck(self, many):
        """EV-07: listeners that never read are in nobody's way, and one that reads late goes on where it was."""
        equal, check, loud = self.scenario.equal, self.scenario.check, 2 * BUFFER // FAULTS
        per_call = FAULTS + len(STEPS)
        before = self.set_up(20)
        self.quiet()
        never = [stuck(HTTP, token()) for _ in range(many)]
        good = [Listener(HTTP, token()), Listener(HTTP, token(), web_socket=True)]
        slow = [Listener(HTTP, token(), waits=True), Listener(HTTP, token(), web_socket=True, waits=True)]
        wait_for(lambda: good[0].named("snapshot") and good[1].named("snapshot"), 3, "the snapshots")
        began = good[0].frames[0].number
        during = self.set_up(20)
        self.caller.calls(loud, LOUD)
        during = max(during, self.set_up(20))
        check(during < 3 * before + 0.02, f"EV-07: a call is answered after {during * 1000:.1f} ms, before the stuck ones after {before * 1000:.1f} ms")
        total = 40 * len(STEPS) + loud * per_call
        for one in good:
            wait_for(lambda: len(one.numbers) == total or one.is_over, 20, "the events")
            equal(([frame.name for frame in one.frames if frame.name], len(one.numbers)), (["snapshot"], total), "EV-07: what a stream that is read said of itself, and how many events it had")
            contiguous(self.scenario, one.numbers, began + 1)
        equal(good[0].texts, good[1].texts, "EV-07: what both ways tell")
        had = []
        for one in slow:
            one.go_on()
            wait_for(lambda: one.is_over or len(one.numbers) == total, 20, "the rest, or the end")
            cut, later = one.named("cut-off"), []
            if one.is_over:
                check(cut, f"EV-07: what is said last to one that read too late: {one.frames[-1].name!r}, after {len(one.numbers)} events of {total}")
                again = Listener(HTTP, token(), cut.data["cursor"], web_socket="sec-websocket-accept" in one.headers)
                later = again.wait(total - len(one.numbers), 20).texts
                again.close()
            had.append(f"cut off after {len(one.numbers)} of {total} events" if cut else "not cut off")
            equal(one.texts + later, good[0].texts, "EV-07: what it had, and has when it comes back")
            one.close()
        for one in (*never, *good):
            one.close()
        return f"{many} that never read: answered after {during * 1000:.1f} ms, {before * 1000:.1f} without; late readers: {', '.join(had)}"

    def at_once(self):
        """EV-07: more happens at once than a listener may be behind; whoever reads has it, and is not cut off for it."""
        calls = 2 * BUFFER // FAULTS + 20
        self.quiet()
        good = [Listener(HTTP, token()), Listener(HTTP, token(), web_socket=True)]
        wait_for(lambda: good[0].named("snapshot") and good[1].named("snapshot"), 3, "the snapshots")
        began = good[0].frames[0].number
        rung = [self.caller.ring(LOUD) for _ in range(calls)]
        for call in rung:
            call.accepted()
        self.caller.hang_up(*rung)
        total = calls * (FAULTS + len(STEPS))
        try:
            for one in good:
                wait_for(lambda: len(one.numbers) == total or one.is_over, 20, "the events")
                self.scenario.equal(([frame.name for frame in one.frames if frame.name], len(one.numbers)), (["snapshot"], total), "EV-07: what a stream that is read said of itself, and how many events it had")
                contiguous(self.scenario, one.numbers, began + 1)
        finally:
            for one in good:
                one.close()
        return f"{total} events of {calls} calls"

    def ended(self):
        """EV-03: a stream ends with the token, with the secret that has signed it, and with its account."""
        equal, check, server = self.scenario.equal, self.scenario.check, self.server
        parent = Client(ACCOUNT, AUTH_TOKEN)
        parent.api.base_url = f"http://{HTTP}"
        made = parent.api.v2010.accounts.create(friendly_name="customer")
        at = time.time()
        short_lived = [Listener(HTTP, token(ttl=2)), Listener(HTTP, token(ttl=2), web_socket=True)]
        changed = [Listener(HTTP, token(CHANGED, TOKEN)), Listener(HTTP, token(CHANGED, TOKEN), web_socket=True), Listener(HTTP, basic=(CHANGED, TOKEN))]
        closed = [Listener(HTTP, token(made.sid, made.auth_token)), Listener(HTTP, token(STOPPED, TOKEN), web_socket=True)]
        other = Listener(HTTP, token())
        began = time.monotonic()
        server.write_config(config(CROWD, OTHER_TOKEN))
        server.process.send_signal(signal.SIGHUP)
        parent.api.v2010.accounts(made.sid).update(status="suspended")
        self.spend()
        for one in (*changed, *closed):
            one.wait_named("revoked", 5)
            one.wait_over(1)
        after = max(one.frames[-1].at for one in (*changed, *closed)) - began
        for one in short_lived:
            one.wait_named("token-expired", 5)
            one.wait_over(1)
            equal([frame.name for frame in one.frames], ["snapshot", "token-expired"], "EV-03: what was told until the token expired")
        late = time.time() - (int(at) + 2)
        check(-1 <= late < 2, f"EV-03: it ended {late:.1f} s after the token expired")
        check("trigger.fired" in [short(event) for event in closed[1].events], "EV-03: a trigger that has stopped its account is told of")
        olds = [token(CHANGED, TOKEN), token(made.sid, made.auth_token), token(STOPPED, TOKEN)]
        equal([Listener(HTTP, old).status for old in olds], [401] * 3, "EV-03: the old tokens")
        new = Listener(HTTP, token(CHANGED, OTHER_TOKEN))
        equal((new.status, other.is_over, [frame.name for frame in other.frames]), (200, False, ["snapshot"]), "EV-03: a token by the new secret, and another account's stream")
        for one in (new, other):
            one.close()
        return f"ended {after:.1f} s after the change"

    def spend(self):
        """A use by which a trigger suspends the account."""
        form = {"CallbackUrl": f"http://127.0.0.1:{APP}/fired", "UsageCategory": "calls", "TriggerBy": "count", "TriggerValue": "+1", "Action": "suspend"}
        made = requests.post(f"http://{HTTP}/2010-04-01/Accounts/{STOPPED}/Usage/Triggers.json", data=form, auth=(STOPPED, TOKEN), timeout=5)
        self.scenario.equal(made.status_code, 201, made.text)
        caller = Caller(self.scenario, SIP, *SPENDER[:1])
        caller.calls(1, SPENDER[1])
        caller.close()

    def has_sink(self):
        """EV-10: a sink has what it is subscribed to, from the moment of its subscription on, also when it was not well."""
        self.sink = Sink(self.scenario, APP, HTTP)
        self.sink.validated()
        self.sink.subscribed()
        self.caller.calls(2)
        self.sink.has(2, "calls right after the subscription")

    def sink_unwell(self):
        self.quiet()
        self.since = len(self.follower.numbers)
        return self.sink.unwell(self.caller)

    def tokens_mean_one_thing(self):
        return self.sink.tokens_mean_one_thing()

    def sink_refuses(self):
        self.sink.refuses()

    def killed_amid(self):
        """EV-08: the server is killed amid calls. What is told of them is whole, and each event comes once and in order."""
        equal, follower = self.scenario.equal, self.follower
        self.quiet()
        before, opened = len(follower.numbers), len(follower.parts)
        # Some run then, some hang up, some begin. Which of the last are told of, and how far the others, is not known.
        rung = [self.caller.ring() for _ in range(15)]
        for call in rung:
            call.accepted()
        time.sleep(0.2)
        rung += [self.caller.ring() for _ in range(15)]
        for call in rung[:5]:
            self.caller.phone.transport.send(call.make("BYE"))
        self.server.kill()
        self.server.start()
        wait_for(lambda: all("call.completed" in steps_of(told) for told in by_call(follower.events[before:]).values()), 5, "the end of each call", every=0.1)
        time.sleep(0.3)
        amid = by_call(follower.events[before:])
        self.scenario.check(15 <= len(amid) <= 30, f"EV-08: calls that were told of: {len(amid)}")
        equal([steps for told in amid.values() if (steps := steps_of(told)) != [step for step in STEPS if step in steps]], [], "EV-08: steps of calls that ran when the server was killed")
        self.caller.events += sum(map(len, amid.values())) - len(rung) * len(STEPS)
        self.are_whole(opened)
        return f"{len(amid)} of {len(rung)} calls"

    def are_whole(self, opened):
        """All that was told of the account so far, and nothing else that the streams said which were opened since."""
        events = self.follower.events
        contiguous(self.scenario, self.follower.numbers, 1)
        self.scenario.equal(len({event["id"] for event in events}), len(events), "EV-08: ids")
        self.scenario.equal(broken(events), [], "EV-08: chains that are broken")
        self.scenario.equal(self.follower.said(opened), [], "EV-08: what the streams said of themselves when they were opened again")

    def killed(self):
        """EV-08: the server is killed during a call, and its edge alone. A sink that was not well meanwhile has the rest."""
        equal, server, follower = self.scenario.equal, self.server, self.follower
        self.quiet()
        opened = len(follower.parts)
        had = len(follower.numbers)
        running, tried = self.live(), len(self.sink.requests)
        self.sink.is_well = False
        self.caller.calls(1)
        # A server that is killed while it sends is waited for by the next one.
        wait_for(lambda: len(self.sink.requests) > tried, 3, "a request that is not taken")
        time.sleep(0.1)
        server.kill()
        server.start()
        self.sink.is_well = True
        equal(running.bye().status, 481, "EV-08: BYE of a call that is gone")
        # The edge alone: its calls go on.
        wait_for(lambda: server.workers("active") and server.workers("standby"), 5, "the workers", every=0.05)
        running, edge = self.live(), child(server, "edge")
        # And a call of an account to which somebody listens only since it runs.
        self.late = Caller(self.scenario, SIP, LATE_CALLER[0])
        unheard = self.late.call(LATE_CALLER[1])
        time.sleep(0.2)
        self.late_follower = Follower([HTTP], token(LATE, TOKEN))
        unheard.reinvite(sdp("127.0.0.1", 9, direction="sendonly", version=2))
        wait_for(lambda: self.late_follower.numbers, 2, "what happens in it")
        self.sink.is_up_to(follower.events[self.since :])
        os.kill(edge, signal.SIGKILL)
        wait_for(lambda: child(server, "edge") not in (None, edge) and self.is_ready(), 10, "another edge")
        self.caller.hang_up(running)
        self.late.hang_up(unheard)
        self.caller.calls(2)
        self.quiet()
        time.sleep(0.2)
        events = follower.events
        self.are_whole(opened)
        whole(self.scenario, events[had:], 5)
        statuses = [event["data"]["request"]["parameters"]["CallStatus"] for event in events[had:] if short(event) == "call.completed"]
        equal(sorted(statuses), ["completed"] * 4 + ["failed"], "EV-08: how the calls ended")
        (server.folder / "received").write_text("\n".join(follower.lines))
        code, said = server.run("verify", "received")
        equal((code, " 0 not" in said), (0, True), f"EV-08: dialtone verify: {said.splitlines()[-1]}")
        # One of them was long enough for its silence to be told of.
        self.caller.events += [short(event) for event in events[had:]].count("call.silent")
        self.sink.has_all(events[self.since :])
        return f"{len(follower.parts) - opened} times opened again"

    def listened_late(self):
        """EV-05: what happened before anybody listened is not told behind what happened since, whatever befalls the server."""
        wait_for(lambda: "call.completed" in map(short, self.late_follower.events), 3, "the end of the call")
        told = [event for event in self.late_follower.events if short(event) != "call.silent"]
        self.late.close()
        self.late_follower.close()
        times = [event["time"] for event in told]
        self.scenario.equal(times, sorted(times), f"EV-05: times of {[short(event) for event in told]}, in the order in which they were told")

    def is_ready(self):
        try:
            return self.server.get("/readyz")[0] == 200
        except OSError:
            return False

    def stop(self):
        """Whoever still listens keeps no server."""
        self.quiet()
        self.caller.close()
        began = time.monotonic()
        self.scenario.equal(self.server.stop(), 0, "exit code")
        took = time.monotonic() - began
        self.scenario.check(took < 3, f"it stops after {took:.1f} s")
        self.follower.close()
        self.scenario.check("panicked" not in self.server.log(), "something panicked")
