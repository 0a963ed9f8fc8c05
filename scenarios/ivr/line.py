"""One line: a server, a program that answers its numbers, the recorder between them, and what callers do with it."""

import concurrent.futures
import os
import wave

import numpy
import requests
from twilio.rest import Client

import control
from lib.baresip import Baresip, write_wave
from lib.rtp import best_match, noise
from lib.scenario import wait_for
from lib.server import ACCOUNT, AUTH_TOKEN, Server, base_config, number, trunk, user
from lib.sip import IncomingCall
from parameters import wrong
from recorder import Recorder, agrees
from telephones import ENOUGH, RATE, Telephones, loudest

TRUNK = "127.0.0.2"
COMPANY, AGENTS, DIRECT, HOURS = "+15556000", "+15556001", "+15556002", "+15556003"
USERS = {"desk": "secret-of-desk", "agent": "secret-of-agent", "reception": "secret-of-reception"}
IMPOSTOR = 0.5
# How long a telephone is silent when the beep has begun.
BEEP = 0.5
# What the programs play, in both languages: each another noise of 0.6 s.
SOUNDS = {
    f"{name}-{language}": noise(0.6, seed)
    for seed, (name, language) in enumerate(
        [(name, language) for name in ("menu", "nothing", "wrong", "wait", "pin", "thanks", "away", "sorry", "operator") for language in ("en", "de")], 1
    )
}
# Who calls with which behaviour, by the number that is seen.
CALLERS = {
    name: f"+1555900{place}"
    for place, name in enumerate(["silent", "lost", "sales", "voicemail", "member", "moderator", "direct", "busy", "unanswered", "operator"])
} | {"first": "+15559011", "second": "+15559012", "agent": "sip:agent@dialtone", "softphone": "sip:reception@dialtone"}


def config(sip, http, rtp, app, carrier):
    """The numbers of the company, its people, and the carrier."""
    url = f"http://127.0.0.1:{app}"
    pages = {"voice_url": "/voice", "voice_fallback_url": "/fallback", "status_callback": "/status"}
    keys = {name: url + path for name, path in pages.items()}
    more = "".join(number(text, **keys | {"voice_url": url + page}) for text, page in ((COMPANY, "/voice"), (AGENTS, "/agent"), (DIRECT, "/reach"), (HOURS, "/opening-hours")))
    more += "".join(user(name, password) for name, password in (USERS | control.USERS).items())
    more += trunk("carrier", **{"from": [f"{TRUNK}/32"]}, uri=f"sip:{TRUNK}:{carrier}")
    # The softphone fails where SHA-256 is offered.
    return base_config(f"{sip[0]}:{sip[1]}", http, rtp, sip_more='digest = ["MD5"]', more=more)


