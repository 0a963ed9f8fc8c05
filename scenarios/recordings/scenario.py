"""An application and its REST program record calls, and what was said is looked for in the files that they download."""

import datetime
import email.utils
import io
import math
import pathlib
import shutil
import subprocess
import sys
import wave

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import numpy
import requests
from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.rest import Client

from application import Application
from lib.rtp import Rtp, best_match, correlation, noise, ulaw_encode
from lib.scenario import Scenario, wait_for
from lib.server import ACCOUNT, AUTH_TOKEN, Server, base_config, number, trunk, user
from lib.sip import Phone, sdp
from telephones import RATE, Telephones, is_beep, quiet

HTTP, APP, SIP, TRUNK = "127.0.0.1:10500", 10505, ("127.0.0.1", 10510), "127.0.0.2"
URL = f"http://127.0.0.1:{APP}"
MINE, (OTHER, OTHER_TOKEN) = (ACCOUNT, AUTH_TOKEN), ("AC" + "f" * 32, "of-the-other")
NUMBERS = {
    "trimmed": ("+15553000", f"{URL}/record"),
    "kept": ("+15553001", f"{URL}/record-by-get"),
    "silent": ("+15553002", f"{URL}/record?timeout=2"),
    "dialled": ("+15553003", f"{URL}/dial"),
    "started": ("+15553004", f"{URL}/started"),
}
CONFIG = base_config(
    f"{SIP[0]}:{SIP[1]}",
    HTTP,
    "10520-10699",
    more="".join(number(text, voice_url=url) for text, url in NUMBERS.values())
    + user("bob", "secret-of-bob")
    + trunk("carrier", **{"from": [f"{TRUNK}/32"]})
    + f'\n[[account]]\nsid = "{OTHER}"\nauth_token = "{OTHER_TOKEN}"\n',
)
ENOUGH, IMPOSTOR = 0.9, 0.5
COMPLETED = {
    "AccountSid", "CallSid", "RecordingSid", "RecordingUrl", "RecordingStatus", "RecordingDuration", "RecordingChannels", "RecordingStartTime",
    "RecordingSource", "RecordingTrack", "ErrorCode",
}


def channels(data):
    """The channels of a WAV file, each as samples."""
    with wave.open(io.BytesIO(data)) as file:
        samples = numpy.frombuffer(file.readframes(file.getnframes()), "<i2")
        if (file.getframerate(), file.getsampwidth()) != (RATE, 2):
            raise ValueError(f"{file.getparams()}")
        return list(samples.reshape(-1, file.getnchannels()).T)


def download(url, login=MINE, **headers):
    return requests.get(url, auth=login, headers=headers, timeout=5)


