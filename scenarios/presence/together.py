"""Two edges that are one: who can be reached at either is known at both, and when one is lost nobody is said to be gone who comes back."""

import time

from people import CALM, Account, Device, Watcher

from lib.edges import two_edges
from lib.scenario import Failed, wait_for
from lib.server import number, trunk, user
from lib.sip import Phone, sdp

BASE, CALLERS, SECRET = 19800, "127.0.0.2", "secret-of-them-all"
ECHO, SINGLE, AWAY, CUT = (f"+1555820000{digit}" for digit in range(4))
SOUND = sdp("127.0.0.1", 9)
# Seconds from the loss of an edge until everybody is told of who does not come back.
ENOUGH = 15.0
# An edge is known to be dead later than that.
AT_ONCE = 1.5


def names(count):
    return [f"phone-{at}" for at in range(count)]


def more(count):
    # Whoever calls is answered when somebody answers, and never where nobody rings.
    dial = lambda identity: f"<Dial timeout='20' answerOnBridge='true'><Client>{identity}</Client></Dial>"
    users = [*names(count), "taken", "away", "boss", "cut"]
    return (
        trunk("callers", **{"from": [CALLERS]})
        + number(ECHO, "<Echo/>")
        + number(SINGLE, dial("single"))
        + number(AWAY, dial("away"))
        + number(CUT, dial("cut"))
        + "".join(user(name, SECRET) for name in users)
        + "".join(user(name, SECRET, call_waiting=False) for name in ("single", "talks"))
    )


