"""Real softphones drive every verb: what each hears is compared with what the application plays and the other phones say."""

import concurrent.futures
import io
import pathlib
import subprocess
import sys
import time
import wave

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import numpy
import requests
from twilio.rest import Client

from application import ANSWERED, SOUNDS, SPOKEN, WRITTEN, Application
from lib.baresip import Baresip, read_wave
from lib.rtp import best_match, noise
from lib.scenario import Failed, Scenario, wait_for
from lib.server import ACCOUNT, AUTH_TOKEN, Server, base_config, number, user

SIP, HTTP, APP, RTP = "127.0.0.1:12510", "127.0.0.1:12500", 12505, "12600-12799"
RATE, ENOUGH, IMPOSTOR = 8000, 0.9, 0.3
# How many samples of what is heard are compared, and what is waited for: that nothing else is among them.
PART, CLEAR = RATE * 6 // 10, 0.98
NAMES = ["desk", "mobile", "lobby", "kitchen", "garage", "attic"]
PAGES = [
    "menu", "busy", "rejected", "echo", "record", "sms", "room", "muted", "coach", "line", "leave", "serve", "refer/garage", "refer/busy", "dial/client", "dial/sip",
    "dial/number", "dial/application",
]
NUMBERS = {page: f"+155570{index:03}" for index, page in enumerate(PAGES)}
CONFIG = base_config(
    SIP,
    HTTP,
    RTP,
    # Of what baresip 1.0 can.
    sip_more='digest = ["MD5"]\n',
    more="".join(number(text, voice_url=f"http://127.0.0.1:{APP}/{page}", sms_url=f"http://127.0.0.1:{APP}/text") for page, text in NUMBERS.items())
    + "".join(user(name, f"secret-of-{name}") for name in NAMES),
)


