"""Media workers and the edge are killed while calls run: nobody hears it, and nothing is lost."""

import http.server
import io
import os
import pathlib
import signal
import sys
import threading
import time
import urllib.parse
import wave

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import numpy
import picture
import requests

from lib import rtp
from lib.edges import child
from lib.leg import Leg
from lib.scenario import Scenario, wait_for
from lib.server import ACCOUNT, AUTH_TOKEN, Server, base_config, number, trunk, user
from lib.sip import Phone, sdp

SIP, HTTP, APP = ("127.0.0.1", 14860), "127.0.0.1:14840", 14845
ECHO, SONG, ASK, TAPE, ROOM, BOB = (f"+1555600000{digit}" for digit in range(6))
URL = f"http://127.0.0.1:{APP}"
# What is heard is what was sent: nothing else correlates as well.
ENOUGH = 0.85
CONFIG = base_config(
    f"{SIP[0]}:{SIP[1]}",
    HTTP,
    "14900-15199",
    workers=2,
    more=trunk("phones", **{"from": ["127.0.0.1"]})
    + user("bob", "secret-of-bob")
    + number(ECHO, "<Echo/>")
    + number(SONG, voice_url=f"{URL}/song")
    + number(ASK, voice_url=f"{URL}/ask")
    + number(TAPE, voice_url=f"{URL}/tape")
    + number(BOB, "<Dial><Client>bob</Client></Dial>")
    + number(ROOM, '<Dial><Conference beep="false">failover</Conference></Dial>'),
)


