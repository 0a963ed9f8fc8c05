"""One server: who can be reached there, as everybody who may ask is told."""

import concurrent.futures
import time

from people import CALM, GONE, GRACE, NEXT, Account, Device, Watcher

from lib.baresip import Baresip
from lib.document import Document
from lib.scenario import Failed, wait_for
from lib.server import Server, base_config, number, trunk, user
from lib.sip import Phone, sdp

SIP, HTTP, APP = ("127.0.0.1", 19760), "127.0.0.1:19740", 19730
# Callers come from there; what comes from elsewhere has to show who it is.
CALLERS = "127.0.0.2"
OTHER, OTHER_TOKEN, ELSEWHERE = "AC" + "e" * 32, "of-the-other-account-71b3", "elsewhere"
ECHO = "+15558100000"
SECRET = "secret-of-them-all"
USERS = ["jenny", "nobody", "by-token", "cut", "moves", "lost", "pair", "away", "waits", "lamp", "rings", "boss", "storm", "sip-gone", "counted", "softphone", "expires", "says", "kept"]
# Who is in a call is not called.
SINGLE = ["single", "two"]
DIALLED = ["pair", "nobody", "by-token", "away", "single", "two", "waits", "rings"]
BY_NUMBER = {identity: f"+1555810001{at}" for at, identity in enumerate(DIALLED)}
ENDED = f"http://127.0.0.1:{APP}/ended"


def dial(identity, more=""):
    return f"<Dial timeout='20' action='{ENDED}/{identity}'{more}><Client>{identity}</Client></Dial>"


MORE = (
    trunk("callers", **{"from": [CALLERS]})
    + number(ECHO, "<Echo/>")
    + "".join(user(name, SECRET) for name in USERS)
    + "".join(user(name, SECRET, call_waiting=False) for name in SINGLE)
    # Whoever calls is answered when the other one answers: until then both ring.
    + "".join(number(text, dial(identity, " answerOnBridge='true'")) for identity, text in BY_NUMBER.items())
    + f'\n[[account]]\nsid = "{OTHER}"\nauth_token = "{OTHER_TOKEN}"\n'
    + user("jenny", SECRET, account=OTHER, domain=ELSEWHERE)
)
# Of what baresip 1.0 can.
MD5 = "MD5"
SOUND = sdp("127.0.0.1", 9)