class Line:
    """Takes the 150 ports from `base` on. `program` is what is started, with what it runs by."""

    def __init__(self, scenario, name, program, base):
        self.scenario, self.name, self.program = scenario, name, program
        self.http, self.app_port, self.program_port = f"127.0.0.1:{base}", base + 1, base + 2
        self.sip, self.carrier = ("127.0.0.1", base + 3), base + 4
        self.console, self.softphone = base + 7, (base + 5, (base + 8, base + 17))
        self.rtp = f"{base + 20}-{base + 149}"
        self.worst, self.count = 1.0, (0, 0)
        self.pool = concurrent.futures.ThreadPoolExecutor()

    # What is there before anybody calls.

    def start(self):
        self.folder = self.scenario.folder / f"inbox-{self.name}"
        self.folder.mkdir()
        environment = os.environ | {
            "TWILIO_ACCOUNT_SID": ACCOUNT, "TWILIO_AUTH_TOKEN": AUTH_TOKEN, "TWILIO_BASE_URL": f"http://{self.http}", "PORT": str(self.program_port),
            "SOUNDS": str(self.scenario.folder / "sounds"), "INBOX": str(self.folder),
        }
        self.scenario.start(self.program, log=f"{self.name}.log", env=environment)
        self.recorder = Recorder(self.app_port, self.program_port, self.http)
        self.server = Server(self.scenario, config(self.sip, self.http, self.rtp, self.app_port, self.carrier), name=f"server-{self.name}").start()
        self.client = self.login()
        self.telephones = Telephones(self.sip, TRUNK, self.carrier)
        self.desk, self.agent = (self.telephones.register(name, USERS[name]) for name in ("desk", "agent"))
        own, rtp = self.softphone
        server = f"{self.sip[0]}:{self.sip[1]}"
        self.reception = Baresip(self.scenario, f"reception-{self.name}", server, "reception", USERS["reception"], own, self.console, rtp, [0] * RATE * 60)
        self.reception.says("200 OK")
        wait_for(self._program_answers, 10, f"{self.name} to listen")

    def login(self):
        client = Client(ACCOUNT, AUTH_TOKEN)
        client.api.base_url = f"http://{self.http}"
        return client

    def _program_answers(self):
        try:
            return requests.get(f"http://127.0.0.1:{self.program_port}/inbox", timeout=2).status_code == 200
        except requests.ConnectionError:
            return False

    def parts(self):
        return [
            self.silent, self.unanswered, self.conference, self.sales, self.lost, self.busy, self.voicemail, self.direct, self.operator, self.fallback,
            self.softphone_chooses, self.forged,
        ]

    # What callers share.

    def sid(self, name, path="/voice"):
        return self.recorder.wait(path, From=CALLERS[name])["CallSid"]

    def at_menu(self, name):
        """Calls, is greeted, and hears the menu."""
        caller = self.telephones.call(name, self.telephones.at_trunk(CALLERS[name]), COMPANY)
        greeting = caller.hears(SOUNDS["menu-en"], "the menu")
        self.scenario.check(loudest(greeting) > 300, f"{name} is greeted by {loudest(greeting):.0f}")
        return caller

    def talk(self, one, other):
        """Each hears what the other says, and not itself."""
        for speaker, listener in ((one, other), (other, one)):
            words = speaker.say()
            listener.hears(words, speaker.name)
            echo = speaker.likeness(words)[0]
            self.scenario.check(echo < IMPOSTOR, f"{speaker.name} hears itself: correlation {echo:.3f}")

    def rings(self, name):
        """The desk's telephone rings for this caller."""
        mine = lambda message: message.is_request and message.method == "INVITE" and CALLERS[name] in message.header("from")
        return IncomingCall(self.desk, self.desk.transport.wait(mine, 8, f"an INVITE for {name}"))

    def told(self, path, count, **wanted):
        """Statuses and numbers of that many callbacks."""
        wait_for(lambda: len(self.recorder.to(path, **wanted)) >= count, 6, f"{count} callbacks to {path} with {wanted}")
        return [(params["CallStatus"], params["SequenceNumber"]) for params in self.recorder.to(path, **wanted)]

    def message(self, sid):
        """What the program has kept of a call: its samples, after a look at what it found the form to be."""
        listed = lambda: [one for one in requests.get(f"http://127.0.0.1:{self.program_port}/inbox", timeout=5).json() if one["call"] == sid]
        kept = wait_for(listed, 6, "a message in the inbox", every=0.1)
        self.scenario.equal(len(kept), 1, "messages of the call")
        one = kept[0]
        self.scenario.equal((one["channels"], one["rate"], one["bits"]), (1, RATE, 16), "form of the recording, as the program found it")
        with wave.open(str(self.folder / one["file"])) as file:
            samples = numpy.frombuffer(file.readframes(file.getnframes()), "<i2").astype(float)
        self.scenario.check(abs(len(samples) / RATE - one["seconds"]) < 0.01, f"seconds: {one['seconds']}, {len(samples) / RATE}")
        told = self.recorder.wait("/voicemail/recording", CallSid=sid)
        self.scenario.check(abs(int(told["RecordingDuration"]) - one["seconds"]) <= 1, f"RecordingDuration {told['RecordingDuration']} of {one['seconds']} s")
        return samples

    def kept(self, samples, words, what):
        found = best_match(words, samples)[0]
        self.scenario.check(found >= ENOUGH, f"{what} is not in the message: correlation {found:.3f}")

    # What they do.

    def silent(self):
        """Presses nothing: the menu comes twice, and then it is over."""
        caller = self.at_menu("silent")
        caller.hears(SOUNDS["nothing-en"], "that nothing was pressed")
        caller.hears(SOUNDS["menu-en"], "the menu again")
        caller.hears(SOUNDS["nothing-en"], "that nothing was pressed again")
        caller.hears_speech()
        caller.wait_bye()
        self.scenario.equal([params.get("tries") for params in self.recorder.to("/menu", From=CALLERS["silent"])], [None, "2"], "menus")
        self.scenario.equal(self.recorder.to("/choice", From=CALLERS["silent"]), [], "choices")

    def lost(self):
        """Presses wrong keys, and chooses the other language, which the program keeps in a cookie."""
        caller = self.at_menu("lost")
        for key, heard in (("7", ["wrong-en", "menu-en"]), ("8", ["menu-de"]), ("*", ["wrong-de", "menu-de"])):
            caller.press(key)
            for name in heard:
                caller.hears(SOUNDS[name], name)
        caller.hang_up()
        self.scenario.equal([params["Digits"] for params in self.recorder.to("/choice", From=CALLERS["lost"])], ["7", "8", "*"], "Digits")
        cookies = [one["cookie"] for one in self.recorder.requests if one["params"].get("From") == CALLERS["lost"] and one["document"]]
        self.scenario.equal(cookies, [""] * 5 + ["language=de"] * 3, "cookies")

    def sales(self):
        """Waits with music until an agent takes the call."""
        caller = self.at_menu("sales")
        caller.press("1")
        caller.hears(SOUNDS["wait-en"], "the music")
        sid = self.sid("sales")
        queue, = [one for one in self.client.queues.list() if one.friendly_name == "sales"]
        self.scenario.equal([one.call_sid for one in queue.members.list()], [sid], "who waits")
        agent = self.telephones.call("agent", self.agent, AGENTS)
        caller.mark = len(caller.heard())
        self.talk(caller, agent)
        agent.hang_up()
        caller.hears(SOUNDS["thanks-en"], "thanks")
        caller.wait_bye()
        left = self.recorder.wait("/sales/left", CallSid=sid)
        done = self.recorder.wait("/agent/done", From=CALLERS["agent"])
        self.scenario.equal((left["QueueResult"], left["QueueSid"]), ("bridged", queue.sid), "the action of Enqueue")
        self.scenario.equal((done["DialCallStatus"], done["DialCallSid"]), ("completed", sid), "the action of Dial")
        self.scenario.equal(queue.members.list(), [], "who waits at last")

    def voicemail(self):
        """Leaves a message, which the program downloads."""
        caller = self.at_menu("voicemail")
        caller.press("2")
        sid = self.sid("voicemail")
        self.recorder.wait("/voicemail", CallSid=sid)
        caller.hears_speech()
        words = caller.say(1.0, after=BEEP)
        caller.press("#")
        caller.hears(SOUNDS["thanks-en"], "thanks")
        caller.wait_bye()
        done = self.recorder.wait("/voicemail/done", CallSid=sid)
        told = self.recorder.wait("/voicemail/recording", CallSid=sid)
        self.scenario.equal((done["Digits"], done["RecordingSid"]), ("#", told["RecordingSid"]), "the action of Record")
        self.scenario.equal((told["RecordingStatus"], told["RecordingSource"]), ("completed", "RecordVerb"), "the callback of Record")
        self.kept(self.message(sid), words, "what was said")
        self.scenario.equal([one.sid for one in self.client.recordings.list(call_sid=sid)], [], "recordings that the program has deleted")

    def conference(self):
        """A member, who mistypes first, waits for the moderator; both hear each other until the moderator leaves."""
        member = self.at_menu("member")
        member.press("3")
        member.hears(SOUNDS["pin-en"], "the question for the PIN")
        member.press("12#")
        member.hears(SOUNDS["wrong-en"], "that the PIN is wrong")
        # Calls meanwhile, and is at the menu when the member is in the conference.
        calling = self.pool.submit(self.at_menu, "moderator")
        member.hears(SOUNDS["pin-en"], "the question again")
        member.press("1234")
        member.hears(SOUNDS["wait-en"], "the music")
        moderator = calling.result()
        moderator.press("3")
        moderator.hears(SOUNDS["pin-en"], "the question for the PIN")
        moderator.press("9876")
        ours = {self.sid("member"), self.sid("moderator")}
        self.recorder.wait("/conference/told", StatusCallbackEvent="conference-start")
        conference, = self.client.conferences.list(friendly_name="company", status="in-progress")
        self.scenario.equal({one.call_sid for one in conference.participants.list()}, ours, "participants")
        for telephone in (member, moderator):
            telephone.mark = len(telephone.heard())
        self.talk(member, moderator)
        moderator.hang_up()
        member.hears(SOUNDS["thanks-en"], "thanks")
        member.wait_bye()
        digits = [params["Digits"] for params in self.recorder.to("/conference/pin", From=CALLERS["member"])]
        self.scenario.equal(digits, ["12", "1234"], "PINs")
        left = self.recorder.wait("/conference/left", From=CALLERS["member"])
        self.scenario.equal((left["DialCallStatus"], left["ConferenceSid"]), ("answered", conference.sid), "the action of Dial")
        wait_for(lambda: self.recorder.to("/conference/told", StatusCallbackEvent="conference-end"), 5, "the end of the conference")
        told = self.recorder.to("/conference/told")
        self.scenario.equal([params["SequenceNumber"] for params in told], [str(place) for place in range(1, len(told) + 1)], "numbers of the callbacks")
        events = [params["StatusCallbackEvent"] for params in told]
        self.scenario.equal((sorted(events[:3]), events[-1]), (["conference-start", "participant-join", "participant-join"], "conference-end"), "callbacks")
        self.scenario.equal(conference.fetch().status, "completed", "the conference")

    def direct(self):
        """Calls the desk at its own number: nothing answers until the desk does."""
        call, rtp = self.telephones.ring(phone := self.telephones.at_trunk(CALLERS["direct"]), DIRECT)
        incoming = self.rings("direct")
        incoming.respond(180)
        call.provisional(180)
        sid = self.sid("direct", "/reach")
        self.told("/reach/status", 2, ParentCallSid=sid)
        self.scenario.equal(self.client.calls(sid).fetch().status, "ringing", "the caller's call while the desk rings")
        self.scenario.equal(phone.transport.find(lambda message: message.status >= 200, 0.3), None, "an answer before the desk's")
        desk = self.telephones.answer("desk", self.desk, incoming)
        caller = self.telephones.answered("direct", phone, rtp, call)
        self.talk(caller, desk)
        desk.hang_up()
        caller.wait_bye()
        done = self.recorder.wait("/reach/done", CallSid=sid)
        self.scenario.equal(done["DialCallStatus"], "completed", "DialCallStatus")
        steps = self.told("/reach/status", 4, ParentCallSid=sid)
        self.scenario.equal(steps, [("initiated", "0"), ("ringing", "1"), ("in-progress", "2"), ("completed", "3")], "callbacks of the desk's leg")

    def busy(self):
        """The desk is busy: the caller leaves a message, and hangs up without a key."""
        caller = self.at_menu("busy")
        caller.press("4")
        self.rings("busy").respond(486)
        caller.hears(SOUNDS["away-en"], "that nobody is there")
        caller.hears_speech()
        words = caller.say(after=BEEP)
        caller.hang_up()
        sid = self.sid("busy")
        self.scenario.equal(self.recorder.wait("/reach/done", CallSid=sid)["DialCallStatus"], "busy", "DialCallStatus")
        self.scenario.equal(self.recorder.wait("/voicemail/done", CallSid=sid)["Digits"], "hangup", "Digits of Record")
        self.scenario.equal(self.told("/reach/status", 2, ParentCallSid=sid), [("initiated", "0"), ("busy", "1")], "callbacks of the desk's leg")
        self.kept(self.message(sid), words[: -RATE // 10], "what was said")

    def unanswered(self):
        """The desk does not answer: the caller leaves a message."""
        caller = self.at_menu("unanswered")
        caller.press("4")
        incoming = self.rings("unanswered")
        incoming.respond(180)
        # It comes after the five seconds that the application gives the desk.
        incoming.wait_cancel(10)
        caller.hears(SOUNDS["away-en"], "that nobody is there")
        caller.hears_speech()
        words = caller.say(after=BEEP)
        caller.press("#")
        caller.hears(SOUNDS["thanks-en"], "thanks")
        caller.wait_bye()
        sid = self.sid("unanswered")
        self.scenario.equal(self.recorder.wait("/reach/done", CallSid=sid)["DialCallStatus"], "no-answer", "DialCallStatus")
        steps = self.told("/reach/status", 3, ParentCallSid=sid)
        self.scenario.equal(steps, [("initiated", "0"), ("ringing", "1"), ("no-answer", "2")], "callbacks of the desk's leg")
        self.kept(self.message(sid), words, "what was said")

    def operator(self):
        """Asks to be called back, and is."""
        caller = self.at_menu("operator")
        caller.press("0")
        caller.hears(SOUNDS["thanks-en"], "thanks")
        caller.wait_bye()
        incoming = self.telephones.carrier.wait_invite(8)
        self.scenario.check(COMPANY in incoming.invite.header("from"), f"who calls back: {incoming.invite.header('from')}")
        self.scenario.check(CALLERS["operator"] in incoming.invite.start, f"who is called back: {incoming.invite.start}")
        incoming.respond(180)
        self.told("/operator/status", 2)
        back = self.telephones.answer("called back", self.telephones.carrier, incoming)
        back.hears(SOUNDS["operator-en"], "the operator")
        back.hears_speech()
        back.wait_bye()
        steps = self.told("/operator/status", 4)
        self.scenario.equal(steps, [("initiated", "0"), ("ringing", "1"), ("in-progress", "2"), ("completed", "3")], "callbacks of the call back")
        last = self.recorder.to("/operator/status")[-1]
        self.scenario.equal((last["To"], last["From"], last["Direction"]), (CALLERS["operator"], COMPANY, "outbound-api"), "the call back")

    def fallback(self):
        """The program fails once: the fallback URL answers then, and only then."""
        first = self.telephones.call("first", self.telephones.at_trunk(CALLERS["first"]), HOURS)
        first.hears(SOUNDS["sorry-en"], "the apology")
        first.hears(SOUNDS["menu-en"], "the menu")
        first.hang_up()
        asked = self.recorder.wait("/fallback", From=CALLERS["first"])
        self.scenario.equal((asked["ErrorCode"], asked["ErrorUrl"]), ("11200", f"{self.recorder.url}/opening-hours"), "what the fallback is told")
        second = self.telephones.call("second", self.telephones.at_trunk(CALLERS["second"]), HOURS)
        greeting = second.hears(SOUNDS["menu-en"], "the menu")
        self.scenario.check(loudest(greeting) > 300, f"the second is greeted by {loudest(greeting):.0f}")
        second.hang_up()
        self.scenario.equal(len(self.recorder.to("/fallback")), 1, "requests for the fallback")

    def softphone_chooses(self):
        """A real softphone hears the menu, presses a key, and hears it in the other language."""
        self.reception.dial(COMPANY)
        # It writes its recording in blocks: the end of a sound may be there only with the next one.
        found = lambda name: best_match(SOUNDS[name][: RATE * 3 // 10], self.reception.heard())[0]
        wait_for(lambda: found("menu-en") >= ENOUGH, 8, "the menu at the softphone", every=0.2)
        self.scenario.check(found("menu-de") < IMPOSTOR, "the softphone hears the other language before it chooses")
        self.reception.press("8")
        wait_for(lambda: found("menu-de") >= ENOUGH, 8, "the menu in the other language at the softphone", every=0.2)
        self.scenario.check(found("wrong-en") < IMPOSTOR, "the softphone hears that the key is wrong")
        self.reception.command("/hangup\n")

    def forged(self):
        """Whoever does not know the token is refused."""
        form = {"CallSid": "CA" + "0" * 32, "From": "+15559999", "CallStatus": "ringing", "Digits": "1"}
        signature = self.recorder.validator.compute_signature(f"{self.recorder.url}/choice", form)
        host = {"Host": f"127.0.0.1:{self.app_port}"}
        ask = lambda form, **headers: requests.post(f"http://127.0.0.1:{self.program_port}/choice", form, headers=host | headers, timeout=5).status_code
        self.scenario.equal(ask(form, **{"X-Twilio-Signature": signature}), 200, "a request of one who knows the token")
        self.scenario.equal(ask(form | {"Digits": "2"}, **{"X-Twilio-Signature": signature}), 403, "a request that was changed")
        self.scenario.check(ask(form) in (400, 403), "a request without a signature is refused")

    # Afterwards.

    def trace(self, name):
        """What the program was asked because of one caller."""
        mine = CALLERS[name]
        of = lambda one: one["params"].get("CallSid")
        calls = {of(one) for one in self.recorder.requests if mine in (one["params"].get("From"), one["params"].get("To"))}
        return self.recorder.trace(calls)

    def books(self, is_whole):
        """Nothing is left, every call is written and was told of, and every request was signed."""
        equal = self.scenario.equal
        self.worst = min((telephone.worst for telephone in self.telephones.all), default=1.0)
        self.telephones.close()
        self.scenario.end(self.reception.process)
        wait_for(lambda: not self.server.live(), 5, "all calls to be over", every=0.1)
        calls = self.server.calls()
        inbound = [one["sid"] for one in calls if one["direction"] == "inbound"]
        self.server.written([one["sid"] for one in calls])
        wait_for(lambda: len(self.recorder.to("/status")) == len(inbound), 5, f"{len(inbound)} callbacks of the numbers", every=0.05)
        equal(sorted(params["CallSid"] for params in self.recorder.to("/status")), sorted(inbound), "calls that the numbers' callback tells of")
        equal({(params["CallStatus"], params["SequenceNumber"]) for params in self.recorder.to("/status")}, {("completed", "0")} if inbound else set(), "the numbers' callbacks")
        listed = {one.sid: one.status for one in self.client.calls.list(page_size=200)}
        equal(listed, {one["sid"]: one["status"] for one in calls}, "calls as REST lists them")
        asked = self.recorder.requests
        equal([(one["path"], one["params"]) for one in asked if not one["valid"]], [], "requests with a wrong signature")
        equal(sorted({(one["path"], *one["twice"]) for one in asked if one["twice"]}), [], "parameters that come twice")
        equal([found for one in asked if (found := wrong(one["path"], one["params"]))], [], "parameters that are missing, and that are too many")
        told = [one for one in asked if "rest" in one]
        equal([(one["params"]["CallStatus"], one["rest"], one["path"]) for one in told if not agrees(one)], [], "requests that REST is behind of")
        statuses = sorted((one["path"], one["status"]) for one in asked if one["status"] not in (200, 204))
        equal(statuses, [("/opening-hours", 500)] * is_whole, "requests that the program did not answer well")
        equal([one.sid for one in self.client.recordings.list()], [], "recordings that are left")
        self.server.wait_metric(0, "dialtone_media_sessions")
        equal(self.server.stop(), 0, "exit code")
        self.count = len(calls), len(asked)
        return f"{len(calls)} calls, {len(asked)} requests, {len(told)} of them with a status"


def write_sounds(folder):
    folder.mkdir()
    for name, samples in (SOUNDS | control.SOUNDS).items():
        write_wave(folder / f"{name}.wav", samples)