def spoken(folder):
    """What flite says by itself, with the samples of a telephone."""
    (folder / "spoken").write_text(SPOKEN + "\n")
    subprocess.run(["flite", "-voice", "slt", "-f", "spoken", "-o", "spoken.wav"], cwd=folder, check=True)
    spectrum = numpy.fft.rfft(read_wave(folder / "spoken.wav"))
    return numpy.fft.irfft(spectrum[: len(spectrum) // 2 + 1])


class Phones:
    """What every part needs: the server, its application, six phones, and whose voice is whose."""

    def __init__(self, scenario):
        self.scenario = scenario
        # What a phone says again and again, and what is played so.
        self.voices = {name: noise(4.0, seed) for seed, name in enumerate(NAMES, 100)} | SOUNDS
        # Twice, for what goes over the end.
        self.around = {name: numpy.tile(voice, 2) for name, voice in self.voices.items()}
        self.spoken = spoken(scenario.folder)
        self.heard, self.unheard = [], []
        self.only = [name for name in sys.argv[1:] if hasattr(self, name)]

    def start(self):
        self.app = Application(APP, SIP, "garage", NUMBERS)
        self.server = Server(self.scenario, CONFIG).start()
        self.client = Client(ACCOUNT, AUTH_TOKEN)
        self.client.api.base_url = f"http://{HTTP}"
        self.app.dialled = self.client.applications.create(friendly_name="joins", voice_url=f"{self.app.url}/dial/client").sid
        for index, name in enumerate(NAMES):
            ports = 12520 + 2 * index, 12540 + index, (12800 + 10 * index, 12809 + 10 * index)
            phone = Baresip(self.scenario, name, SIP, name, f"secret-of-{name}", *ports, self.voices[name] * 20, writes_to=NUMBERS["sms"])
            setattr(self, name, phone)
        for name in NAMES:
            getattr(self, name).says("200 OK")

    # Who is heard.

    def explained(self, samples, names):
        """The correlation with the best sum of these voices, each from where it fits."""
        if len(samples) < PART:
            return 0.0
        parts = []
        for name in names:
            at = best_match(samples, self.around[name])[1]
            parts.append(self.around[name][at : at + len(samples)])
        shared = numpy.array(parts).T
        weights = numpy.linalg.lstsq(shared, samples, rcond=None)[0]
        return float(numpy.corrcoef(shared @ weights, samples)[0, 1])

    def holds(self, samples, names, what):
        """They are all of these samples, and each of them is there; nobody else is."""
        found = self.explained(samples, names)
        self.scenario.check(found >= ENOUGH, f"{what}: correlation with {names} {found:.3f}")
        self.heard.append(found)
        for name, voice in self.around.items():
            found = best_match(samples, voice)[0]
            if name in names:
                self.scenario.check(found > 0.5, f"{what} lacks {name}: correlation {found:.3f}")
            else:
                self.scenario.check(found < IMPOSTOR, f"{what} holds {name}: correlation {found:.3f}")
                self.unheard.append(found)

    def hear(self, wanted, seconds=6):
        """These phones hear those voices, all of them and no other, all at one time from now on."""
        since = {phone: len(phone.heard()) for phone in wanted}
        latest = {}

        def is_heard():
            for phone, names in wanted.items():
                latest[phone] = numpy.array(phone.heard()[since[phone] :][-PART:], float)
                if self.explained(latest[phone], names) < CLEAR:
                    return False
            return True

        try:
            wait_for(is_heard, seconds, "voices", every=0.05)
        except Failed:
            # What is wrong is said below.
            pass
        for phone, names in wanted.items():
            self.holds(latest.get(phone, numpy.zeros(PART)), names, f"what {phone.name} hears")

    def hears(self, phone, sound, what, seconds=6):
        """A sound is heard, but for its end: a phone plays a moment behind, and drops that when it is hung up."""
        found = [-1.0]

        def is_heard():
            found[0] = best_match(sound[: -RATE // 5], phone.heard())[0]
            return found[0] >= CLEAR

        try:
            wait_for(is_heard, seconds, what, every=0.05)
        except Failed:
            pass
        self.scenario.check(found[0] >= ENOUGH, f"{phone.name} does not hear {what}: correlation {found[0]:.3f}")
        self.heard.append(found[0])

    def lacks(self, samples, sound, what):
        found = best_match(sound, samples)[0]
        self.scenario.check(found < IMPOSTOR, f"{what}: correlation {found:.3f}")
        self.unheard.append(found)

    # What phones do.

    def call(self, phone, page):
        phone.forget()
        phone.dial(NUMBERS[page])

    def hang_up(self, *phones):
        for phone in phones:
            phone.hang_up()
        for phone in phones:
            phone.says("terminate call")

    def over(self, phone):
        """It is hung up, with this call or with the one that it began last."""
        phone.says("session closed")

    def accepts(self, phone, caller):
        phone.says(f"Incoming call from:  sip:{caller.name}@dialtone")
        phone.accept()

    # The parts.

    def menu(self):
        """Gather, Play, Say, Redirect, Pause, Hangup."""
        equal, phone, told = self.scenario.equal, self.desk, self.app.told
        self.call(phone, "menu")
        self.hears(phone, SOUNDS["menu"], "the sound of the menu")
        equal(self.app.to("/pressed"), [], "keys before one is pressed")
        phone.press("7")
        equal(told("/pressed")["Digits"], "7", "Digits")
        self.hears(phone, self.spoken, "what is said")
        self.hears(phone, SOUNDS["goodbye"], "the sound after the pause")
        self.over(phone)
        waited = self.app.when("/goodbye") - self.app.when("/paused")
        self.scenario.check(0.9 < waited < 2, f"a pause of {waited:.2f} s")
        heard = phone.heard()
        places = [best_match(sound[: RATE // 2], heard)[1] for sound in (SOUNDS["menu"], self.spoken, SOUNDS["goodbye"])]
        equal(places, sorted(places), "where in the call they are")
        self.lacks(heard, SOUNDS["never"][: RATE // 2], "a sound after Hangup")
        self.lacks(heard, self.spoken[::-1], "what is said, backwards")
        call = self.server.ended(lambda call: call["to"] == NUMBERS["menu"])
        equal((call["status"], call["completed"]["ended_by"]), ("completed", "application"), "the call")

    def refused(self):
        """Reject, both ways: what the phone shows, and no sound."""
        for page, shown, status in (("busy", "486 Busy Here", "busy"), ("rejected", "603 ", "failed")):
            self.call(self.mobile, page)
            self.mobile.says(f"session closed: {shown}")
            self.scenario.equal(self.mobile.heard(), [], "sound of a call that is not taken")
            call = self.server.ended(lambda call: call["to"] == NUMBERS[page])
            self.scenario.equal((call["answered_ms"], call["status"]), (None, status), f"a call that is {page}")

    def echo(self):
        self.call(self.mobile, "echo")
        self.hear({self.mobile: ["mobile"]})
        self.hang_up(self.mobile)

    def recorded(self):
        """Record, ended by a key, and Start and Stop: what REST gives of them."""
        equal, phone = self.scenario.equal, self.lobby
        self.call(phone, "record")
        wait_for(phone.heard, 3, "the beep")
        time.sleep(1.5)
        phone.press("#")
        told = self.app.told("/recorded")
        equal(told["Digits"], "#", "the key that ends the recording")
        self.hears(phone, SOUNDS["started"], "what is played while it is recorded")
        self.hears(phone, SOUNDS["stopped"], "what is played afterwards")
        self.over(phone)
        kept = {one.source: one for one in self.client.recordings.list(call_sid=told["CallSid"])}
        equal({source: one.channels for source, one in kept.items()}, {"RecordVerb": 1, "StartCallRecordingTwiML": 2}, "recordings, and their channels")
        equal(kept["RecordVerb"].sid, told["RecordingSid"], "the sid")
        (said,) = self.download(kept["RecordVerb"])
        self.holds(said[len(said) // 2 - PART // 2 :][:PART], ["lobby"], "the recording")
        said, heard = self.download(kept["StartCallRecordingTwiML"])
        self.holds(said[RATE // 5 :][:PART], ["lobby"], "the channel of the phone")
        found = best_match(SOUNDS["started"][400:-400], heard)[0]
        self.scenario.check(found >= ENOUGH, f"what was played while it was recorded: correlation {found:.3f}")
        self.lacks(heard, SOUNDS["stopped"][: RATE // 2], "what was played after Stop")
        return f"{len(said) / RATE:.2f} s"

    def download(self, recording):
        """The channels of its file, which is for those who have the token."""
        url = f"http://{HTTP}{recording.uri.removesuffix('.json')}.wav"
        self.scenario.equal(requests.get(url, timeout=5).status_code, 401, "a download by a stranger")
        answer = requests.get(url, auth=(ACCOUNT, AUTH_TOKEN), timeout=5)
        self.scenario.equal(answer.status_code, 200, "a download")
        with wave.open(io.BytesIO(answer.content)) as file:
            self.scenario.equal((file.getframerate(), file.getsampwidth()), (RATE, 2), "its form")
            return numpy.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels()).T.astype(float)

    def texts(self):
        """Sms shows its text at the phone; what the phone writes to a number is answered."""
        equal, phone = self.scenario.equal, self.attic
        self.call(phone, "sms")
        phone.says(f'sip:{NUMBERS["sms"]}@dialtone: "{WRITTEN}"')
        told = self.app.told("/written")
        equal((told["SmsStatus"], told["From"]), ("sending", "sip:attic@dialtone"), "the action of Sms")
        self.over(phone)
        phone.write("Is it ready?")
        told = self.app.told("/text")
        equal((told["Body"], told["From"], told["To"]), ("Is it ready?", "sip:attic@dialtone", NUMBERS["sms"]), "the text")
        phone.says(f'sip:{NUMBERS["sms"]}@dialtone: "{ANSWERED}"')

    def dialled(self):
        """Dial by every noun that rings somebody."""
        caller, callee = self.kitchen, self.garage
        for noun in ("client", "sip", "number", "application"):
            callee.forget()
            self.call(caller, f"dial/{noun}")
            self.accepts(callee, caller)
            self.hear({caller: ["garage"], callee: ["kitchen"]})
            self.hang_up(callee)
            self.scenario.equal(self.app.told("/dialled", To=NUMBERS[f"dial/{noun}"])["DialCallStatus"], "completed", f"DialCallStatus of {noun}")
            self.over(caller)
        sid = self.app.dialled
        self.scenario.equal(self.app.told("/dial/client", ApplicationSid=sid)["To"], f"app:{sid}", "whom the application is told that is called")

    def referred(self):
        """Refer: the phone calls whom it is told to call, and the action is told what came of it."""
        caller, callee = self.kitchen, self.garage
        callee.forget()
        self.call(caller, "refer/garage")
        self.accepts(callee, caller)
        self.hear({caller: ["garage"], callee: ["kitchen"]})
        told = self.app.told("/referred", To=NUMBERS["refer/garage"])
        wanted = {"ReferCallStatus": "completed", "ReferSipResponseCode": "202", "NotifySipResponseCode": "200"}
        self.scenario.equal({name: told.get(name) for name in wanted}, wanted, "the action of a Refer that is taken")
        self.hang_up(callee)
        self.over(caller)
        # A number that is busy.
        self.call(caller, "refer/busy")
        told = self.app.told("/referred", To=NUMBERS["refer/busy"])
        wanted = {"ReferCallStatus": "busy", "ReferSipResponseCode": "202", "NotifySipResponseCode": "486"}
        self.scenario.equal({name: told.get(name) for name in wanted}, wanted, "the action of a Refer to somebody who is busy")
        caller.says("session closed: 486 Busy Here")

    def conference(self):
        """Music until there are two; one who is muted; three who hear each other; a coach."""
        desk, mobile, lobby = self.desk, self.mobile, self.lobby
        self.call(desk, "room")
        self.hear({desk: ["wait"]})
        self.call(mobile, "room")
        for page, hearing in (("muted", []), ("room", [desk, mobile]), ("coach", [desk])):
            self.call(lobby, page)
            also = lambda phone: ["lobby"] if phone in hearing else []
            self.hear({desk: ["mobile", *also(desk)], mobile: ["desk", *also(mobile)], lobby: ["desk", "mobile"]})
            self.hang_up(lobby)
        self.hang_up(desk, mobile)

    def queue(self):
        """Two wait and hear music, are served in order, and one leaves."""
        desk, mobile, lobby, equal = self.desk, self.mobile, self.lobby, self.scenario.equal
        for place, phone in enumerate((desk, mobile), 1):
            self.call(phone, "line")
            told = self.app.told("/wait", From=f"sip:{phone.name}@dialtone", To=NUMBERS["line"])
            equal(told["QueuePosition"], str(place), "QueuePosition")
        self.hear({desk: ["wait"], mobile: ["wait"]})
        self.call(lobby, "serve")
        self.hear({lobby: ["desk"], desk: ["lobby"], mobile: ["wait"]})
        self.hang_up(lobby)
        self.over(desk)
        self.call(desk, "leave")
        self.call(lobby, "serve")
        self.hear({lobby: ["mobile"], mobile: ["lobby"]})
        self.hears(desk, SOUNDS["wait"], "music of one who leaves")
        self.over(desk)
        self.hang_up(lobby)
        self.over(mobile)
        left = [(params["From"], params["QueueResult"]) for params in self.app.to("/left")]
        equal(left, [("sip:desk@dialtone", "bridged"), ("sip:desk@dialtone", "leave"), ("sip:mobile@dialtone", "bridged")], "how they leave the queue")

    # All of it.

    def books(self):
        """Nothing is left."""
        wait_for(lambda: not self.server.live(), 5, "all calls to be over", every=0.1)
        self.server.wait_metric(0, "dialtone_media_sessions")
        phones = [getattr(self, name) for name in NAMES]
        for phone in phones:
            phone.process.terminate()
        for phone in phones:
            phone.process.wait(5)
        self.scenario.equal(self.server.stop(), 0, "exit code")

    def run(self, plan):
        """A part; of a list one after another, of a tuple all at once. Parts that are named run alone."""
        if isinstance(plan, list):
            for one in plan:
                self.run(one)
        elif isinstance(plan, tuple):
            with concurrent.futures.ThreadPoolExecutor(len(plan)) as pool:
                list(pool.map(self.run, plan))
        elif not self.only or plan.__name__ in ("start", *self.only, "books"):
            self.scenario.step(plan.__name__, plan)


def main():
    with Scenario(__file__) as scenario:
        phones = Phones(scenario)
        house = [(phones.menu, [phones.refused, phones.echo], phones.recorded), phones.conference, phones.queue]
        phones.run([phones.start, (house, [phones.dialled, phones.referred], phones.texts), phones.books])
        heard, unheard = min(phones.heard, default=0), max(phones.unheard, default=0)
        scenario.summary = f"who is to be heard is heard: correlation {heard:.3f} or more, and {unheard:.3f} or less where not"


main()
