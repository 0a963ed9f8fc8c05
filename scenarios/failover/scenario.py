"""Media workers are killed while calls run: on one machine nobody hears it, and nobody is told."""

import http.server
import io
import json
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
import requests

from lib import rtp
from lib.scenario import Scenario, wait_for
from lib.server import ACCOUNT, AUTH_TOKEN, Server, base_config, number, trunk
from lib.sip import Phone, sdp

SIP, HTTP, APP = ("127.0.0.1", 14860), "127.0.0.1:14840", 14845
ECHO, SONG, ASK, TAPE, ROOM = (f"+1555600000{digit}" for digit in range(5))
URL = f"http://127.0.0.1:{APP}"
# What is heard is what was sent: nothing else correlates as well.
ENOUGH = 0.85


def config(workers):
    text = base_config(
        f"{SIP[0]}:{SIP[1]}",
        HTTP,
        "14900-15199",
        more=trunk("phones", **{"from": ["127.0.0.1"]})
        + number(ECHO, "<Echo/>")
        + number(SONG, voice_url=f"{URL}/song")
        + number(ASK, voice_url=f"{URL}/ask")
        + number(TAPE, voice_url=f"{URL}/tape")
        + number(ROOM, '<Dial><Conference beep="false">failover</Conference></Dial>'),
    )
    return text.replace("[media]\n", f"[media]\nworkers = {workers}\n")


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


class Leg:
    """A caller who talks all the time, and hears."""

    def __init__(self, called, said=None):
        self.said = said or rtp.noise(2, 1)
        self.media = rtp.Rtp()
        self.phone = Phone(SIP, "+15556100001")
        self.call = self.phone.invite(called, sdp(self.media.host, self.media.port)).accepted()
        self.media.remote = self.call.answer.media()
        self.payload, self.is_talking = rtp.ulaw_encode(self.said), True
        self.talker = threading.Thread(target=self._talk, daemon=True)
        self.talker.start()

    def _talk(self):
        due, at = time.monotonic(), 0
        while self.is_talking:
            self.media.send(self.payload[at : at + rtp.FRAME])
            at = (at + rtp.FRAME) % len(self.payload)
            due += 0.02
            time.sleep(max(0.0, due - time.monotonic()))

    def gaps(self, since, until):
        """Seconds between packets that came in that time, the largest first."""
        times = [packet.at for packet in list(self.media.packets) if since - 0.1 <= packet.at <= until + 0.5]
        return sorted((later - earlier for earlier, later in zip(times, times[1:]) if later > since and earlier < until), reverse=True)

    def end(self):
        self.is_talking = False
        self.talker.join(1)
        self.call.bye()
        self.media.close()
        self.phone.close()