class OneServer:
    def __init__(self, scenario):
        self.scenario, self.equal, self.check = scenario, scenario.equal, scenario.check

    def start(self):
        config = base_config(f"{SIP[0]}:{SIP[1]}", HTTP, "19770-19799", sip_more=f'domains = ["dialtone", "{ELSEWHERE}"]\ndigest = ["{MD5}"]\n', more=MORE)
        self.server = Server(self.scenario, config).start()
        self.app = Document(APP, "<Response><Hangup/></Response>")
        self.account, self.other = Account(HTTP), Account(HTTP, OTHER, OTHER_TOKEN)
        self.heard, self.others_heard = self.account.listen(), self.other.listen()
        self.heard.stream.wait_named("snapshot")

    def device(self, identity, name=None, **more):
        """A device by SIP that is registered."""
        device = Device(SIP, identity, SECRET, name, algorithm=MD5, **more)
        self.equal(device.register().status, 200, f"REGISTER of {identity}")
        return device

    def is_status(self, identity, status, seconds=2):
        try:
            wait_for(lambda: self.account.status(identity) == status, seconds)
        except Failed:
            self.equal(self.account.client(identity), status, f"the status of {identity}")
        self.scenario.checks += 1

    def dials(self, identity):
        """Somebody calls who dials it."""
        return Phone(SIP, "+15556100001", local=(CALLERS, 0)).invite(BY_NUMBER[identity], SOUND)

    def not_rung(self, identity, *devices):
        """A call to it ends at once, and no device rings: what the application is told."""
        at, before = time.monotonic(), len(self.app.seen)
        call = self.dials(identity)
        call.final(8)
        took = time.monotonic() - at
        self.check(took < 2, f"the Dial of {identity} ends after {took:.1f} s")
        for device in devices:
            self.equal(device.rung(0.1), False, f"a device of {identity} rings")
        told = [form for form in self.app.seen[before:] if form.startswith(f"/ended/{identity} ")]
        self.equal(len(told), 1, f"how often the application hears of the Dial of {identity}")
        return told[0].split("DialCallStatus=")[1].split("&")[0]

    # Who may register.

    def refused(self):
        """PR-01, PR-02: tokens that let nobody be called, or are not what they should be, change nothing."""
        account, other = self.account, self.other
        for name, token, wanted in (
            ("without incoming calls", account.token("refused", incoming=False), (403, 31201)),
            ("expired", account.token("refused", ttl=-5), (401, 20104)),
            ("of another account's key", account.token("refused", signing_key_sid=other.key.sid, secret=other.key.secret), (401, 20101)),
            ("of our key for another account", account.token("refused", account_sid=other.sid), (401, 20101)),
            ("with another secret", account.token("refused", secret="x" * 32), (401, 20101)),
            ("that is none", "a.b.c", (401, 20101)),
            ("that is missing", "", (401, 20101)),
        ):
            for web_socket in (False, True):
                opened = account.open(token, web_socket=web_socket)
                self.equal((opened.status, opened.error), wanted, f"a token {name}")
        # What lets somebody be called need not be an access token.
        old = account.open(account.capability("of-old"))
        self.equal(old.wait_named("registered").data["identity"], "of-old", "who registers by a capability token")
        old.close()
        self.equal(self.account.client("refused")["available"], False, "who could not register")
        self.equal(self.account.devices("refused"), [], "its devices")
        self.heard.tells("refused", [])

    def many_devices(self):
        """PR-01: the eleventh device of one client is refused, also where all of them come at once."""
        with concurrent.futures.ThreadPoolExecutor(30) as at_once:
            burst = list(at_once.map(lambda at: self.account.open(self.account.token("burst"), f"device {at}"), range(30)))
        opened = [self.account.register("many", f"device {at}") for at in range(10)]
        wait_for(lambda: len(self.account.devices("many")) == 10, 1, "ten devices")
        more = self.account.open(self.account.token("many"), "device 10")
        self.equal((more.status, more.error), (403, 31201), "the eleventh device")
        # One that it has already comes again, though.
        self.equal(self.account.open(self.account.token("many"), "device 3").status, 200, "one of the ten again")
        self.equal(len(self.account.devices("many")), 10, "devices")
        self.equal(sum(one.is_open for one in burst), 10, "devices of those that came at once")
        for one in opened + burst:
            one.close()

    def expires(self):
        """PR-02: with its token a device is gone, by either kind of connection, and whatever else falls into that moment."""
        at = int(time.time()) + 2
        opened = {f"ends-{kind}": self.account.register(f"ends-{kind}", ttl=2, web_socket=kind == "websocket") for kind in ("sse", "websocket")}
        exp = int(time.time()) + 2
        self.check(exp - at <= 1, "both are made in one second, or the next")
        # Whether a device is still registered is looked at each second: where it began with one, the look falls into the moment of the expiry.
        begins, tokens = int(time.time()) + 1, [self.account.token(f"tight-{turn}", ttl=3) for turn in range(30)]

        def open_at(turn):
            time.sleep(max(0.0, begins - 0.004 + turn * 0.0002 - time.time()))
            return self.account.open(tokens[turn])

        with concurrent.futures.ThreadPoolExecutor(len(tokens)) as at_once:
            tight = list(at_once.map(open_at, range(len(tokens))))
        for identity, one in opened.items():
            frame = one.wait_named("token-expired", 4)
            late = time.time() - (time.monotonic() - frame.at) - exp
            self.check(-1.1 < late < 1, f"{identity} is told {late:.2f} s after its token's end")
            last = self.heard.tells(identity, [True, False], 3, calm=0)
            self.check(last.at - frame.at < 1, f"it is told to be gone {last.at - frame.at:.2f} s later")
            self.equal(self.account.devices(identity), [], "its devices")
        wait_for(lambda: all(one.is_over for one in tight), 5, "the others to end")
        self.equal([one.frames[-1].name for one in tight if one.frames[-1].name != "token-expired"], [], f"how other devices ended than by their token, of {len(tight)}")
        time.sleep(CALM)
        for identity in opened:
            self.heard.tells(identity, [True, False], calm=0)

    def revoked(self):
        """PR-02: with the key that has signed it a token is worth nothing any more."""
        account = Account(HTTP)
        web = account.register("revoked", web_socket=True)
        self.heard.tells("revoked", [True], calm=0)
        account.program.keys(account.key.sid).delete()
        web.wait_named("revoked", 3)
        self.heard.tells("revoked", [True, False], NEXT)
        again = account.open(account.token("revoked"))
        self.equal((again.status, again.error), (401, 20101), "a token of a key that is deleted")

    # When it is told.

    def two_devices(self):
        """PR-03: of two devices the first and the last are told of."""
        jenny = self.device("jenny")
        self.heard.tells("jenny", [True])
        web = self.account.register("jenny", "web", web_socket=True)
        wait_for(lambda: len(self.account.devices("jenny")) == 2, 1, "both devices")
        self.equal({device["kind"] for device in self.account.devices("jenny")}, {"sip", "token"}, "kinds of devices")
        self.heard.tells("jenny", [True], calm=CALM)
        self.equal(jenny.unregister().status, 200, "REGISTER that ends it")
        self.heard.tells("jenny", [True], calm=CALM)
        web.close()
        last = self.heard.tells("jenny", [True, False], 1)
        self.equal((last.data["data"]["devices"], self.account.client("jenny")["version"]), (0, last.data["data"]["version"]), "devices, and the version by REST")

    def closed(self):
        """PR-04: a WebSocket's client says that it takes no calls, and that it does again."""
        web = self.account.register("shy", web_socket=True)
        self.heard.tells("shy", [True], calm=0)
        web.say(available=False)
        self.heard.tells("shy", [True, False])
        client = self.account.client("shy")
        self.equal((client["available"], client["status"], client["devices"], web.is_over), (False, "away", 1, False), "who takes no calls, and is connected")
        self.equal([device["available"] for device in self.account.devices("shy")], [False], "its device")
        web.say(available=True)
        self.heard.tells("shy", [True, False, True])
        self.is_status("shy", "available")
        web.close()
        self.heard.tells("shy", [True, False, True, False], 1, calm=0)
        born = self.account.register("born-shy", Available="false")
        self.is_status("born-shy", "away")
        self.heard.tells("born-shy", [])
        born.close()

    def gone(self):
        """PR-05: a connection is reset, a phone takes its leave by `Contact: *`, or by a contact's `Expires: 0`."""
        reset = {kind: self.account.register(f"reset-{kind}", web_socket=kind == "websocket") for kind in ("sse", "websocket")}
        phone = self.device("sip-gone")
        for identity in (*(f"reset-{kind}" for kind in reset), "sip-gone"):
            self.heard.tells(identity, [True], calm=0)
        at = {}
        for kind, one in reset.items():
            at[kind] = time.monotonic()
            one.cut()
        self.equal(phone.unregister().status, 200, "Contact: *")
        self.heard.tells("sip-gone", [True, False], NEXT)
        self.equal(phone.register().status, 200, "REGISTER")
        self.heard.tells("sip-gone", [True, False, True], NEXT)
        self.equal(phone.register(0).status, 200, "Expires: 0")
        self.heard.tells("sip-gone", [True, False, True, False], NEXT)
        for kind in reset:
            after = self.heard.tells(f"reset-{kind}", [True, False], 6).at - at[kind]
            self.check(GRACE <= after <= GONE, f"after a reset of {kind} it is told to be gone {after:.1f} s later")

    def comes_back(self):
        """PR-06: who comes back within the grace was never gone, by token and by SIP; who does not is gone after it, once."""
        web, phone = self.account.register("back", "the same"), self.device("moves", "1f-moves", tcp=True)
        stays_away = self.device("lost", "2f-lost", tcp=True)
        for identity in ("back", "moves", "lost"):
            self.heard.tells(identity, [True], calm=0)
        before = {identity: self.account.devices(identity)[0]["sid"] for identity in ("back", "moves")}
        web.close()
        phone.close()
        stays_away.close()
        at = time.monotonic()
        time.sleep(2)
        web, phone = self.account.register("back", "the same", web_socket=True), self.device("moves", "1f-moves", tcp=True)
        after = self.heard.tells("lost", [True, False], 5).at - at
        self.check(GRACE <= after <= GONE, f"who does not come back is told to be gone after {after:.1f} s")
        time.sleep(max(0.0, at + 2 + GONE - time.monotonic()))
        for identity, sid in before.items():
            self.equal(self.heard.story(identity), [True], f"what is told of {identity}, which came back")
            self.equal([device["sid"] for device in self.account.devices(identity)], [sid], "its device")
        web.close()
        phone.close()

    def comes_again(self):
        """PR-06: a device that opens a second connection has that one; the first has no say any more, and ends."""
        first = self.account.register("again", "the same", web_socket=True)
        second = self.account.register("again", "the same", web_socket=True)
        first.say(available=False)
        time.sleep(CALM)
        named = lambda one: [frame.name for frame in one.frames]
        self.equal((named(first), named(second)), (["registered", "removed"], ["registered"]), "what the first connection is told, and the second")
        client = self.account.client("again")
        self.equal((client["status"], client["devices"]), ("available", 1), "the client")
        self.equal(self.heard.story("again"), [True], "what is told")
        second.close()

    def apart(self):
        """PR-10: the same identity of two accounts is two clients."""
        other = self.other.register("twin")
        self.others_heard.tells("twin", [True], calm=0)
        self.equal((self.other.client("twin")["available"], self.account.client("twin")["available"]), (True, False), "the same identity in two accounts, by REST")
        mine = self.account.register("twin", web_socket=True)
        self.heard.tells("twin", [True], calm=0)
        theirs = Device(SIP, "jenny", SECRET, algorithm=MD5, domain=ELSEWHERE)
        self.equal(theirs.register().status, 200, "REGISTER of the other account's jenny")
        self.others_heard.tells("jenny", [True], calm=0)
        mine.close()
        self.heard.tells("twin", [True, False])
        self.equal(self.others_heard.story("twin"), [True], "what the other account is told")
        only = self.account.listen(Identity="twin")
        mine = self.account.register("twin")
        another = self.account.register("not-twin")
        wait_for(lambda: only.events, 2, "what is told of one client")
        wait_for(lambda: self.heard.story("not-twin"), 2, "the other to be told of")
        self.equal(only.story("twin"), [True], "what is told to whom may hear of one client")
        self.equal(len(only.events), 1, "and all that is")
        self.equal([client["identity"] for client in only.stream.named("snapshot").data["presence"] if client["identity"] != "twin"], [], "others in its snapshot")
        only.close()
        mine.close()
        another.close()
        self.check(all(frame.data["accountsid"] == self.account.sid for frame in self.heard.events), "all that is heard is the account's own")
        sids = {client["identity"] for client in self.other.ask("/Clients").json()["clients"]}
        self.equal(sids, {"twin", "jenny"}, "the other account's clients")
        other.close()
        theirs.unregister()

    def late(self):
        """PR-11: who begins to listen is told how things stand, then what changes; who comes back goes on without a gap."""
        one = self.account.register("late-one")
        self.heard.tells("late-one", [True], calm=0)
        listener = self.account.listen()
        snapshot = listener.stream.wait_named("snapshot")
        shown = {client["identity"]: client for client in snapshot.data["presence"]}
        self.equal((shown["late-one"]["available"], shown["late-one"]["devices"], "late-two" in shown), (True, 1, False), "how things stand")
        two = self.account.register("late-two", web_socket=True)
        listener.tells("late-two", [True], calm=0)
        self.check(listener.events[0].number > snapshot.number, "what changes comes behind it")
        listener.close()
        last = listener.events[-1].number
        two.close()
        self.heard.tells("late-two", [True, False], calm=0)
        back = self.account.listen(last)
        back.tells("late-two", [False])
        self.equal(back.stream.named("snapshot"), None, "a snapshot, when it goes on")
        three = self.account.register("late-three")
        back.tells("late-three", [True], calm=0)
        numbers = [frame.number for frame in back.events]
        self.equal(numbers, [frame.number for frame in self.heard.events if frame.number > last][: len(numbers)], "numbers of what was told since")
        back.close()
        one.close()
        three.close()

    def never(self):
        """PR-15: an identity without any device ever."""
        asked = self.account.ask("/Clients/never-heard-of")
        client = asked.json()
        self.equal((asked.status_code, client["available"], client["status"], client["devices"]), (200, False, "offline", 0), "who was never there")
        devices = self.account.ask("/Clients/never-heard-of/Devices")
        self.equal((devices.status_code, devices.json()["devices"]), (200, []), "its devices")
        self.equal("never-heard-of" in [one["identity"] for one in self.account.ask("/Clients").json()["clients"]], False, "it is listed")
        self.equal(self.account.remove("never-heard-of", "DV" + "0" * 32), 404, "a device that is not there is removed")

    def odd_names(self):
        """PR-15: an identity may be anything; it is found by its page, and by its resource's address."""
        odd = ["søren & co/1?x=2", "a.b@example.com", "100% sure", "+15550001111"]
        opened = [self.account.register(identity) for identity in odd]
        for identity in odd:
            self.heard.tells(identity, [True], calm=0)
            client = self.account.client(identity)
            self.equal((client["identity"], client["available"]), (identity, True), "a client by its name")
            self.equal(self.account.get(client["uri"]).json()["identity"], identity, "a client by its address")
            self.equal(len(self.account.get(client["subresource_uris"]["devices"]).json()["devices"]), 1, "its devices")
        names = [client["identity"] for client in self.account.listed(1)]
        self.equal(([name for name in odd if name not in names], len(names) - len(set(names)), names), ([], 0, sorted(names)), "clients, page by page")
        for one in opened:
            one.close()

    def storm(self, times=100):
        """PR-14: who comes and goes a hundred times is told thrice at most, and the last is right."""
        phone = Device(SIP, "storm", SECRET, algorithm=MD5)
        at = time.monotonic()
        phone.keep_registering(times + 1)
        took, told = time.monotonic() - at, len(self.heard.of("storm"))
        time.sleep(CALM)
        self.check(len(self.heard.of("storm")) <= max(3, took + 2), f"{len(self.heard.of('storm'))} transitions are told of {times} in {took:.1f} s")
        self.equal(self.heard.story("storm")[-1], True, "the last of them")
        self.is_status("storm", "available")
        phone.keep_registering(2)
        self.equal(phone.unregister().status, 200, "the last REGISTER")
        wait_for(lambda: self.heard.story("storm")[-1] is False, 2, "it to be told to be gone")
        web_at = time.monotonic()
        for _ in range(times // 2):
            self.account.open(self.account.token("web-storm"), "the same", web_socket=True).close()
        web_took = time.monotonic() - web_at
        # Whose leave is not heard any more may come back for a while.
        wait_for(lambda: self.account.client("web-storm")["devices"] == 0, 2, "its devices to be gone")
        time.sleep(GRACE + CALM)
        self.check(len(self.heard.of("web-storm")) <= max(3, web_took + 2), f"{len(self.heard.of('web-storm'))} transitions of {times} in {web_took:.1f} s")
        # It may be that nobody has ever heard of it.
        self.equal(self.heard.story("web-storm")[-1:] in ([], [False]), True, "the last of them is that it is gone")
        return f"{told} transitions of {times} in {took:.1f} s by SIP, {len(self.heard.of('web-storm'))} in {web_took:.1f} s by WebSocket"

    # What rings.

    def rings(self):
        """PR-08: all devices ring at the same time, the first that answers has the call, and the other is told why it does not."""
        devices = [self.device("pair"), self.device("pair", tcp=True)]
        call = self.dials("pair")
        at, incoming = time.monotonic(), [device.wait_invite() for device in devices]
        self.check(time.monotonic() - at < 1, "both ring at once")
        for one in incoming:
            one.respond(180)
        call.provisional(180)
        incoming[1].accept(SOUND)
        cancel = incoming[0].wait_cancel()
        self.check("cause=200" in cancel.header("reason"), f"the Reason of the CANCEL: {cancel.header('reason')!r}")
        call.accepted()
        self.equal(call.bye().status, 200, "BYE")
        incoming[1].wait_bye()
        for device in devices:
            device.unregister()

    def not_rung_at_all(self):
        """PR-08: where there is no device, the Dial ends at once."""
        nobody = self.not_rung("nobody")
        web = self.account.register("by-token")
        by_token = self.not_rung("by-token")
        web.close()
        self.equal((nobody, by_token), ("no-answer", "no-answer"), "DialCallStatus of who has no device, and of who has none that takes SIP")

    def no_call_waiting(self):
        """PR-09: who has no call waiting is busy in a call, unless another device is free."""
        single = self.device("single")
        self.heard.tells("single", [True], calm=0)
        call = single.invite(ECHO, SOUND).accepted()
        self.heard.tells("single", [True, False], calm=0)
        self.is_status("single", "busy")
        self.equal([(one["in_call"], one["available"]) for one in self.account.devices("single")], [(True, False)], "its device")
        status = self.not_rung("single", single)
        self.equal(call.bye().status, 200, "BYE")
        self.heard.tells("single", [True, False, True])
        self.is_status("single", "available")
        self.busy_and_answered(single, "single")
        single.unregister()
        return f"DialCallStatus={status}"

    def busy_and_answered(self, device, identity):
        """It is called, and refuses."""
        call = self.dials(identity)
        device.wait_invite().respond(486)
        call.final()

    def one_of_two(self):
        """PR-09: of two devices one is in a call: the other rings."""
        devices = [self.device("two"), self.device("two")]
        call = devices[0].invite(ECHO, SOUND).accepted()
        wait_for(lambda: sorted(one["in_call"] for one in self.account.devices("two")) == [False, True], 2, "one device to be in a call")
        self.is_status("two", "available")
        self.busy_and_answered(devices[1], "two")
        self.equal(devices[0].rung(), False, "the device that is in a call rings")
        self.heard.tells("two", [True])
        call.bye()
        waits = self.device("waits")
        call = waits.invite(ECHO, SOUND).accepted()
        self.is_status("waits", "busy")
        self.equal(self.account.client("waits")["available"], True, "who has call waiting, in a call")
        self.busy_and_answered(waits, "waits")
        call.bye()
        self.heard.tells("waits", [True])
        # Whichever of both answers is the one that is in a call.
        for answers, other in ((0, 1), (1, 0)):
            call = self.dials("two")
            incoming = [device.wait_invite() for device in devices]
            for one in incoming:
                one.respond(180)
            incoming[answers].accept(SOUND)
            incoming[other].wait_cancel()
            call.accepted()
            sids = {one["contact"]: one["in_call"] for one in wait_for(lambda: self.in_calls("two"), 2, "a device to be in a call")}
            self.equal([sids[device.contact.strip("<>")] for device in devices], [answers == 0, answers == 1], f"who is in a call when number {answers} answers")
            self.busy_and_answered(devices[other], "two")
            self.equal(devices[answers].rung(), False, "the device that is in a call rings")
            call.bye()
            incoming[answers].wait_bye()
            wait_for(lambda: not self.in_calls("two"), 2, "both devices to be free")
        for device in (*devices, waits):
            device.unregister()

    def in_calls(self, identity):
        """Its devices, if one of them is in a call."""
        devices = self.account.devices(identity)
        return devices if any(one["in_call"] for one in devices) else None

    # Who watches.

    def same(self, identity, watched, lamps, status, available, seconds=2.5):
        """REST, the stream and both subscriptions say the same."""
        presence, dialog = watched
        activities = {"busy": ["on-the-phone"], "away": ["away"]}.get(status, [])

        def seen():
            client = self.account.client(identity)
            in_call = any(device["in_call"] for device in self.account.devices(identity))
            return (
                (client["status"], client["available"], in_call),
                self.heard.story(identity)[-1:] == [True],
                (presence.basic, presence.activities),
                dialog.lamps,
            )

        wanted = ((status, available, ("confirmed" in dict((state, None) for _, state in lamps))), available, ("open" if available else "closed", activities), lamps)
        try:
            wait_for(lambda: seen() == wanted, seconds)
        except Failed:
            self.equal(seen(), wanted, f"{identity} by REST, by the stream, by presence, by dialog")
        self.scenario.checks += 1

    def watched(self):
        """PR-12: presence and lamps say what REST and the stream say, after each change; a lamp goes through a call."""
        boss = Watcher(SIP, "boss", SECRET, algorithm=MD5)
        lamp, rings = ([boss.subscribe(who, package) for package in ("presence", "dialog")] for who in ("lamp", "rings"))
        same = lambda lamps, status, available: self.same("lamp", lamp, lamps, status, available)
        same([], "offline", False)
        phone = self.device("lamp")
        same([], "available", True)
        tag = phone.publish("closed").header("sip-etag")
        same([], "away", False)
        self.equal(phone.publish(tag=tag, expires=0).status, 200, "the published state is taken back")
        same([], "available", True)
        other = self.device("rings")
        # It calls by the number at which the other one rings.
        call = phone.invite(BY_NUMBER["rings"], SOUND)
        with concurrent.futures.ThreadPoolExecutor(1) as meanwhile:
            answered = meanwhile.submit(call.accepted, 10)
            incoming = self.early_and_confirmed(other, same, rings)
            answered.result()
        same([("initiator", "confirmed")], "busy", True)
        self.same("rings", rings, [("recipient", "confirmed")], "busy", True)
        self.equal(call.bye().status, 200, "BYE")
        incoming.wait_bye()
        same([], "available", True)
        self.same("rings", rings, [], "available", True)
        # A device by token, while the phone goes; then it goes too.
        web = self.account.register("lamp", web_socket=True)
        phone.unregister()
        same([], "available", True)
        web.say(available=False)
        same([], "away", False)
        web.close()
        same([], "offline", False)
        for subscription in (lamp[1], rings[1]):
            self.equal(subscription.versions, list(range(len(subscription.notified))), "versions of the documents of one subscription")
        other.unregister()
        boss.close()

    def early_and_confirmed(self, other, same, rings):
        """The other one rings, what the lamps of both show meanwhile, and it answers."""
        incoming = other.wait_invite()
        incoming.respond(180)
        same([("initiator", "early")], "available", True)
        self.same("rings", rings, [("recipient", "early")], "available", True)
        return incoming.accept(SOUND)

    def subscriptions(self):
        """PR-12: how a subscription begins, goes on, ends, and is refused."""
        boss, equal = Watcher(SIP, "boss", SECRET, algorithm=MD5), self.equal
        web = self.account.register("seen")
        self.is_status("seen", "available")
        seen = boss.subscribe("seen", expires=120)
        equal((seen.answer.header("expires"), seen.basic), ("120", "open"), "Expires, and what is told")
        left = int(seen.state.split("expires=")[1])
        self.check(115 <= left <= 120 and seen.state.startswith("active"), f"the state of the subscription: {seen.state}")
        equal(boss.again(seen, 300).header("expires"), "300", "Expires of a refresh")
        wait_for(lambda: len(seen.notified) == 2, 2, "a NOTIFY for the refresh")
        self.check(295 <= int(seen.state.split("expires=")[1]) <= 300, f"the state after a refresh: {seen.state}")
        equal(boss.again(seen, 0).status, 200, "the end of it")
        wait_for(lambda: seen.state.startswith("terminated"), 2, "the last NOTIFY")
        # One that asks only.
        asked = boss.subscribe("seen", expires=0)
        equal((asked.answer.header("expires"), asked.basic, asked.state.split(";")[0]), ("0", "open", "terminated"), "who only asks")
        equal(boss.again(seen).status, 481, "a refresh of what has ended")
        equal(boss.again(asked).status, 481, "a refresh of what was only asked")
        equal(boss.ask("seen", tag="no-such-tag")[0].status, 481, "a subscription that nobody knows")
        for package, headers, status in (("message-summary", (), 489), ("", (), 489), ("presence", ["Accept: text/plain"], 406), ("dialog", ["Accept: application/pidf+xml"], 406)):
            answer, _ = boss.ask("seen", package, headers=headers)
            equal(answer.status, status, f"a subscription to {package!r} {headers}")
        self.check("presence" in boss.ask("seen", "conference")[0].header("allow-events"), "what may be subscribed to is said")
        answer, _ = boss.ask("seen", expires=10)
        equal((answer.status, answer.header("min-expires")), (423, "60"), "one that is too short")
        equal(boss.subscribe("seen", headers=["Accept: text/plain, application/pidf+xml"]).basic, "open", "one of several that are accepted")
        # Others do not see it.
        stranger = Watcher(SIP, "jenny", SECRET, algorithm=MD5, domain=ELSEWHERE)
        equal(stranger.subscribe("seen").basic, "closed", "the same name, as a user of another account sees it")
        equal(Phone(SIP, "boss").exchange(Phone(SIP, "boss").build("SUBSCRIBE", "sip:seen@dialtone", headers=["Event: presence"])).status, 401, "who does not say who it is")
        carrier = Phone(SIP, "carrier", local=(CALLERS, 0))
        equal(carrier.exchange(carrier.build("SUBSCRIBE", "sip:seen@dialtone", headers=["Event: presence"])).status, 403, "a trunk")
        told = len(seen.notified)
        web.close()
        self.heard.tells("seen", [True, False], GONE + 1)
        equal((len(seen.notified), boss.strays), (told, []), "what is told of a subscription that has ended")
        # A phone that starts anew knows nothing of what it had subscribed to, says so, and is not told again.
        forgotten = boss.subscribe("forgotten")
        del boss.subscriptions[forgotten.call_id]
        for _ in range(2):
            self.account.register("forgotten", web_socket=True).close()
            time.sleep(0.3)
        equal(len(boss.strays), 1, "how often a phone is told which does not know its subscription")
        stranger.close()
        boss.close()

    def published(self):
        """PR-13: who says that it takes no calls is away, and is not called."""
        away, equal = self.device("away"), self.equal
        self.heard.tells("away", [True], calm=0)
        made = away.publish("closed", note="at lunch & back")
        tag = made.header("sip-etag")
        equal((made.status, made.header("expires"), bool(tag)), (200, "300", True), "PUBLISH")
        self.heard.tells("away", [True, False], calm=0)
        self.is_status("away", "away")
        equal(self.account.client("away")["note"], "at lunch & back", "what it says beside")
        status = self.not_rung("away", away)
        again = away.publish(tag=tag)
        equal((again.status, again.header("sip-etag") not in ("", tag)), (200, True), "PUBLISH that goes on")
        equal(away.publish(tag=tag).status, 412, "PUBLISH by the tag that was before")
        equal(away.publish(tag="no-such-tag").status, 412, "PUBLISH by an unknown tag")
        equal(away.publish("closed", of="boss").status, 403, "PUBLISH for another user")
        equal(away.publish().status, 400, "PUBLISH of nothing")
        equal(away.publish("closed", event="dialog").status, 489, "PUBLISH of another event")
        equal(away.publish("closed", content_type="text/plain").status, 415, "PUBLISH of something else")
        equal(away.publish("closed", expires=5).status, 423, "PUBLISH for too short a time")
        equal(away.publish(tag=again.header("sip-etag"), expires=0).status, 200, "PUBLISH that takes it back")
        self.heard.tells("away", [True, False, True])
        self.is_status("away", "available")
        self.busy_and_answered(away, "away")
        away.unregister()
        return f"DialCallStatus={status}"

    def removed(self):
        """A device is taken away by REST, by whichever way it has registered."""
        web, socket, phone = self.account.register("taken"), self.account.register("taken", web_socket=True), self.device("cut", tcp=True)
        wait_for(lambda: len(self.account.devices("taken")) == 2 and self.account.devices("cut"), 1, "the devices")
        for identity, left in (("taken", (web, socket)), ("cut", ())):
            for device in self.account.devices(identity):
                self.equal(self.account.remove(identity, device["sid"]), 204, "DELETE of a device")
            self.heard.tells(identity, [True, False], 2, calm=0)
            self.equal(self.account.devices(identity), [], "devices that are left")
            for one in left:
                one.wait_named("removed", 3)
        self.equal(phone.register().status, 200, "REGISTER of a device that was removed")
        self.heard.tells("cut", [True, False, True], 3)
        for identity in ("taken", "cut"):
            self.check(len(self.heard.story(identity)) <= 3, "nothing else is told")
        phone.unregister()

    def softphone(self):
        """PR-12, PR-13: baresip shows what its contact does, and says how its own user is."""
        phone = Baresip(
            self.scenario, "softphone", f"{SIP[0]}:{SIP[1]}", "softphone", SECRET, 20100, 20102, (20104, 20115), [0] * 160,
            writes_to="shown", modules=["presence"], account=";pubint=60", contact=";presence=p2p",
        )
        phone.says("registered successfully")
        self.is_status("softphone", "available")
        web = self.account.register("shown", web_socket=True)
        # What it is told first it does not show.
        wait_for(lambda: 'udp:127.0.0.1:20100 method="SUBSCRIBE"' in self.server.log(), 4, "it to subscribe")
        time.sleep(0.3)
        for is_there in (False, True, False):
            web.say(available=is_there)
            # It has colours between the words.
            wait_for(lambda: ("Online" if is_there else "Offline") in phone.log().rpartition("changed status")[2].rpartition(" to ")[2], 4, f"it to show its contact {is_there}")
            self.scenario.checks += 1
        for command, status in (("offline", "away"), ("online", "available")):
            phone.command(f"/presence_{command}\n")
            self.is_status("softphone", status)
            # Told to say the next before it has the answer, it says both side by side.
            time.sleep(0.2)
        # Its first word is that it does not know, which is not that it takes no calls.
        self.check("got error" not in phone.log(), "a PUBLISH of it is refused: " + phone.log().partition("got error")[2][:60])
        web.close()
        self.scenario.end(phone.process)
        # It takes its leave.
        self.is_status("softphone", "offline", 3)

    # What is counted.

    def counted(self):
        """What the operator sees of it. Nobody else is there any more."""
        server = self.server
        left = [client["identity"] for client in self.account.ask("/Clients").json()["clients"]]
        for identity in left:
            for device in self.account.devices(identity):
                self.account.remove(identity, device["sid"])
        server.wait_metric(0, "dialtone_presence_identities")
        before = {to: server.metric("dialtone_presence_transitions_total", to=to) for to in ("available", "unavailable")}
        told = [frame.data["data"]["available"] for listener in (self.heard, self.others_heard) for frame in listener.events]
        self.equal((before["available"], before["unavailable"]), (told.count(True), told.count(False)), "transitions that are counted, and told")
        web = [self.account.register("counted", f"web {at}") for at in range(2)]
        phone, shy = self.device("counted"), self.account.register("counted-shy", Available="false")
        server.wait_metric(3, "dialtone_registrations", kind="token")
        self.equal(server.metric("dialtone_registrations", kind="sip"), 1, "registrations by SIP")
        for name, wanted in (("endpoints", 3), ("identities", 1)):
            self.equal(server.metric(f"dialtone_presence_{name}", status="available"), wanted, f"{name} that are available")
            self.equal(server.metric(f"dialtone_presence_{name}", status="away"), 1, f"{name} that are away")
        self.equal(server.metric("dialtone_presence_transitions_total", to="available"), before["available"] + 1, "transitions")
        for one in (*web, shy):
            one.close()
        phone.unregister()
        return f"{len(told)} transitions"

    # What takes long.

    def silent(self):
        """PR-05: a WebSocket that does not answer any more is gone within 20 s."""
        web = self.account.register("silent", web_socket=True)
        self.heard.tells("silent", [True], calm=0)
        web.answers_pings = False
        at = time.monotonic()
        after = self.heard.tells("silent", [True, False], 25).at - at
        self.check(after <= 20, f"it is told to be gone after {after:.1f} s")
        return f"gone after {after:.1f} s"

    def over(self):
        """PR-05, PR-12, PR-13: a registration, a subscription and a published state end to the second."""
        boss = Watcher(SIP, "boss", SECRET, algorithm=MD5)
        phone, said = Device(SIP, "expires", SECRET, algorithm=MD5), self.device("says")
        self.heard.tells("says", [True], calm=0)
        at = time.monotonic()
        self.equal(phone.register(60).status, 200, "REGISTER for a minute")
        self.equal(said.publish("closed", expires=60).status, 200, "PUBLISH for a minute")
        watched = boss.subscribe("never-there", expires=60)
        self.heard.tells("expires", [True], calm=0)
        self.heard.tells("says", [True, False], calm=0)
        time.sleep(55)
        ends = {
            "a registration": self.heard.tells("expires", [True, False], 8, calm=0).at,
            "a published state": self.heard.tells("says", [True, False, True], 3, calm=0).at,
            "a subscription": wait_for(lambda: watched.state.startswith("terminated") and watched.notified[-1].at, 3, "the last NOTIFY"),
        }
        late = {name: ended - at - 60 for name, ended in ends.items()}
        self.check(all(-1 < one < 1 for one in late.values()), f"seconds that they end late: {late}")
        self.heard.tells("expires", [True, False])
        said.unregister()
        boss.close()
        return ", ".join(f"{name} {one:+.2f} s" for name, one in late.items())

    def killed(self):
        """The server is killed. Who is there again within 15 s was never gone, and who is not is told to be gone, once."""
        web = [self.account.register(identity, "the same") for identity in ("returns", "stays-away")]
        self.device("kept")
        for identity in ("returns", "stays-away", "kept"):
            self.heard.tells(identity, [True])
        last = self.heard.events[-1].number
        at = time.monotonic()
        self.server.kill()
        self.server.start()
        self.heard = self.account.listen(last)
        web = self.account.register("returns", "the same")
        gone = self.heard.tells("stays-away", [False], 20)
        self.check(gone.at - at < 17, f"it is told to be gone after {gone.at - at:.1f} s")
        self.equal([frame.data["data"]["identity"] for frame in self.heard.events], ["stays-away"], "of whom something is told")
        self.equal([self.account.status(identity) for identity in ("returns", "stays-away", "kept")], ["available", "offline", "available"], "how they are")
        web.close()
        return f"gone after {gone.at - at:.1f} s"