class Application(http.server.ThreadingHTTPServer):
    """Gives out documents and a song, and keeps what it is told."""

    documents = {
        "/song": "<Play>song.wav</Play>",
        "/ask": '<Gather numDigits="4" timeout="20" action="/digits"><Pause length="20"/></Gather>',
        "/digits": "<Hangup/>",
        "/tape": '<Record maxLength="60" timeout="0" playBeep="false" trim="do-not-trim" recordingStatusCallback="/taped"/>',
    }

    def __init__(self):
        self.forms = []
        self.tune = rtp.noise(8, 77)
        super().__init__(("127.0.0.1", APP), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def told(self, path, seconds=5):
        """The first form that came to a path."""
        return wait_for(lambda: next((form for asked, form in list(self.forms) if asked == path), None), seconds, path)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        path = urllib.parse.urlsplit(self.path).path
        self.server.forms.append((path, dict(urllib.parse.parse_qsl(body, keep_blank_values=True))))
        self.answer("text/xml", f"<Response>{self.server.documents.get(path, '')}</Response>".encode())

    def do_GET(self):
        file = io.BytesIO()
        with wave.open(file, "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(8000)
            out.writeframes(numpy.asarray(self.server.tune, "<i2").tobytes())
        self.answer("audio/wav", file.getvalue())

    def answer(self, kind, body):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Failover:
    def __init__(self, scenario):
        self.scenario = scenario

    def start(self):
        self.app = Application()
        self.server = Server(self.scenario, CONFIG).start()
        wait_for(lambda: len(self.server.workers("active")) == 2 and self.server.workers("standby"), 5, "two workers and a standby")

    def kill(self, worker):
        at = time.monotonic()
        os.kill(worker["pid"], signal.SIGKILL)
        return at

    def worker(self, legs=20):
        """Calls of every kind run, and both workers die, one after the other."""
        equal, check = self.scenario.equal, self.scenario.check
        callers = [Leg(SIP, ECHO) for _ in range(legs)]
        song, ask, tape = Leg(SIP, SONG), Leg(SIP, ASK), Leg(SIP, TAPE, rtp.noise(12, 5))
        room = [Leg(SIP, ROOM, rtp.noise(3, 50 + seed, 3000)) for seed in range(4)]
        everybody = [*callers, song, tape, *room]
        ask.mute()
        ask.media.press("12")
        count = len(everybody) + 2
        busy = wait_for(lambda: (lambda found: sum(w["sessions"] for w in found) == count and found)(self.server.workers("active")), 4, "all sessions to be told")
        check(all(worker["sessions"] >= count // 5 for worker in busy), f"sessions by worker: {[w['sessions'] for w in busy]}")
        gaps, control, kills = [], [], []
        for worker in busy:
            wait_for(lambda: self.server.workers("standby"), 5, "a standby")
            time.sleep(0.6)
            at = self.kill(worker)
            kills.append(at)
            time.sleep(1)
            gaps += [caller.gaps(at - 0.02, at + 0.9)[0] for caller in callers]
            control += [caller.gaps(at - 0.6, at - 0.02)[0] for caller in callers]
        ask.media.press("34")
        last = time.monotonic()
        time.sleep(3)
        hearing = [caller for caller in everybody if caller is not tape]
        for caller in hearing:
            who, packets = f"{caller.call.uri}, {hearing.index(caller)}", list(caller.media.packets)
            equal(caller.phone.transport.find(lambda message: message.is_request, 0), None, f"what was signalled to {who}")
            begins = {packet.ssrc: round(packet.at - kills[0], 3) for packet in reversed(packets)}
            equal(len(begins), 1, f"streams that {who} sees, and when after the first of the kills at {[round(at - kills[0], 3) for at in kills]} they begin: {begins}")
            equal(len(packets), len({packet.sequence for packet in packets}), f"sequence numbers of {who}, each once")
        check(all(caller.media.packets[-1].at > last for caller in hearing), "everybody hears still")
        told = self.server.metric("dialtone_rtp_gap_seconds_count", cause="worker_crash")
        check(told >= len(everybody), f"dialtone_rtp_gap_seconds has {told} gaps, of {len(everybody)} legs that talk")
        digits = self.app.told("/digits")["Digits"]
        equal(digits, "1234", "digits of before and after")
        ask.call.wait_bye()
        late = self.check_song(song)
        self.check_room(room, last)
        for caller in everybody:
            caller.end()
        ask.media.close()
        off = self.check_tape(tape)
        self.after()
        ended = self.server.calls()[: count]
        equal({call["status"] for call in ended}, {"completed"}, "how they ended")
        self.server.written([call["sid"] for call in ended])
        self.summary = f"{len(busy)} workers killed under {count} calls: largest gap {max(gaps) * 1000:.0f} ms, without a kill {max(control) * 1000:.0f} ms"
        return f"{self.summary}; a prompt {late:.0f} ms late, a recording {off:.0f} ms off"

    def many(self, legs=40, kills=10):
        """Many kills under many calls: the table of docs/cluster.md, and its picture."""
        self.after()
        callers = [Leg(SIP, ECHO, picture.tone(2)) for _ in range(legs)]
        gaps, control, at = [], [], 0
        for number in range(kills):
            worker = wait_for(lambda: self.server.workers("standby") and [it for it in self.server.workers("active") if it["sessions"]], 5, "a standby")[number % 2]
            time.sleep(1.5)
            at = self.kill(worker)
            time.sleep(1.2)
            gaps += [caller.gaps(at - 0.02, at + 1)[0] * 1000 for caller in callers]
            control += [caller.gaps(at - 1, at - 0.02)[0] * 1000 for caller in callers]
        heard = max(callers, key=lambda caller: caller.gaps(at - 0.02, at + 0.3)[0])
        drawn = picture.draw(heard.media.packets, at, f"What the caller with the largest gap of {legs} heard when the media worker was killed")
        (pathlib.Path(__file__).resolve().parents[2] / "docs/failover.svg").write_text(drawn)
        kept = sum(caller.media.packets[-1].at > time.monotonic() - 0.3 for caller in callers)
        signalled = sum(caller.phone.transport.find(lambda message: message.is_request, 0) is not None for caller in callers)
        for caller in callers:
            caller.end()
        self.after()
        told = lambda values: " | ".join(f"{numpy.percentile(values, part):.0f}" for part in (50, 99, 100))
        print(f"| | p50 ms | p99 ms | max ms |\n|---|---|---|---|\n| largest gap of each call around {kills} kills | {told(gaps)} |\n| in the second before | {told(control)} |")
        print(f"{legs} calls, {kept} kept, {signalled} signalled")
        self.scenario.equal((kept, signalled), (legs, 0), "calls kept, and calls that were signalled")
        self.scenario.check(numpy.percentile(gaps, 99) < numpy.percentile(control, 99) + 20, "p99 is within 20 ms of the control's")
        return f"{kills} kills under {legs} calls"

    def check_song(self, caller):
        """A prompt goes on where it was."""
        heard, tune, parts = caller.media.heard(), self.app.tune, (0, 1, 4, 5)
        places = [rtp.best_match(tune[part * 8000 : part * 8000 + 8000], heard) for part in parts]
        self.scenario.check(all(match >= ENOUGH for match, _ in places), f"how well each second is heard: {places}")
        steps = [at - places[0][1] - part * 8000 for (_, at), part in zip(places, parts)]
        self.scenario.check(all(abs(step) <= 800 for step in steps), f"samples by which it is late: {steps}")
        return max(map(abs, steps)) / 8

    def check_tape(self, caller):
        """A recording goes on in its file, as long as the call was."""
        told = self.app.told("/taped")
        self.scenario.equal(told["RecordingStatus"], "completed", "RecordingStatus")
        data = requests.get(told["RecordingUrl"] + ".wav", auth=(ACCOUNT, AUTH_TOKEN), timeout=5).content
        with wave.open(io.BytesIO(data)) as file:
            samples = numpy.frombuffer(file.readframes(file.getnframes()), "<i2")
        places = [rtp.best_match(caller.said[part * 8000 : part * 8000 + 8000], samples) for part in (0, 6)]
        self.scenario.check(all(match >= ENOUGH for match, _ in places), f"how well each second is heard: {places}")
        gone = places[1][1] - places[0][1] - 6 * 8000
        self.scenario.check(abs(gone) <= 1600, f"samples that are missing: {-gone}")
        return abs(gone) / 8

    def check_room(self, members, since):
        """Who meets in a conference hears the others, on whatever workers they are."""
        for listener in members:
            heard = listener.media.heard(since=since)
            for speaker in members:
                match = max(rtp.correlation(speaker.said[at : at + 8000], heard) for at in (0, 8000, 16000))
                # Three others speak too: a third of what is heard is each of them.
                wanted = match >= 0.4 if speaker is not listener else match < 0.3
                self.scenario.check(wanted, f"{members.index(listener)} hears {members.index(speaker)}: {match:.2f}")

    def after(self, seconds=0):
        """Everything that was heard is over, and there is a standby again."""
        wait_for(lambda: not self.server.live() and self.server.workers("standby"), 5, "the calls to end")
        wait_for(lambda: not any(worker["sessions"] for worker in self.server.workers()), 5, "the sessions to end")

    def stalled(self):
        """The whole server stands still for a while, as its machine may: what came meanwhile is a call, and no worker is taken for lost."""
        before = Leg(SIP, ECHO)
        everybody = [child(self.server, "edge"), *(worker["pid"] for worker in self.server.workers())]

        def signal_all(number):
            for pid in everybody:
                os.kill(pid, number)

        signal_all(signal.SIGSTOP)
        threading.Timer(1.2, signal_all, (signal.SIGCONT,)).start()
        meanwhile = Leg(SIP, ECHO)
        time.sleep(0.7)
        self.scenario.equal(before.phone.transport.find(lambda message: message.is_request, 0), None, "what was signalled to the call before")
        for caller in (before, meanwhile):
            self.scenario.check(caller.media.packets[-1].at > time.monotonic() - 0.3, "it is heard")
            caller.end()

    def edge(self, legs=10):
        """The edge dies: nobody hears it, it is there again at once with its calls and registrations, and each call ends once."""
        equal, check = self.scenario.equal, self.scenario.check
        self.after()
        before = len(self.app.forms)
        bob = Phone(SIP, "bob", "secret-of-bob")
        equal(bob.register().status, 200, "REGISTER")
        callers = [Leg(SIP, ECHO) for _ in range(legs)]
        asked, leaver = Leg(SIP, ASK), Leg(SIP, ECHO)
        time.sleep(1.5)
        asked.mute()
        asked.media.press("12")
        time.sleep(0.5)
        at = time.monotonic()
        os.kill(child(self.server, "edge"), signal.SIGKILL)
        # It is the first that the next one reads.
        bye = leaver.call.make("BYE")
        leaver.phone.transport.send(bye)
        wait_for(self.is_ready, 5, "the edge to be back", every=0.02)
        back = time.monotonic() - at
        check(back < 2, f"the edge was back after {back:.2f} s")
        equal(leaver.phone.answer_to(bye).status, 200, "BYE while the edge was away")
        leaver.stop()
        for caller in [*callers, asked]:
            before_it = caller.media.remote
            equal(caller.reinvited(5), before_it, "where a re-INVITE has it send")
        asked.media.press("34")
        digits = wait_for(lambda: [form["Digits"] for path, form in self.app.forms[before:] if path == "/digits"], 5, "the digits")
        equal(digits, ["1234"], "Digits of before and after")
        asked.call.wait_bye()
        time.sleep(0.5)
        gaps = [caller.gaps(at - 0.02, at + back)[0] for caller in callers]
        usual = max(caller.gaps(at - 1, at - 0.02)[0] for caller in callers)
        now = time.monotonic()
        check(all(caller.media.packets[-1].at > now - 0.3 for caller in callers), "everybody hears still")
        call = Phone(SIP, "+15556100002").invite(BOB, sdp("127.0.0.1", 9))
        incoming = bob.wait_invite()
        incoming.respond(486)
        call.final()
        for caller in callers:
            equal(caller.call.bye().status, 200, "BYE")
            caller.is_talking = False
            caller.media.close()
        self.after()
        ended = [call for call in self.server.calls() if call["to"] in (ECHO, ASK)][: legs + 2]
        equal({call["status"] for call in ended}, {"completed"}, "how they ended")
        self.server.written([call["sid"] for call in ended])
        self.restart = f"the edge back with {legs + 2} calls after {back * 1000:.0f} ms; largest gap {max(gaps) * 1000:.0f} ms, a second before {usual * 1000:.0f} ms"
        return self.restart

    def is_ready(self):
        try:
            return self.server.get("/readyz")[0] == 200
        except OSError:
            return False


def main():
    with Scenario(__file__) as scenario:
        failover = Failover(scenario)
        scenario.step("start", failover.start)
        scenario.step("worker", failover.worker)
        scenario.step("stalled", failover.stalled)
        scenario.step("edge", failover.edge)
        if scenario.long:
            scenario.step("many", failover.many)
        scenario.summary = f"{getattr(failover, 'summary', '')}; {getattr(failover, 'restart', '')}"


if __name__ == "__main__":
    main()