class Failover:
    def __init__(self, scenario):
        self.scenario = scenario

    def start(self):
        self.app = Application()
        self.server = Server(self.scenario, config(2)).start()
        wait_for(lambda: len(self.workers("active")) == 2 and self.workers("standby"), 5, "two workers and a standby")

    def workers(self, state=None):
        code, text = self.server.run("workers", "--config", "dialtone.toml", "--json")
        self.scenario.equal(code, 0, f"dialtone workers: {text}")
        return [worker for worker in json.loads(text)["workers"] if state in (None, worker["state"])]

    def kill(self, worker):
        at = time.monotonic()
        os.kill(worker["pid"], signal.SIGKILL)
        return at

    def echo(self, legs=20):
        """Twenty who hear themselves; the workers die one after the other."""
        equal, check = self.scenario.equal, self.scenario.check
        callers = [Leg(ECHO) for _ in range(legs)]
        time.sleep(1.2)
        busy = wait_for(lambda: (lambda found: sum(w["sessions"] for w in found) == legs and found)(self.workers("active")), 3, "all sessions to be told")
        check(all(worker["sessions"] >= legs // 5 for worker in busy), f"sessions by worker: {[w['sessions'] for w in busy]}")
        gaps, control = [], []
        for worker in busy:
            wait_for(lambda: self.workers("standby"), 5, "a standby")
            time.sleep(1)
            at = self.kill(worker)
            time.sleep(1.5)
            gaps += [caller.gaps(at - 0.02, at + 1)[0] for caller in callers]
            control += [caller.gaps(at - 1, at - 0.02)[0] for caller in callers]
        worst, usual = max(gaps), max(control)
        for caller in callers:
            sequence = [packet.sequence for packet in list(caller.media.packets)]
            equal(len(sequence), len(set(sequence)), "sequence numbers that came twice")
            equal(len({packet.ssrc for packet in list(caller.media.packets)}), 1, "streams that a peer sees")
            equal(caller.phone.transport.find(lambda message: message.is_request, 0), None, "what was signalled")
            check(len(caller.media.packets) > 100, "it hears itself")
        last = time.monotonic()
        check(all(caller.media.packets[-1].at > last - 0.3 for caller in callers), "everybody hears still")
        for caller in callers:
            caller.end()
        self.after()
        ended = self.server.calls()[:legs]
        equal({call["status"] for call in ended}, {"completed"}, "how they ended")
        self.summary = f"{len(busy)} workers killed under {legs} calls: largest gap {worst * 1000:.0f} ms, without a kill {usual * 1000:.0f} ms"
        return self.summary


    def worker_of(self, sessions=1):
        """The one worker that has sessions."""
        def look():
            found = [worker for worker in self.workers("active") if worker["sessions"]]
            return len(found) == 1 and found[0]["sessions"] == sessions and found[0]

        return wait_for(look, 3, "the session to be told")

    def after(self, seconds=0):
        """Everything that was heard is over, and there is a standby again."""
        wait_for(lambda: not self.server.live() and self.workers("standby"), 5, "the calls to end")
        wait_for(lambda: not any(worker["sessions"] for worker in self.workers()), 5, "the sessions to end")

    def song(self):
        """A prompt goes on where it was."""
        self.after()
        caller = Leg(SONG)
        time.sleep(2.5)
        self.kill(self.worker_of())
        time.sleep(4)
        heard = caller.media.heard()
        tune = self.app.tune
        places = [rtp.best_match(tune[part * 8000 : part * 8000 + 8000], heard) for part in (0, 1, 4, 5)]
        self.scenario.check(all(match >= ENOUGH for match, _ in places), f"how well each second is heard: {places}")
        steps = [at - places[0][1] - part * 8000 for (_, at), part in zip(places, (0, 1, 4, 5))]
        self.scenario.check(all(abs(step) <= 800 for step in steps), f"samples by which it is late: {steps}")
        caller.end()
        return f"it is {max(map(abs, steps)) / 8:.0f} ms late after a kill"

    def ask(self):
        """Digits that were pressed before count."""
        self.after()
        caller = Leg(ASK)
        time.sleep(0.3)
        caller.is_talking = False
        caller.talker.join(1)
        caller.media.press("12")
        time.sleep(1.2)
        self.kill(self.worker_of())
        time.sleep(0.2)
        caller.media.press("34")
        self.scenario.equal(self.app.told("/digits")["Digits"], "1234", "Digits")
        caller.call.wait_bye()
        caller.media.close()

    def tape(self):
        """A recording goes on in its file, as long as the call was."""
        self.after()
        caller = Leg(TAPE, rtp.noise(12, 5))
        time.sleep(3.5)
        self.kill(self.worker_of())
        time.sleep(3.5)
        caller.end()
        told = self.app.told("/taped")
        self.scenario.equal(told["RecordingStatus"], "completed", "RecordingStatus")
        data = requests.get(told["RecordingUrl"] + ".wav", auth=(ACCOUNT, AUTH_TOKEN), timeout=5).content
        with wave.open(io.BytesIO(data)) as file:
            samples = numpy.frombuffer(file.readframes(file.getnframes()), "<i2")
        places = [rtp.best_match(caller.said[part * 8000 : part * 8000 + 8000], samples) for part in (1, 5)]
        self.scenario.check(all(match >= ENOUGH for match, _ in places), f"how well each second is heard: {places}")
        gone = places[1][1] - places[0][1] - 4 * 8000
        self.scenario.check(abs(gone) <= 1600, f"samples that are missing: {-gone}")
        return f"{len(samples) / 8000:.1f} s, {gone / 8:.0f} ms off after a kill"

    def room(self, members=4):
        """Who meets in a conference hears the others, on whatever workers they are."""
        self.after()
        callers = [Leg(ROOM, rtp.noise(3, 50 + seed, 3000)) for seed in range(members)]
        time.sleep(1.5)
        places = {worker["id"]: worker["sessions"] for worker in self.workers("active")}

        def hears(since):
            for listener in callers:
                heard = []
                for packet in sorted((it for it in list(listener.media.packets) if it.at >= since), key=lambda it: it.sequence):
                    heard.extend(rtp.ulaw_decode(packet.payload))
                for speaker in callers:
                    match = max(rtp.correlation(speaker.said[at : at + 8000], heard) for at in (0, 8000, 16000))
                    # Three others speak too: a third of what is heard is each of them.
                    wanted = match >= 0.4 if speaker is not listener else match < 0.3
                    self.scenario.check(wanted, f"{callers.index(listener)} hears {callers.index(speaker)}: {match:.2f}")

        since = time.monotonic()
        time.sleep(3.2)
        hears(since)
        for worker in self.workers("active"):
            wait_for(lambda: self.workers("standby"), 5, "a standby")
            if worker["sessions"]:
                self.kill(worker)
                time.sleep(0.5)
        since = time.monotonic()
        time.sleep(3.2)
        hears(since)
        for caller in callers:
            caller.end()
        return f"sessions by worker: {sorted(places.values())}"


def main():
    with Scenario(__file__) as scenario:
        failover = Failover(scenario)
        scenario.step("start", failover.start)
        scenario.step("echo", failover.echo)
        scenario.step("song", failover.song)
        scenario.step("ask", failover.ask)
        scenario.step("tape", failover.tape)
        scenario.step("room", failover.room)
        scenario.summary = getattr(failover, "summary", "")


if __name__ == "__main__":
    main()
