"""Two edges that are one: what happens at either is heard at both, and a stream goes on at the other when one is lost."""

import time

from accounts import APP, CROWD, ECHO, STEPS, TOKEN, Caller, accounts, contiguous, own, short, token, whole
from listeners import Follower, Listener
from sinks import Sink
from twilio.rest import Client

from lib.edges import two_edges
from lib.leg import Leg
from lib.scenario import wait_for
from lib.server import ACCOUNT, AUTH_TOKEN

BASE = 19400


class TwoEdges:
    def __init__(self, scenario):
        self.scenario = scenario

    def start(self):
        self.left, self.right, _ = two_edges(self.scenario, BASE, accounts())

    def at_once(self):
        """The first stream of an account is opened at one edge, and at once there is a call at the other: all of it is heard."""
        heard = {}
        for at, sid in enumerate(CROWD):
            here, there = (self.left, self.right) if at % 2 else (self.right, self.left)
            host, called = own(at)
            caller = Caller(self.scenario, there.sip, host)
            stream = Listener(here.http, token(sid, TOKEN))
            caller.calls(1, called)
            heard[sid] = (stream, caller)
        until = time.monotonic() + 3
        while time.monotonic() < until and any(len(stream.numbers) < len(STEPS) for stream, _ in heard.values()):
            time.sleep(0.01)
        missed = {sid: [step for step in STEPS if step not in seen] for sid, (stream, _) in heard.items() if (seen := [short(event) for event in stream.events]) != STEPS}
        for stream, caller in heard.values():
            stream.close()
            caller.close()
        self.scenario.equal(missed, {}, "EV-09: what the first streams of accounts have missed of calls at the other edge")
        return f"{len(heard)} accounts"

    def lost(self):
        """The edge of a stream is lost with its machine. The stream is opened again at the other, and goes on, as do the calls."""
        equal, left, right = self.scenario.equal, self.left, self.right
        reference, web_socket = Listener(right.http, token()), Listener(left.http, token(), web_socket=True)
        follower = Follower([left.http, right.http], token())
        wait_for(lambda: all(one.frames for one in (reference, web_socket, follower.parts[0])), 3, "the snapshots")
        began = reference.frames[0].number
        callers = [Caller(self.scenario, edge.sip) for edge in (left, right)]
        for _ in range(3):
            for caller in callers:
                caller.calls(1)
        for one in (reference, web_socket, follower):
            one.wait(6 * len(STEPS))
            whole(self.scenario, one.events, 6)
        equal(follower.texts, reference.texts, "EV-09: what is heard at both edges")
        # Its calls go on at the other edge.
        legs = [Leg(left.sip, ECHO) for _ in range(2)]
        snapshot = Listener(right.http, token()).wait_named("snapshot").data["calls"]
        equal([call["status"] for call in snapshot], ["in-progress"] * 2, "EV-09: what a snapshot at one edge says of calls at the other")
        running = 6 * len(STEPS) + 2 * (len(STEPS) - 1)
        follower.wait(running)
        time.sleep(0.3)
        left.kill()
        at = time.monotonic()
        callers[1].calls(2)
        for leg in legs:
            leg.phone.transport.server = right.sip
            self.scenario.check(leg.reinvited(8) is not None, "EV-09: a caller is told where its call is now")
        back = time.monotonic() - at
        for leg in legs:
            equal(leg.call.bye().status, 200, "EV-09: BYE at the edge that is left")
            leg.stop()
        callers[1].calls(1)
        total = running + 2 + 3 * len(STEPS)
        for one in (reference, follower):
            one.wait(total, 8)
        time.sleep(0.2)
        contiguous(self.scenario, follower.numbers, began + 1)
        equal(follower.texts, reference.texts, "EV-09: what was heard by the one that had to come back, and the one that had not")
        whole(self.scenario, follower.events, 11)
        equal((len(follower.parts), follower.said(1)), (2, []), "EV-09: how often it was opened, and what was said of that")
        self.scenario.check(web_socket.is_over, "EV-09: a WebSocket of a machine that is gone is over")
        again = Listener(right.http, token(), web_socket.last, web_socket=True).wait(total - len(web_socket.numbers))
        equal(web_socket.texts + again.texts, reference.texts, "EV-09: the same by WebSocket")
        (right.folder / "received").write_text("\n".join(follower.lines))
        code, said = right.run("verify", "received")
        equal((code, said.splitlines()[-1]), (0, "11 calls, 11 whole, 0 not"), "EV-09: dialtone verify")
        for one in (*callers, reference, again, follower):
            one.close()
        return f"its calls go on {back:.1f} s after an edge was lost; {total} events, none twice"

    def suspended(self):
        """EV-03: an account is suspended at one edge, and its streams at the other end."""
        client = Client(ACCOUNT, AUTH_TOKEN)
        client.api.base_url = f"http://{self.left.http}"
        made = client.api.v2010.accounts.create(friendly_name="customer")
        shown = token(made.sid, made.auth_token)
        wait_for(lambda: self.is_let_in(shown), 2, "the other edge to know the account")
        streams = [Listener(self.right.http, shown), Listener(self.right.http, shown, web_socket=True)]
        at = time.monotonic()
        client.api.v2010.accounts(made.sid).update(status="suspended")
        for one in streams:
            one.wait_named("revoked")
            one.wait_over(1)
        return f"ended {max(one.frames[-1].at for one in streams) - at:.1f} s after that"

    def is_let_in(self, shown):
        one = Listener(self.right.http, shown)
        one.close()
        return one.status == 200

    def sink(self):
        """EV-10: of two edges one at a time sends to a sink: it has all of both, once each."""
        callers = [Caller(self.scenario, edge.sip) for edge in (self.left, self.right)]
        heard = Listener(self.left.http, token())
        heard.wait_named("snapshot")
        sink = Sink(self.scenario, APP + 1, self.left.http)
        sink.validated()
        sink.subscribed()
        for _ in range(5):
            for caller in callers:
                caller.calls(1)
        heard.wait(10 * len(STEPS))
        sink.has_all(heard.events)
        time.sleep(0.3)
        sink.has_all(heard.events)
        for one in (*callers, heard):
            one.close()
        return f"{len(sink.ids())} events in {len(sink.requests) - 1} requests"

    def stop(self):
        self.scenario.equal(self.right.stop(), 0, "exit code")
