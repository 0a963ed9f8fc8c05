"""A REST program takes hold of running calls: what takes the place of what, who wins of two, and what REST and callbacks say of it."""

import concurrent.futures
import threading
from collections import Counter
from urllib.parse import parse_qsl

from twilio.base.exceptions import TwilioRestException
from twilio.request_validator import RequestValidator
from twilio.twiml.voice_response import Gather, VoiceResponse

from lib.document import Document
from lib.rtp import noise
from lib.scenario import wait_for
from lib.server import AUTH_TOKEN
from recorder import agrees

IMPOSTOR = 0.5
# Users that are called, and the noises of a second and less that they hear.
USERS = {name: f"secret-of-{name}" for name in ("played", "raced", "raced-too", "contested", "late", "rung", "hasty", "moved", "plain", "dialling", "dialled")}
SOUNDS = {name: noise(0.6, seed) for seed, name in enumerate(("one", "two", "three"), 50)}
STEPS = ["initiated", "ringing", "answered", "completed"]
ROUNDS = 8


class Control:
    """Works at the server of one line, with documents of its own."""

    def __init__(self, line, port):
        self.line, self.scenario, self.name, self.url = line, line.scenario, "control", f"http://127.0.0.1:{port}"
        self.validator, self.told, self.asked, self.invalid = RequestValidator(AUTH_TOKEN), [], [], []
        self.let_go, self.phones, self.later = threading.Event(), {}, []
        Document(port, self.answer)

    def parts(self):
        return [self.interrupted, self.raced, self.raced_too, self.contested, self.late, self.rung, self.hasty, self.moved, self.plain, self.dialled]

    # The program's documents.

    def play(self, name, within_gather=False):
        """Plays without an end, in a verb of either kind."""
        response = VoiceResponse()
        if within_gather:
            gather = Gather(timeout=60)
            gather.play(self.sound(name), loop=0)
            response.append(gather)
        else:
            response.play(self.sound(name), loop=0)
        return str(response)

    def sound(self, name):
        return f"http://127.0.0.1:{self.line.program_port}/sounds/{name}.wav"

    def answer(self, handler):
        form = dict(parse_qsl(handler.form, keep_blank_values=True))
        if not self.validator.validate(self.url + handler.path, form, handler.headers.get("X-Twilio-Signature", "")):
            self.invalid.append(handler.path)
        # Before the answer, so that the next request has not been sent.
        if form:
            self.told.append({"path": handler.path, "params": form, "rest": self.line.recorder.status(form["CallSid"])})
        if handler.path == "/status":
            return handler.document("", status=204)
        self.asked.append((handler.path, form))
        if handler.path == "/slow":
            self.let_go.wait(12)
            return handler.document(self.play("one"))
        if handler.path == "/moved":
            handler.send_response(307)
            handler.send_header("Location", "/fast")
            handler.send_header("Content-Length", "0")
            return handler.end_headers()
        if handler.path == "/plain":
            return handler.document(self.play("two"), "text/plain")
        if handler.path == "/dialled":
            return handler.document(self.play("three"))
        if handler.path == "/broken":
            return handler.document("out of order", "text/plain", 500)
        handler.document(self.play({"/fast": "two", "/instead": "three"}[handler.path]))

    # What the parts share.

    def place(self, user, twiml):
        """Makes a call to this user: its resource, the telephone, and the call as that has it."""
        if user not in self.phones:
            self.phones[user] = self.line.telephones.register(user, USERS[user])
        phone = self.phones[user]
        call = self.line.client.calls.create(
            to=f"client:{user}", from_="+15556000", twiml=twiml, status_callback=f"{self.url}/status", status_callback_event=STEPS
        )
        return call, phone, phone.wait_invite()

    def answered(self, user, twiml):
        call, phone, incoming = self.place(user, twiml)
        incoming.respond(180)
        telephone = self.line.telephones.answer(user, phone, incoming)
        wait_for(lambda: call.fetch().status == "in-progress", 5, "the call to be in progress")
        return self.line.client.calls(call.sid), telephone

    def callbacks(self, sid, *wanted):
        """They come in this order, numbered from 0."""
        mine = lambda: [(one["params"]["CallStatus"], one["params"]["SequenceNumber"]) for one in self.steps() if one["params"]["CallSid"] == sid]
        wait_for(lambda: len(mine()) >= len(wanted), 6, f"{len(wanted)} callbacks")
        self.scenario.equal(mine(), [(status, str(place)) for place, status in enumerate(wanted)], "callbacks")

    def steps(self):
        return [one for one in self.told if one["path"] == "/status"]

    def refused(self, call, **change):
        try:
            call.update(**change)
        except TwilioRestException as error:
            return self.scenario.equal((error.code, error.status), (21220, 400), f"error of {change}")
        self.scenario.check(False, f"{change} is taken of a call that is over")

    def over(self, call):
        for change in ({"twiml": self.play("one")}, {"url": f"{self.url}/fast"}, {"status": "completed"}, {"status": "canceled"}):
            self.refused(call, **change)

    def goes_on(self, telephone, name, *others, times=2):
        """This is heard from now on, again and again, and the others are not heard any more."""
        telephone.hears(SOUNDS[name], name)
        since = telephone.mark
        for _ in range(times):
            telephone.hears(SOUNDS[name], f"{name}, which is played without an end")
        heard = {other: telephone.likeness(SOUNDS[other], since)[0] for other in others}
        self.scenario.check(max(heard.values()) < IMPOSTOR, f"{telephone.name} hears what {name} has taken the place of: {heard}")

    # The parts.

    def interrupted(self):
        """What plays without an end gives way to a document, and that to the fallback of one that fails; then the call is ended."""
        call, telephone = self.answered("played", self.play("one"))
        self.goes_on(telephone, "one", "two", "three")
        changed = call.update(twiml=self.play("two"))
        self.scenario.equal((changed.sid, changed.status), (call.fetch().sid, "in-progress"), "what update gives")
        self.goes_on(telephone, "two", "one", "three")
        call.update(url=f"{self.url}/broken", fallback_url=f"{self.url}/instead")
        self.goes_on(telephone, "three", "one", "two")
        (_, broken), (_, instead) = [one for one in self.asked if one[0] in ("/broken", "/instead")]
        self.scenario.equal({form["CallSid"] for form in (broken, instead)}, {changed.sid}, "whose documents were asked for")
        self.scenario.equal((instead["ErrorCode"], instead["ErrorUrl"]), ("11200", f"{self.url}/broken"), "what the fallback is told")
        self.refused(call, status="canceled")
        self.scenario.equal(call.update(status="completed").status, "completed", "what update gives")
        telephone.wait_bye()
        self.callbacks(changed.sid, "initiated", "ringing", "in-progress", "completed")
        self.over(call)

    def raced(self):
        self.races("raced", range(0, ROUNDS, 2))

    def raced_too(self):
        self.races("raced-too", range(1, ROUNDS, 2))

    def races(self, user, turns):
        """Two changes at once: both are taken, one after the other, and what runs afterwards is the later one, alone."""
        call, telephone = self.answered(user, self.play("three"))
        telephone.hears(SOUNDS["three"], "the first document")
        sid, names = call.fetch().sid, {"play": "one", "gather": "two"}
        for turn in turns:
            before = len(self.verbs(sid))
            answers = self.at_once(sid, *({"twiml": self.play(name, within_gather=verb == "gather")} for verb, name in names.items()))
            self.scenario.equal(answers, ["in-progress", "in-progress"], f"answers in round {turn}")
            # As the server tells of the call: what began last is the later one.
            began = wait_for(lambda: len(self.verbs(sid)) >= before + 2 and self.verbs(sid)[before:], 3, "both to begin", every=0.05)
            self.scenario.equal(sorted(began), sorted(names), f"what began in round {turn}")
            self.later.append(began[-1])
            telephone.mark = len(telephone.heard())
            self.goes_on(telephone, names[began[-1]], names[began[0]], times=1)
        call.update(status="completed")
        telephone.wait_bye()
        self.callbacks(sid, "initiated", "ringing", "in-progress", "completed")

    def verbs(self, sid):
        return [event["verb"].lower() for event in self.line.server.call(sid)["events"] if event["type"] == "verb_started"]

    def at_once(self, sid, *changes):
        """Each change from a thread and a program of its own, or a function that is called: the statuses or error numbers that they give."""
        barrier, clients = threading.Barrier(len(changes)), [self.line.login() for _ in changes]

        def make(client, change):
            barrier.wait()
            try:
                return change() if callable(change) else client.calls(sid).update(**change).status
            except TwilioRestException as error:
                return error.code

        with concurrent.futures.ThreadPoolExecutor(len(changes)) as pool:
            return list(pool.map(make, clients, changes))

    def contested(self):
        """A document, an end by REST and an end by the telephone at once, two of them each time: the call ends, and it ends once."""
        given = set()
        for turn in range(9):
            call, telephone = self.answered("contested", self.play("one"))
            document, end = {"twiml": self.play("two")}, {"status": "completed"}
            changes = [(document, end), (end, end), (document, telephone.hang_up)][turn % 3]
            answers = self.at_once(call.fetch().sid, *changes)
            for change, answer in zip(changes, answers):
                # A document that was taken is answered by the call as it is then, which the end may have reached.
                wanted = {"twiml": {"in-progress", "completed", 21220}, "status": {"completed", 21220}}[next(iter(change))] if isinstance(change, dict) else {None}
                self.scenario.check(answer in wanted, f"{change} in round {turn}: {answer}")
            self.scenario.check(turn % 3 == 2 or "completed" in answers, f"nobody has ended it: {answers}")
            given.add((turn % 3, *answers))
            if not telephone.is_over:
                telephone.wait_bye()
            self.callbacks(call.fetch().sid, "initiated", "ringing", "in-progress", "completed")
            self.over(call)
        return sorted(given, key=str)

    def late(self):
        """A change whose document comes late has lost its place to the change after it."""
        call, telephone = self.answered("late", self.play("three"))
        telephone.hears(SOUNDS["three"], "the first document")
        call.update(url=f"{self.url}/slow")
        wait_for(lambda: [one for one in self.asked if one[0] == "/slow"], 5, "a request for the slow document")
        call.update(url=f"{self.url}/fast")
        telephone.mark = len(telephone.heard())
        telephone.hears(SOUNDS["two"], "the document of the later change")
        self.let_go.set()
        self.goes_on(telephone, "two", "one", "three")
        telephone.hang_up()
        self.callbacks(call.fetch().sid, "initiated", "ringing", "in-progress", "completed")
        self.over(call)

    def rung(self):
        """Ended while it rings, in both ways."""
        for status in ("canceled", "completed"):
            made, _, incoming = self.place("rung", self.play("one"))
            incoming.respond(180)
            wait_for(lambda: made.fetch().status == "ringing", 5, "the call to ring")
            self.scenario.equal(made.update(status=status).status, "canceled", f"what update by {status} gives")
            incoming.wait_cancel()
            self.callbacks(made.sid, "initiated", "ringing", "canceled")
            self.scenario.equal(made.fetch().status, "canceled", "the call")
            self.over(self.line.client.calls(made.sid))

    def hasty(self):
        """Ended at once after the answer: what update gives as its status is what becomes of the call."""
        seen = []
        for _ in range(5):
            made, phone, incoming = self.place("hasty", self.play("one"))
            incoming.respond(180)
            wait_for(lambda: made.fetch().status == "ringing", 5, "the call to ring")
            telephone = self.line.telephones.answer("hasty", phone, incoming)
            given = made.update(status="completed").status
            telephone.wait_bye()
            self.callbacks(made.sid, "initiated", "ringing", "in-progress", "completed")
            seen.append((given, self.line.client.calls(made.sid).fetch().status))
        self.scenario.equal(seen, [("completed", "completed")] * 5, "what update gave, and what became of the call")

    def moved(self):
        """307 keeps method and form, as in a browser (RFC 9110 s15.4.8)."""
        call, telephone = self.answered("moved", self.play("one"))
        telephone.hears(SOUNDS["one"], "the first document")
        call.update(url=f"{self.url}/moved")
        telephone.hears(SOUNDS["two"], "the document that the redirect leads to")
        telephone.hang_up()
        form = [form for path, form in self.asked if path == "/fast" and form.get("CallSid") == call.fetch().sid]
        self.scenario.equal(len(form), 1, "requests with a form where 307 leads")

    def plain(self):
        """Valid TwiML is run as text/plain too."""
        call, telephone = self.answered("plain", self.play("one"))
        telephone.hears(SOUNDS["one"], "the first document")
        call.update(url=f"{self.url}/plain")
        telephone.hears(SOUNDS["two"], "TwiML that is text/plain")
        telephone.hang_up()

    def dialled(self):
        """A child that leaves its parent by a document of its own has no DialCallDuration."""
        document = "<Response><Dial action='URL/dialled'><Client>dialled</Client></Dial></Response>".replace("URL", self.url)
        self.phones["dialled"] = self.line.telephones.register("dialled", USERS["dialled"])
        call, telephone = self.answered("dialling", document)
        child = self.line.telephones.answer("dialled", self.phones["dialled"], self.phones["dialled"].wait_invite())
        sid = call.fetch().sid
        leg, = wait_for(lambda: self.line.client.calls.list(parent_call_sid=sid, status="in-progress"), 5, "the child")
        leg.update(twiml=self.play("two"))
        telephone.hears(SOUNDS["three"], "the action of the Dial")
        (_, form), = [one for one in self.asked if one[0] == "/dialled"]
        child.hang_up()
        telephone.hang_up()
        self.scenario.check("DialCallDuration" not in form, "DialCallDuration of a child that went on by itself")

    def books(self):
        """Every request was signed, each step was told once, and REST was never behind what a request said."""
        self.scenario.equal(self.invalid, [], "requests with a wrong signature")
        steps = Counter((one["params"]["CallSid"], one["params"]["CallStatus"]) for one in self.steps())
        self.scenario.equal([step for step, count in steps.items() if count > 1], [], "steps that were told twice")
        told = [(one["path"], one["params"]["CallStatus"], one["rest"]) for one in self.told if not agrees(one)]
        self.scenario.equal(told, [], "requests that REST is behind of")
        return f"{len(self.told)} requests; the later of two was {' '.join(self.later)}"