class TwoEdges:
    def __init__(self, scenario, count):
        self.scenario, self.equal, self.check, self.count = scenario, scenario.equal, scenario.check, count

    def start(self):
        self.left, self.right, self.stores = two_edges(self.scenario, BASE, more(self.count))
        self.here = Account(self.left.http)
        self.there = self.here.at(self.right)
        self.heard = self.there.listen()
        self.heard.stream.wait_named("snapshot")
        # Long before the edge is lost: it has written this down.
        self.talks = self.device(self.left, "talks")
        self.heard.tells("talks", [True], calm=0)

    def device(self, edge, identity, name=None, **how):
        device = Device(edge.sip, identity, SECRET, name, **how)
        self.equal(device.register().status, 200, f"REGISTER of {identity}")
        return device

    def is_status(self, identity, status, seconds=2):
        for account in (self.here, self.there):
            try:
                wait_for(lambda: account.status(identity) == status, seconds)
            except Failed:
                raise Failed(f"the status of {identity} is {account.status(identity)} and not {status} at {account.http}") from None
            self.scenario.checks += 1

    def not_rung(self, called, *devices):
        call = Phone(self.right.sip, "+15556100001", local=(CALLERS, 0)).invite(called, SOUND)
        try:
            call.final(2)
        except Failed:
            call.cancel()
            raise Failed(f"a call to {called} rings at a device that cannot be called") from None
        self.equal([device.rung(0.1) for device in devices], [False] * len(devices), "devices that ring")

    def known_at_both(self):
        """What is said at one edge is known at the other: by REST, by the stream, by who watches, by who calls."""
        boss = Watcher(self.right.sip, "boss", SECRET)
        web = self.here.register("shy", web_socket=True)
        self.heard.tells("shy", [True], calm=0)
        watched = boss.subscribe("shy")
        self.equal(watched.basic, "open", "who watches at the other edge")
        web.say(available=False)
        self.is_status("shy", "away")
        self.heard.tells("shy", [True, False])
        wait_for(lambda: watched.basic == "closed", 1, "who watches at the other edge to be told")
        web.close()
        single, away = self.device(self.left, "single"), self.device(self.left, "away")
        for identity in ("single", "away"):
            self.heard.tells(identity, [True], calm=0)
        lamp = boss.subscribe("single", "dialog")
        call = single.invite(ECHO, SOUND).accepted()
        self.equal(away.publish("closed").status, 200, "PUBLISH")
        self.is_status("single", "busy")
        self.is_status("away", "away")
        wait_for(lambda: lamp.lamps == [("initiator", "confirmed")], 1, "the lamp at the other edge")
        self.not_rung(SINGLE, single)
        self.not_rung(AWAY, away)
        call.bye()
        self.is_status("single", "available")
        wait_for(lambda: lamp.lamps == [], 1, "the lamp to go out")
        single.unregister()
        away.unregister()
        boss.close()

    def removed(self):
        """A device is taken away by REST at the edge where it is not."""
        web, phone = self.here.register("taken", web_socket=True), self.device(self.left, "taken", tcp=True)
        wait_for(lambda: len(self.there.devices("taken")) == 2, 2, "the devices at the other edge")
        for device in self.there.devices("taken"):
            self.equal(self.there.remove("taken", device["sid"]), 204, "DELETE at the other edge")
        web.wait_named("removed", 3)
        self.heard.tells("taken", [True, False])
        self.equal((self.here.devices("taken"), self.there.devices("taken")), ([], []), "devices that are left")
        phone.close()

    def connection_lost(self):
        """Nobody is rung whose connection is gone: a phone of one edge is not rung from the other either."""
        phone = self.device(self.left, "cut", tcp=True)
        self.heard.tells("cut", [True], calm=0)
        phone.close()
        self.heard.tells("cut", [True, False], 6, calm=0)
        self.not_rung(CUT)

    def moves(self):
        """A device that connects to the other edge, though its first connection is not known to be gone, is one device, and was never away."""
        web = self.here.register("roams", "the same", web_socket=True)
        self.heard.tells("roams", [True], calm=0)
        again = self.there.register("roams", "the same", web_socket=True)
        time.sleep(CALM)
        self.equal([len(account.devices("roams")) for account in (self.here, self.there)], [1, 1], "devices at both edges")
        web.close()
        self.heard.tells("roams", [True])
        self.is_status("roams", "available")
        again.close()

    def lost(self):
        """PR-07: an edge is lost. Who comes back at the other at once was never gone; who does not is told to be gone, once."""
        count, check, equal = self.count, self.check, self.equal
        # Of one address only so many are challenged in a second, and have connections.
        local = lambda name: (f"127.0.3.{1 + int(name.split('-')[1]) // 100}", 0)
        phone = lambda edge, name: self.device(edge, name, f"1f-{name}", tcp=True, local=local(name))
        phones = {name: phone(self.left, name) for name in names(count)}
        webs = {f"web-{at}": self.here.register(f"web-{at}", "the same", web_socket=at % 2 == 0) for at in range(count)}
        everybody = [*phones, *webs]

        def told(wanted):
            stories = self.heard.stories()
            return {identity: stories[identity] for identity in everybody if stories[identity] != wanted(identity)}

        wait_for(lambda: not told(lambda _: [True]), 10, "everybody to be told to be there")
        self.call = self.talks.invite(ECHO, SOUND).accepted()
        self.is_status("talks", "busy")
        self.heard.tells("talks", [True, False], calm=0)
        at = time.monotonic()
        self.left.kill()
        opened, back = [], set()
        # Phones and web clients in turn, as many as come back before the death is known.
        for pair in zip(everybody[1::2], everybody[::-2]):
            for identity in pair:
                if identity not in back and time.monotonic() < at + AT_ONCE:
                    opened.append(phone(self.right, identity) if identity in phones else self.there.register(identity, "the same"))
                    back.add(identity)
        returned = time.monotonic() - at
        check(len(back) >= 10, f"{len(back)} were back at once")
        right = lambda identity: [True] if identity in back else [True, False]
        wait_for(lambda: not told(right) or time.monotonic() > at + ENOUGH, ENOUGH + 1)
        wrong = told(right)
        equal(dict(list(wrong.items())[:5]), {}, f"what is told of {len(wrong)} of {len(everybody)} otherwise than it should be")
        last = {frame.data["data"]["identity"]: frame.at for frame in self.heard.events}
        took = [last[identity] - at for identity in everybody if identity not in back]
        time.sleep(CALM)
        equal(told(right), {}, "what is told a while later")
        shown = {client["identity"]: client for client in self.there.listed()}
        equal({identity for identity in everybody if (identity in shown and shown[identity]["available"]) != (identity in back)}, set(), "who is otherwise by REST")
        equal({shown[identity]["devices"] for identity in back}, {1}, "devices of those that came back")
        self.opened = opened
        return f"{len(back)} of {len(everybody)} are back after {returned:.1f} s and never gone; the others are told to be gone after {min(took):.1f} to {max(took):.1f} s"

    def talks_on(self):
        """A call that goes on at the other edge makes its user busy still, until it ends."""
        equal, there = self.equal, self.there
        self.talks.transport.server = self.right.sip
        equal([one["status"] for one in wait_for(self.right.live, 3, "the call at the other edge")], ["in-progress"], "the call")
        equal(there.status("talks"), "busy", "its user, while the call goes on")
        equal(self.call.bye().status, 200, "BYE at the other edge")
        wait_for(lambda: there.status("talks") == "available", 2, "it to be available again")
        self.heard.tells("talks", [True, False, True], calm=0)

    def comes_home(self):
        """The edge that was lost is back, and knows what the other one knows, also of who went meanwhile; nothing is told again."""
        self.equal(self.talks.unregister().status, 200, "REGISTER that takes back what the lost edge has written down")
        self.heard.tells("talks", [True, False, True, False], calm=0)
        told = len(self.heard.events)
        self.left.start()
        clients = lambda account: sorted((one["identity"], one["status"], one["devices"]) for one in account.listed())
        wait_for(lambda: clients(self.here) == clients(self.there), 3, "both edges to know the same")
        time.sleep(CALM)
        self.equal([frame.data["data"] for frame in self.heard.events[told:]], [], "what is told when an edge comes back")