class Recordings:
    def __init__(self, scenario):
        self.scenario = scenario
        self.worst, self.best_impostor, self.tries = 1.0, 0.0, 0

    def start(self):
        self.app = Application(APP, MINE)
        self.server = Server(self.scenario, CONFIG).start()
        self.files = self.server.folder / "data" / "recordings"
        self.client, self.other = self.login(*MINE), self.login(OTHER, OTHER_TOKEN)
        self.bob = Phone(SIP, "bob", "secret-of-bob")
        self.scenario.equal(self.bob.register().status, 200, "REGISTER of bob")
        self.telephones = Telephones(SIP, TRUNK, {name: text for name, (text, _) in NUMBERS.items()}, self.bob)
        self.said = self.telephones.said

    def speak(self):
        self.telephones.speak()

    @staticmethod
    def login(sid, token):
        client = Client(sid, token)
        client.api.base_url = f"http://{HTTP}"
        return client

    def refused(self, code, ask):
        """The error number that the SDK gives; list errors have it in their text only."""
        try:
            ask()
        except TwilioRestException as error:
            return self.scenario.equal(error.code, code, f"error of {error.uri}")
        except TwilioException as error:
            return self.scenario.check(f'"code":{code}' in str(error), f"{code} in {error}")
        self.scenario.check(False, f"{code} is not raised")

    # What the application was told, and what it downloads.

    def sid_of(self, call):
        return next(one["sid"] for one in self.server.calls() if one["sip_call_id"] == call.call_id)

    def told(self, status="completed", **wanted):
        """The parameters of a recording's callback."""
        params = dict(self.app.wait("/recording", RecordingStatus=status, **wanted)["params"])
        params.pop("by", None)
        return params

    def holds(self, audio, name, length=None):
        """This channel holds what that one said, and the same comparison fails where it must. Gives the place of it."""
        wanted = self.said[name][: int((length or 1.5) * RATE)]
        found, at = best_match(wanted, audio)
        self.scenario.check(found >= ENOUGH, f"what {name} said: correlation {found:.3f}")
        self.worst = min(self.worst, found)
        for what, recording in (("silence", quiet(2)), ("other noise", noise(2, 99)), ("the recording backwards", audio[::-1])):
            self.lacks(recording, wanted, what)
        for other in ("full" if name == "trimmed" else "trimmed", "bob" if name != "bob" else "kept"):
            self.lacks(audio, self.said[other], f"what {other} said in the recording of {name}")
        return at / RATE

    def lacks(self, audio, wanted, what):
        found = correlation(wanted, audio)
        self.scenario.check(found < IMPOSTOR, f"{what} passes with {found:.3f}")
        self.best_impostor = max(self.best_impostor, found)

    def recorded(self, call, digits, method="POST"):
        """What `<Record>` told its action: the parameters, and the audio that the application got at once."""
        equal = self.scenario.equal
        asked = self.app.wait("/recorded", CallSid=self.sid_of(call))
        params = asked["params"]
        equal((asked["method"], asked["valid"], params["Digits"]), (method, True, digits), "the action of Record")
        equal(params["RecordingUrl"], f"http://{HTTP}/2010-04-01/Accounts/{ACCOUNT}/Recordings/{params['RecordingSid']}", "RecordingUrl")
        equal((asked["download"].status_code, asked["tries"]), (200, 1), "the download by the action, and how often it was tried")
        (audio,) = channels(asked["download"].content)
        self.tries = max(self.tries, asked["tries"])
        equal(params["RecordingDuration"], str(math.ceil(len(audio) // 8 / 1000)), "RecordingDuration")
        return params, audio

    def callback(self, sid, source, channels, track, status="completed"):
        """The callback of a recording has what is documented and nothing else."""
        params = self.told(status, RecordingSid=sid)
        wanted = COMPLETED if status != "in-progress" else COMPLETED - {"RecordingDuration"}
        self.scenario.equal(set(params), wanted, f"parameters of the callback {status}")
        got = [params[name] for name in ("AccountSid", "RecordingSource", "RecordingChannels", "RecordingTrack", "ErrorCode")]
        self.scenario.equal(got, [ACCOUNT, source, channels, track, "0"], f"callback {status}")
        started = email.utils.parsedate_to_datetime(params["RecordingStartTime"])
        age = (datetime.datetime.now(datetime.timezone.utc) - started).total_seconds()
        self.scenario.check(0 <= age < 60, f"RecordingStartTime {started}")
        return params

    def record_verb(self):
        """Beep, words, key; the silence around the words is trimmed, or kept where the document says so."""
        equal, check = self.scenario.equal, self.scenario.check
        told = []
        for name, talk, method in (("trimmed", "say_trimmed", "POST"), ("kept", "say_kept", "GET")):
            caller = self.telephones.talk(talk)
            check(is_beep(caller.rtp.heard()), f"no beep of 1 kHz before {name}")
            params, audio = self.recorded(caller.call, "#", method)
            place, length = self.holds(audio, name), len(audio) / RATE
            told.append(f"{name} {length:.2f} s")
            if name == "trimmed":
                check(1.5 <= length <= 2.1 and place <= 0.3, f"{length:.2f} s with words at {place:.2f} s: the silence is there")
            else:
                check(3.0 <= length <= 3.6 and 0.7 <= place <= 1.1, f"{length:.2f} s with words at {place:.2f} s: silence is missing")
            for status in ("in-progress", "completed"):
                callback = self.callback(params["RecordingSid"], "RecordVerb", "1", "inbound", status)
                equal((callback["CallSid"], callback["RecordingUrl"]), (params["CallSid"], params["RecordingUrl"]), "whose callback")
            equal(callback["RecordingDuration"], params["RecordingDuration"], "RecordingDuration of the callback")
            equal({one["method"] for one in self.app.to("/recording", RecordingSid=params["RecordingSid"])}, {method}, "method of the callbacks")
        self.url = params["RecordingUrl"]
        return f"{', '.join(told)}; downloaded at try {self.tries}"

    def hung_up(self):
        """The caller's end in the middle: the action is told of what there is."""
        params, audio = self.recorded(self.telephones.talk("leave").call, "hangup")
        # The first words may be some milliseconds before the recording: room for them.
        self.holds(numpy.pad(audio, 800), "left")
        self.scenario.check(1.45 <= len(audio) / RATE <= 1.8, f"{len(audio) / RATE:.2f} s of 1.5 s")
        self.callback(params["RecordingSid"], "RecordVerb", "1", "inbound")

    def nothing_said(self):
        """Silence: no action, no file, and the document goes on."""
        caller = self.telephones.talk("say_nothing")
        call = self.sid_of(caller.call)
        self.scenario.check(2.2 <= caller.waited <= 3.5, f"the document went on after {caller.waited:.2f} s")
        self.app.wait("/next", CallSid=call)
        self.scenario.equal(self.app.to("/recorded", CallSid=call), [], "actions")
        params = self.told("absent", CallSid=call)
        self.callback(params["RecordingSid"], "RecordVerb", "1", "inbound", "absent")
        self.scenario.equal(self.app.to("/recording", CallSid=call, RecordingStatus="completed"), [], "callbacks of an end")
        wait_for(lambda: not list(self.files.glob(f"{params['RecordingSid']}*")), 2, "the empty file to be gone")
        self.scenario.equal(self.client.recordings(params["RecordingSid"]).fetch().status, "absent", "status")
        self.scenario.equal(download(params["RecordingUrl"]).status_code, 404, "its audio")

    def dial(self):
        """Each party has a channel of its own."""
        call = self.telephones.talk("two_speak")
        asked = self.app.wait("/dialled", CallSid=self.sid_of(call))
        params = asked["params"]
        self.scenario.equal((asked["valid"], params["DialCallStatus"]), (True, "completed"), "the action of Dial")
        callback = self.callback(params["RecordingSid"], "DialVerb", "2", "both")
        self.scenario.equal((callback["RecordingUrl"], callback["CallSid"]), (params["RecordingUrl"], params["CallSid"]), "RecordingUrl")
        self.dual = params["RecordingUrl"]
        caller, bob = channels(download(self.dual).content)
        begun = self.holds(caller, "dialled"), self.holds(bob, "bob")
        self.lacks(caller, self.said["bob"], "bob in the caller's channel")
        self.lacks(bob, self.said["dialled"], "the caller in bob's channel")
        self.scenario.check(0.1 <= begun[1] - begun[0] <= 0.35, f"bob began 0.2 s after the caller, in the file {begun[1] - begun[0]:.2f} s")

    def start_verb(self):
        """The document went on at once: its words are in the other channel, as the caller heard them."""
        caller = self.telephones.talk("say_while_started")
        params = self.told(CallSid=self.sid_of(caller.call))
        self.callback(params["RecordingSid"], "StartCallRecordingTwiML", "2", "both", "in-progress")
        self.callback(params["RecordingSid"], "StartCallRecordingTwiML", "2", "both")
        said, heard = channels(download(params["RecordingUrl"]).content)
        self.holds(said, "started")
        words = numpy.asarray(caller.rtp.heard(), float)
        words = words[numpy.flatnonzero(abs(words) > 200)[0] :][: int(1.5 * RATE)]
        found = correlation(words, heard)
        self.scenario.check(len(words) == int(1.5 * RATE) and found >= ENOUGH, f"what the caller heard: correlation {found:.3f}")
        self.worst = min(self.worst, found)

    def downloads(self):
        """Forms, parts, and whoever may not."""
        equal, check = self.scenario.equal, self.scenario.check
        plain, wav = download(self.url), download(f"{self.url}.wav")
        equal((plain.headers["Content-Type"], wav.headers["Content-Type"]), ("audio/x-wav", "audio/x-wav"), "types")
        check(plain.content == wav.content and len(wav.content) > 40_000, "with .wav it is another file")
        part = download(self.url, Range="bytes=1000-2999")
        equal((part.status_code, part.headers["Content-Range"]), (206, f"bytes 1000-2999/{len(wav.content)}"), "a range")
        check(part.content == wav.content[1000:3000], "bytes of the range")
        equal(download(self.url, Range=f"bytes={len(wav.content)}-").status_code, 416, "a range behind the end")
        mp3 = download(f"{self.url}.mp3")
        if shutil.which("lame") or shutil.which("ffmpeg"):
            equal((mp3.status_code, mp3.headers["Content-Type"]), (200, "audio/mpeg"), "the mp3")
            check(len(mp3.content) < len(wav.content) / 2 and self.is_mp3(mp3.content), "the mp3 is none")
        else:
            equal((mp3.status_code, "lame" in mp3.text), (501, True), "an mp3 without an encoder")
        equal(download(f"{self.url}.flac").status_code, 404, "a form that there is not")
        for suffix in ("", ".wav", ".mp3", ".opus", ".json"):
            nobody = download(self.url + suffix, login=None)
            equal((nobody.status_code, "Basic" in nobody.headers["WWW-Authenticate"]), (401, True), f"{suffix} without credentials")
            equal(download(self.url + suffix, (ACCOUNT, "wrong")).status_code, 401, f"{suffix} with a wrong token")
            equal(download(self.url + suffix, (OTHER, OTHER_TOKEN)).status_code, 404, f"{suffix} as the other account")
            equal(download(self.url.replace(ACCOUNT, OTHER) + suffix, (OTHER, OTHER_TOKEN)).status_code, 404, f"{suffix} in the other account")

    def is_mp3(self, data):
        """Decoded by lame, where there is one, it holds the same words."""
        if not shutil.which("lame"):
            return data[:3] == b"ID3" or data[0] == 0xFF
        (self.scenario.folder / "kept.mp3").write_bytes(data)
        done = subprocess.run(["lame", "--quiet", "--decode", "kept.mp3", "kept.wav"], cwd=self.scenario.folder, stdin=subprocess.DEVNULL)
        self.scenario.equal(done.returncode, 0, "lame --decode")
        (audio,) = channels((self.scenario.folder / "kept.wav").read_bytes())
        self.holds(audio, "kept")
        return True

    def opus(self):
        """Ogg Opus of a mono and of a dual recording: libopus hears in it what the wav has, as long, each in its own channel."""
        equal, told = self.scenario.equal, []
        for url, said in ((self.url, ["kept"]), (self.dual, ["dialled", "bob"])):
            whole = download(f"{url}.opus")
            equal((whole.status_code, whole.headers["Content-Type"]), (200, "audio/ogg"), "the opus file")
            equal(download(f"{url}.opus").content, whole.content, "the file when it is asked for again")
            part = download(f"{url}.opus", Range="bytes=100-299")
            equal((part.status_code, part.content), (206, whole.content[100:300]), "a range of it")
            head = requests.head(f"{url}.opus", auth=MINE, timeout=5)
            equal((head.headers["Content-Length"], head.content), (str(len(whole.content)), b""), "HEAD")
            wav, heard = channels(download(url).content), self.opus_decode(whole.content, len(said))
            equal([len(one) for one in heard], [len(one) for one in wav], "samples of each channel")
            for name, audio, original in zip(said, heard, wav):
                self.holds(audio, name)
                found = correlation(original, audio)
                self.scenario.check(found >= 0.97, f"the wav in the opus file: correlation {found:.3f}")
            told.append(f"{len(said)} of {8 * len(whole.content) * RATE / len(wav[0]) / 1000:.0f} kbit/s")
        for one, other in ((0, "bob"), (1, "dialled")):
            self.lacks(heard[one], self.said[other], f"{other} in the other channel")
        return ", ".join(told)

    def opus_decode(self, data, wanted):
        """The channels, as opusdec gives them, of a file in which opusinfo finds nothing wrong."""
        folder = self.scenario.folder
        (folder / "one.opus").write_bytes(data)
        info = subprocess.run(["opusinfo", "one.opus"], cwd=folder, capture_output=True, text=True).stdout
        faults = [line for line in info.splitlines() if "WARNING" in line or "ERROR" in line]
        equal, has = self.scenario.equal, lambda text: self.scenario.check(text in info, f"opusinfo does not say {text!r}: {info}")
        equal(faults, [], "faults of the opus file")
        has(f"Channels: {wanted}")
        has(f"Original sample rate: {RATE} Hz")
        done = subprocess.run(["opusdec", "--quiet", "--no-dither", "--rate", str(RATE), "one.opus", "one.wav"], cwd=folder)
        equal(done.returncode, 0, "opusdec")
        return channels((folder / "one.wav").read_bytes())

    # The REST program.

    def rest(self):
        """Two recordings of a call that the program places: the whole call, and a part of it with pauses."""
        equal, check = self.scenario.equal, self.scenario.check
        parts = {name: noise(0.7, seed) for seed, name in enumerate(("first", "skipped", "second", "silent", "third"), 20)}
        rtp = Rtp()
        call = self.client.calls.create(
            to="client:bob", from_=NUMBERS["kept"][0], url=f"{URL}/wait", record=True, recording_channels="dual", trim="do-not-trim",
            recording_status_callback=f"{URL}/recording", recording_status_callback_event=["in-progress", "completed"],
        )
        of_call = self.client.calls(call.sid).recordings
        incoming = self.bob.wait_invite()
        incoming.respond(180)
        self.refused(21220, of_call.create)
        incoming.accept(sdp("127.0.0.1", rtp.port))
        rtp.remote = incoming.invite.media()
        self.app.wait("/recording", CallSid=call.sid, RecordingStatus="in-progress")
        self.refused(20001, lambda: of_call.create(recording_channels="three"))

        made = of_call.create(
            recording_channels="mono", recording_track="inbound", trim="do-not-trim", recording_status_callback=f"{URL}/recording",
            recording_status_callback_event=["in-progress", "completed"], recording_status_callback_method="POST",
        )
        shape = lambda one: (one.call_sid, one.status, one.source, one.channels, one.track)
        equal(shape(made), (call.sid, "in-progress", "StartCallRecordingAPI", 1, "inbound"), "what create gives")
        self.refused(20001, lambda: of_call("Twilio.CURRENT").update(status="gone"))
        self.refused(20404, lambda: of_call("RE" + "0" * 32).update(status="paused"))
        self.refused(20404, lambda: self.other.calls(call.sid).recordings(made.sid).update(status="paused"))

        say = lambda name: rtp.play(ulaw_encode(parts[name]))
        say("first")
        equal(of_call("Twilio.CURRENT").update(status="paused", pause_behavior="skip").sid, made.sid, "what CURRENT is")
        wait_for(lambda: of_call(made.sid).fetch().status == "paused", 1, "the pause")
        say("skipped")
        equal(of_call(made.sid).update(status="in-progress").status, "in-progress", "what update gives")
        say("second")
        equal(of_call(made.sid).update(status="paused", pause_behavior="silence").status, "paused", "what update gives")
        say("silent")
        of_call("Twilio.CURRENT").update(status="in-progress")
        say("third")
        equal(of_call("Twilio.CURRENT").update(status="stopped").sid, made.sid, "what CURRENT is")
        self.callback(made.sid, "StartCallRecordingAPI", "1", "inbound", "in-progress")
        params = self.callback(made.sid, "StartCallRecordingAPI", "1", "inbound")
        self.refused(21220, lambda: of_call(made.sid).update(status="paused"))
        self.refused(21220, lambda: of_call(made.sid).update(status="stopped"))
        self.client.calls(call.sid).update(status="completed")
        incoming.wait_bye()
        rtp.close()

        whole = self.callback(self.told(CallSid=call.sid, RecordingSource="OutboundAPI")["RecordingSid"], "OutboundAPI", "2", "both")
        self.refused(21220, of_call.create)
        self.refused(21220, lambda: of_call(whole["RecordingSid"]).update(status="stopped"))
        said, heard = channels(download(whole["RecordingUrl"]).content)
        places = {name: self.part(parts, name, said) for name in parts}
        check(list(places.values()) == sorted(places.values()), f"places of the parts in the whole: {places}")
        self.paused(parts, places, channels(download(params["RecordingUrl"]).content)[0])
        check(abs(heard).max() < 100, "what bob heard was silence")
        equal(len(self.app.to("/recording", CallSid=call.sid, RecordingStatus="completed")), 2, "callbacks of ends in the call")
        self.placed = call.sid, [made.sid, whole["RecordingSid"]]

    def part(self, parts, name, audio):
        """Where the middle of that part is, in seconds."""
        found, at = best_match(parts[name][800:-800], audio)
        self.scenario.check(found >= ENOUGH, f"part {name}: correlation {found:.3f}")
        self.worst = min(self.worst, found)
        return at / RATE

    def paused(self, parts, places, audio):
        """What was said in a pause is not there: left out in the first, silence in the second. `places` are those in the whole call."""
        first, second, third = (self.part(parts, name, audio) for name in ("first", "second", "third"))
        for name in ("skipped", "silent"):
            self.lacks(audio, parts[name][800:-800], f"the part {name}")
        left_out = (places["second"] - places["first"]) - (second - first)
        self.scenario.check(left_out >= 0.6 and second - first >= 0.6, f"{left_out:.2f} s left out, {second - first:.2f} s from part to part")
        moved = (places["third"] - places["second"]) - (third - second)
        self.scenario.check(abs(moved) < 0.05, f"the silent pause is {moved:.2f} s shorter than it was")
        middle = audio[int((second + 0.8) * RATE) : int((third - 0.3) * RATE)]
        self.scenario.check(len(middle) > 1000 and abs(middle).max() < 10, "the second pause is not silent")

    def lists(self):
        """Those of a call, of the account, of a day; in pages, without a gap or a double."""
        equal, check = self.scenario.equal, self.scenario.check
        call, mine = self.placed
        equal(sorted(one.sid for one in self.client.calls(call).recordings.list()), sorted(mine), "recordings of the call")
        equal(sorted(one.sid for one in self.client.recordings.list(call_sid=call)), sorted(mine), "the account's, of the call")
        every = {params["RecordingSid"] for params in (one["params"] for one in self.app.to("/recording"))}
        listed = [one.sid for one in self.client.recordings.list()]
        equal((set(listed), len(listed)), (every, len(every)), "recordings of the account")
        equal([one.sid for one in self.client.recordings.list(page_size=3)], listed, "in pages of 3")
        page = self.client.recordings.page(page_size=3)
        check(len(list(page)) == 3 and page.next_page_url and len(listed) > 6, f"a page of {len(listed)}")
        equal([one.sid for one in page.next_page()], listed[3:6], "the second page")
        equal(len(self.client.recordings.list(limit=5)), 5, "a limit")
        equal(len(list(self.client.calls(call).recordings.page(page_size=1))), 1, "a page of the call's")
        equal(len(self.client.calls(call).recordings.list(page_size=1)), 2, "the call's in pages of 1")
        equal(self.other.recordings.list(), [], "recordings of the other account")
        self.refused(20404, lambda: self.other.calls(call).recordings.list())

        oldest, newest = (self.client.recordings(sid).fetch().date_created for sid in (listed[-1], listed[0]))
        day, one_day = newest.date(), datetime.timedelta(days=1)
        if oldest.date() == day:
            equal(len(self.client.recordings.list(date_created=day)), len(listed), "recordings of today")
        for none in ({"date_created": day - one_day}, {"date_created_before": oldest.date() - one_day}, {"date_created_after": day + one_day}):
            equal(self.client.recordings.list(**none), [], f"{none}")
        equal(len(self.client.recordings.list(date_created_before=day + one_day, date_created_after=oldest.date())), len(listed), "before and after")
        later = [one for one in listed if self.client.recordings(one).fetch().date_created > oldest]
        got = [one.sid for one in self.client.recordings.list(date_created_after=oldest + datetime.timedelta(seconds=1))]
        equal((got, 0 < len(got) < len(listed)), (later, True), "those after a second")
        return f"{len(listed)} recordings"

    def fetch_and_delete(self):
        """Deleted is deleted: the resource, its audio in every form, and its place in the lists."""
        equal = self.scenario.equal
        call, mine = self.placed
        for sid, resource in zip(mine, (self.client.recordings(mine[0]), self.client.calls(call).recordings(mine[1]))):
            one, audio = resource.fetch(), channels((self.files / f"{sid}.wav").read_bytes())
            equal((one.sid, one.status, one.channels, one.account_sid), (sid, "completed", len(audio), ACCOUNT), "fetch")
            equal(one.duration, str(math.ceil(len(audio[0]) // 8 / 1000)), "duration")
            url = f"http://{HTTP}/2010-04-01/Accounts/{ACCOUNT}/Recordings/{sid}"
            equal(self.client.recordings(sid).fetch().media_url, url, "media_url")
            for suffix in (".mp3", ".opus"):
                download(url + suffix)
            self.refused(20404, lambda: self.other.recordings(sid).delete())
            self.refused(20404, lambda: self.client.calls(self.sid_of(self.telephones.talk("say_kept").call)).recordings(sid).fetch())
            equal(requests.delete(f"{url}.json", timeout=5).status_code, 401, "delete without credentials")
            equal(resource.delete_with_http_info().status_code, 204, "delete")
            self.refused(20404, resource.fetch)
            self.refused(20404, resource.delete)
            for suffix in ("", ".wav", ".mp3", ".opus"):
                equal(download(url + suffix).status_code, 404, f"{suffix} of a deleted recording")
            equal(list(self.files.glob(f"{sid}*")), [], "files of a deleted recording")
        equal(self.client.calls(call).recordings.list(), [], "recordings of the call")
        self.scenario.check(not set(mine) & {one.sid for one in self.client.recordings.list()}, "deleted recordings are listed")
        known = {one.sid: one for one in self.client.recordings.list(include_soft_deleted=True)}
        equal([(known[sid].status, known[sid].call_sid) for sid in mine], [("deleted", call)] * 2, "deleted recordings, asked for")
        equal(self.client.recordings.list(call_sid=call), [], "deleted recordings, not asked for")
        equal(self.other.recordings.list(include_soft_deleted=True), [], "deleted recordings of the other account")

    # What goes wrong.

    def killed(self):
        """kill -9 in the middle: after the restart what was said until then is a completed recording."""
        equal = self.scenario.equal
        before = [one.sid for one in self.client.recordings.list()]
        caller = self.telephones.call("trimmed")
        caller.wait_beep()
        caller.say(quiet(0.3), self.said["killed"])
        sid = self.told("in-progress", CallSid=self.sid_of(caller.call))["RecordingSid"]
        running = download(f"http://{HTTP}/2010-04-01/Accounts/{ACCOUNT}/Recordings/{sid}")
        equal(running.status_code, 404, "the audio of one that runs")
        self.server.kill()
        caller.close()
        self.server.start()
        params = self.callback(sid, "RecordVerb", "1", "inbound")
        (audio,) = channels(download(params["RecordingUrl"]).content)
        self.holds(audio, "killed", 0.9)
        length = len(audio) / RATE
        self.scenario.check(0.9 <= length <= 2.5, f"{length:.2f} s are left of 1.5 s and the silence after them")
        one = self.client.recordings(sid).fetch()
        equal((one.status, one.duration), ("completed", params["RecordingDuration"]), "after the restart")
        self.server.kill()
        self.server.start()
        equal(self.client.recordings(sid).fetch().duration, params["RecordingDuration"], "after another restart")
        equal([one.sid for one in self.client.recordings.list()], [sid, *before], "nothing that was deleted came back")
        return f"{length:.2f} s are left of 1.5 s and the silence before"

    def told_once(self):
        """No end was told twice, but by a server that could not know that it had been heard before it died: that is then the
        same request, by its token. The validator accepts everything but what was changed."""
        tokens = {}
        for one in self.app.to("/recording"):
            tokens.setdefault(one["token"], (one["params"]["RecordingSid"], one["params"]["RecordingStatus"]))
        self.scenario.check(len(self.app.to("/recording")) - len(tokens) <= 2, "as many may come again as the server was killed")
        steps = list(tokens.values())
        ends = [sid for sid, status in steps if status != "in-progress"]
        self.scenario.equal((sorted(ends), set(ends)), (sorted(set(ends)), {sid for sid, _ in steps}), "ends, one of each")
        begun = [sid for sid, status in steps if status == "in-progress"]
        self.scenario.equal(sorted(begun), sorted(set(begun)), "beginnings, one of each at most")
        forms = [form for _, form in self.app.requests]
        self.scenario.equal([form for form in forms if not form["valid"] or form["forged"]], [], "requests with a wrong signature")
        self.scenario.equal({form["method"] for form in forms}, {"GET", "POST"}, "methods")
        return f"{len(forms)} requests, {len(steps)} of them callbacks of recordings"

    def stop(self):
        self.scenario.equal(self.server.stop(), 0, "exit code")

    def full_disk(self):
        """A disk with room for a second and a half: the recording fails, the call does not."""
        equal = self.scenario.equal
        if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
            return "left out: no user namespaces here"
        server = Server(self.scenario, CONFIG, name="full")
        (server.folder / "data" / "recordings").mkdir()
        mount = 'mount -t tmpfs -o size=48k none data/recordings && exec "$@"'
        server.start(prefix=["unshare", "-rm", "sh", "-c", mount, "sh"])
        caller = self.telephones.call("started")
        caller.say(self.said["full"], quiet(0.5), wait=False)
        call = wait_for(server.live, 2, "the call")[0]["sid"]
        params = self.told("failed", CallSid=call)
        self.scenario.check(int(params["ErrorCode"]) > 0, f"ErrorCode {params['ErrorCode']}")
        equal(self.client.calls(call).fetch().status, "in-progress", "the call")
        one = self.client.recordings(params["RecordingSid"]).fetch()
        equal((one.status, one.error_code), ("failed", int(params["ErrorCode"])), "the recording")
        said, _ = channels(download(params["RecordingUrl"]).content)
        self.holds(said, "full", 0.9)
        equal(caller.call.bye().status, 200, "BYE")
        equal(server.ended(caller.call.call_id)["status"], "completed", "the call at its end")
        caller.close()
        equal(server.stop(), 0, "exit code")
        return f"{len(said) / RATE:.2f} s are left"


def main():
    with Scenario(__file__) as scenario:
        calls = Recordings(scenario)
        parts = [
            calls.start, calls.speak, calls.record_verb, calls.hung_up, calls.nothing_said, calls.dial, calls.start_verb, calls.downloads, calls.opus,
            calls.rest, calls.lists, calls.fetch_and_delete, calls.killed, calls.told_once, calls.stop, calls.full_disk,
        ]
        for part in parts:
            scenario.step(part.__name__.replace("_", " "), part)
        scenario.summary = f"what was said is in the recordings: correlation {calls.worst:.3f} or more, impostors {calls.best_impostor:.3f} or less"


main()
