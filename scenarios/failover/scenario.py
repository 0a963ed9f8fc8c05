"""Media workers are killed while calls run: on one machine nobody hears it, and nobody is told."""

import os
import pathlib
import signal
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lib import rtp
from lib.scenario import Scenario, wait_for
from lib.server import Server, base_config, number, trunk
from lib.sip import Phone, sdp

SIP, HTTP = ("127.0.0.1", 14860), "127.0.0.1:14840"
ECHO, SONG, ASK, TAPE, ROOM, LATE = (f"+1555600000{digit}" for digit in range(6))


def config(workers):
    text = base_config(
        f"{SIP[0]}:{SIP[1]}",
        HTTP,
        "14900-15199",
        more=trunk("phones", **{"from": ["127.0.0.1"]})
        + number(ECHO, "<Echo/>")
        + number(SONG, f'<Play digits="{"1w" * 40}"/>')
        + number(ASK, '<Gather numDigits="4" timeout="15" actionOnEmptyResult="true"><Pause length="15"/></Gather>')
        + number(TAPE, '<Record maxLength="30" timeout="0" playBeep="false" trim="do-not-trim"/>')
        + number(ROOM, "<Dial><Conference beep=\"false\">failover</Conference></Dial>"),
    )
    return text.replace("[media]\n", f"[media]\nworkers = {workers}\n")


class Leg:
    """A caller who talks all the time, and hears."""

    def __init__(self, called, payload=rtp.ulaw_encode(rtp.noise(2, 1))):
        self.media = rtp.Rtp()
        self.phone = Phone(SIP, "+15556100001")
        self.call = self.phone.invite(called, sdp(self.media.host, self.media.port)).accepted()
        self.media.remote = self.call.answer.media()
        self.payload, self.is_talking = payload, True
        self.talker = threading.Thread(target=self._talk, daemon=True)
        self.talker.start()

    def _talk(self):
        due, at = time.monotonic(), 0
        while self.is_talking:
            self.media.send(self.payload[at : at + rtp.FRAME])
            at = (at + rtp.FRAME) % (len(self.payload) - rtp.FRAME)
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
        self.server = Server(self.scenario, config(2)).start()
        wait_for(lambda: len(self.workers("active")) == 2 and self.workers("standby"), 5, "two workers and a standby")

    def workers(self, state=None):
        import json

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
        wait_for(lambda: not self.server.live(), 5, "the calls to end")
        ended = self.server.calls()[:legs]
        equal({call["status"] for call in ended}, {"completed"}, "how they ended")
        self.summary = f"{len(busy)} workers killed under {legs} calls: largest gap {worst * 1000:.0f} ms, without a kill {usual * 1000:.0f} ms"
        return self.summary


def main():
    with Scenario(__file__) as scenario:
        failover = Failover(scenario)
        scenario.step("start", failover.start)
        scenario.step("echo", failover.echo)
        scenario.summary = getattr(failover, "summary", "")


if __name__ == "__main__":
    main()
