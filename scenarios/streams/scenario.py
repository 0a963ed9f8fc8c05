"""Telephones whose calls go to an application by media streams: what is said on both sides arrives, and what is not as it should be ends in a clear message."""

import os
import pathlib
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import requests
from application import Application
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

from lib.browsers import tone
from lib.edges import child
from lib.rtp import Rtp, best_match, noise, tone_level, ulaw_encode
from lib.scenario import Scenario, wait_for
from lib.server import ACCOUNT, AUTH_TOKEN, Server, base_config, number
from lib.sip import Phone, sdp

SIP, HTTP, RTP, APP = ("127.0.0.1", 21700), "127.0.0.1:21701", "21710-21769", 21702
LISTEN, WAIT, MOST = "+15550001", "+15550002", 3


def talks_as(does):
    """A number whose calls are connected to that."""
    return f"+1555{does}"


class Telephone:
    """One call of a telephone, with its sound."""

    def __init__(self, phone, called):
        self.rtp = Rtp()
        self.call = phone.invite(called, sdp(self.rtp.host, self.rtp.port))
        self.rtp.remote = self.call.accepted().answer.media()

    def hears(self, hertz, seconds=4):
        """Waits until a tone was heard for a fifth of a second."""
        wait_for(lambda: tone_level(self.rtp.heard()[-1600:], hertz) > 1000, seconds, f"{hertz} Hz to be heard", every=0.02)

    def is_quiet(self):
        return max(map(abs, self.rtp.heard()[-1600:])) < 100

    def hang_up(self):
        self.call.bye()
        self.rtp.close()


class Streams:
    def __init__(self, scenario):
        self.scenario, self.count = scenario, 0

    def start(self):
        self.app = Application(APP)
        connect = lambda does: number(talks_as(does), voice_url=f"{self.app.base}/connect")
        more = "".join(map(connect, ("echo", "quiet", "refuse")))
        more += number(LISTEN, voice_url=f"{self.app.base}/listen") + number(WAIT, voice_url=f"{self.app.base}/wait")
        config = base_config(f"{SIP[0]}:{SIP[1]}", HTTP, RTP, more=more, workers=1).replace('name = "scenario"', f'name = "scenario"\nlimits = {{ streams = {MOST} }}')
        config += '\n[[trunk]]\naccount = "%s"\nname = "carrier"\nuri = "sip:127.0.0.1:21799"\nfrom = ["127.0.0.1/32"]\n' % ACCOUNT
        self.server = Server(self.scenario, config).start()
        self.phone = Phone(SIP, "+15559990000")
        self.client = Client(ACCOUNT, AUTH_TOKEN)
        self.client.api.base_url = f"http://{HTTP}"

    def rings(self, called):
        """A call that the application has taken."""
        telephone = Telephone(self.phone, called)
        self.count += 1
        return telephone, self.app.newest(self.count)

    def codes(self, call_sid):
        return [int(one.error_code) for one in self.client.calls(call_sid).notifications.list()]

    def in_use(self):
        url = f"http://{HTTP}/2010-04-01/Accounts/{ACCOUNT}/Concurrency/Streams.json"
        return requests.get(url, auth=(ACCOUNT, AUTH_TOKEN), timeout=5).json()["current_value"]

    def echo(self):
        """What the caller says comes back as it was; the first two messages are what frameworks wait for."""
        equal, (telephone, talk) = self.scenario.equal, self.rings(talks_as("echo"))
        start, said = talk.start, noise(2, 7)
        equal([message["event"] for message in talk.messages[:2]], ["connected", "start"], "the first two messages")
        equal(start["customParameters"], {"from_number": "+15559990000", "quote": '"a" & <b>'}, "parameters")
        equal((start["tracks"], start["mediaFormat"]), (["inbound"], {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}), "the format")
        telephone.rtp.play(ulaw_encode(said))
        time.sleep(0.4)
        like, late = best_match(said, telephone.rtp.heard())[:2]
        self.scenario.check(like > 0.9, f"of what was said {like:.2f} came back")
        to_app = best_match(said, talk.heard("inbound"))[0]
        self.scenario.check(to_app > 0.9, f"of what was said {to_app:.2f} came to the application")
        telephone.rtp.press("5#")
        wait_for(lambda: [message["dtmf"]["digit"] for message in talk.of("dtmf")] == ["5", "#"], 3, "the keys")
        media = talk.of("media")
        equal([int(message["media"]["timestamp"]) for message in media], [20 * at for at in range(len(media))], "timestamps")
        equal([int(message["sequenceNumber"]) for message in talk.messages[1:]], list(range(1, len(talk.messages))), "sequence numbers")
        telephone.hang_up()
        self.scenario.check(talk.over.wait(3) and talk.of("stop")[0]["stop"] == {"accountSid": ACCOUNT, "callSid": start["callSid"]}, "no stop came")
        self.app.told(start["streamSid"], "stream-stopped")
        self.app.web.wait(f"StreamSid={start['streamSid']}")
        self.first = start["streamSid"]
        return f"{min(like, to_app):.3f} of it came to the application, and back"

    def marks(self):
        """A mark is told when all before it was heard; clear is heard at once, and its marks are told."""
        telephone, talk = self.rings(talks_as("quiet"))
        sid = talk.start["callSid"]
        talk.say(ulaw_encode(tone(700, 1)))
        talk.mark("said")
        began = time.monotonic()
        after = talk.marked("said") - began
        self.scenario.check(0.9 < after < 1.5, f"a mark behind a second of sound after {after:.2f} s")
        heard = [sample for sample in telephone.rtp.heard() if abs(sample) > 500]
        self.scenario.check(0.95 < len(heard) / 7500 < 1.1 or len(heard) > 7000, f"{len(heard)} loud samples of 8000")
        talk.mark("at once")
        talk.marked("at once", 1)
        for _ in range(3):
            talk.say(ulaw_encode(tone(900, 10)))
        talk.mark("never said")
        telephone.hears(900)
        talk.send("clear")
        cleared = time.monotonic()
        after = talk.marked("never said", 2) - cleared
        wait_for(lambda: tone_level(telephone.rtp.heard()[-320:], 900) < 100, 1, "silence", every=0.005)
        quiet = time.monotonic() - cleared
        for nonsense in ("{", '{"event":"what"}', '{"event":"media","media":{"payload":"*"}}'):
            talk.socket.send(nonsense)
        wait_for(lambda: self.codes(sid) == [31951] * 3, 3, "what means nothing to be told")
        talk.say(ulaw_encode(tone(700, 1)))
        telephone.hears(700)
        talk.socket.close()
        self.app.web.wait("/after", 4)
        telephone.call.wait_bye()
        telephone.rtp.close()
        return f"cleared after {after * 1000:.0f} ms, silent after {quiet * 1000:.0f} ms"

    def listen(self):
        """`<Start>`: the application hears both sides, and the document goes on until it stops."""
        telephone, talk = self.rings(LISTEN)
        start, said = talk.start, noise(2, 8)
        self.scenario.equal(start["tracks"], ["inbound", "outbound"], "tracks")
        telephone.rtp.play(ulaw_encode(said))
        time.sleep(0.4)
        says = best_match(said, talk.heard("inbound"))[0]
        # The caller hears it without a jitter buffer, from its beginning on.
        hears = best_match(telephone.rtp.heard()[8000:16000], talk.heard("outbound"))[0]
        self.scenario.check(min(says, hears) > 0.9, f"inbound {says:.2f}, outbound {hears:.2f}")
        self.client.calls(start["callSid"]).update(twiml='<Response><Stop><Stream name="ear"/></Stop><Echo/></Response>')
        self.scenario.check(talk.over.wait(3), "the stream goes on")
        self.app.told(start["streamSid"], "stream-started")
        self.app.told(start["streamSid"], "stream-stopped")
        telephone.hang_up()
        return f"inbound {says:.3f}, outbound {hears:.3f}"

    def by_rest(self):
        """The official package begins and stops streams of a running call."""
        equal, telephone = self.scenario.equal, Telephone(self.phone, WAIT)
        sid = wait_for(lambda: self.client.calls.list(status="in-progress"), 3, "the call")[0].sid
        streams = self.client.calls(sid).streams
        made = streams.create(url=f"{self.app.socket_base}/quiet", name="by rest", track="outbound_track", parameter1_name="a", parameter1_value="1", parameter99_name="z", parameter99_value="26")
        self.count += 1
        talk = self.app.newest(self.count)
        equal((made.status, made.name, talk.start["streamSid"], talk.start["customParameters"]), ("in-progress", "by rest", made.sid, {"a": "1", "z": "26"}), "what was made")
        telephone.rtp.play(ulaw_encode(tone(1100, 1)))
        wait_for(lambda: tone_level(talk.heard("outbound")[-1600:], 1100) > 1000, 3, "the echo to be heard")
        for wrong, code in (({"url": "http://x/"}, 31941), ({"url": f"{self.app.socket_base}/quiet", "name": "by rest"}, 21220)):
            try:
                streams.create(**wrong)
                self.scenario.check(False, f"{wrong} was taken")
            except TwilioRestException as refused:
                equal(refused.code, code, "the refusal")
        equal(streams("by rest").update(status="stopped").status, "stopped", "by its name")
        self.scenario.check(talk.over.wait(3), "the stream goes on")
        try:
            streams(made.sid).update(status="stopped")
            self.scenario.check(False, "stopped twice")
        except TwilioRestException as refused:
            equal(refused.status, 404, "stopped twice")
        telephone.hang_up()

    def one_too_many(self):
        """An account has no more streams at once than it may: the one too many is refused, and its document goes on."""
        equal, most = self.scenario.equal, self.app.most
        calls = [self.rings(talks_as("echo")) for _ in range(MOST)]
        equal(self.in_use(), MOST, "streams in use")
        refused = Telephone(self.phone, talks_as("echo"))
        after = self.app.web.wait("StreamError=", 4)
        self.scenario.check("/after" in after or "/told" in after, after)
        refused.call.wait_bye()
        call = self.server.ended(refused.call.call_id)
        equal(self.codes(call["sid"]), [10004], "what was told")
        wait_for(lambda: any("StreamEvent=stream-error" in one and call["sid"] in one for one in list(self.app.web.seen)), 3, "stream-error")
        self.scenario.check(self.server.metric("dialtone_concurrency_impeded_total", resource="streams", action="reject") == 1, "it was not counted")
        calls[0][0].hang_up()
        wait_for(lambda: self.in_use() == MOST - 1, 3, "its place to be free", every=0.05)
        calls[0] = self.rings(talks_as("echo"))
        for telephone, _ in calls:
            telephone.hang_up()
        wait_for(lambda: self.in_use() == 0, 3, "all places to be free", every=0.05)
        equal(max(self.app.most, most), MOST, "connections at once, at most")
        return f"{MOST} at once of {MOST}, the next was refused"

    def killed(self):
        """Its worker dies, then its edge: the application goes on by the same connection, then by a new one."""
        telephone, talk = self.rings(talks_as("echo"))
        sid = talk.start["streamSid"]
        telephone.rtp.play(ulaw_encode(tone(800, 14)), wait=False)
        telephone.hears(800)
        talk.say(ulaw_encode(tone(600, 20)))
        talk.mark("gone with the worker")
        os.kill(self.server.workers("active")[0]["pid"], signal.SIGKILL)
        talk.marked("gone with the worker")
        telephone.rtp.packets.clear()
        telephone.hears(800)
        self.scenario.check(not talk.over.is_set(), "the worker's end closed the stream")
        times = [int(message["media"]["timestamp"]) for message in talk.of("media")]
        self.scenario.check(times == sorted(times), "its time went back")
        # Of what waits to be played when the connection is made again nothing is heard any more.
        talk.say(ulaw_encode(tone(600, 20)))
        telephone.hears(600)
        os.kill(child(self.server, "edge"), signal.SIGKILL)
        self.count += 1
        again = self.app.newest(self.count, 6)
        self.scenario.equal(again.start["streamSid"], sid, "the stream that goes on")
        telephone.rtp.packets.clear()
        telephone.hears(800)
        # The edge that goes on with it knows it by the API too.
        self.client.calls(again.start["callSid"]).streams(sid).update(status="stopped")
        self.scenario.check(again.over.wait(3), "the new connection stays")
        telephone.call.wait_bye()
        telephone.rtp.close()

    def refused(self):
        """An application that does not take it, and one that takes nothing: told, and the call goes on."""
        telephone = Telephone(self.phone, talks_as("refuse"))
        telephone.call.wait_bye()
        call = self.server.ended(telephone.call.call_id)
        self.scenario.equal(self.codes(call["sid"]), [31920], "what was told")
        self.scenario.check(any("/after" in one and "StreamError=" in one for one in self.app.web.seen), "the action was not told")

    def stop(self):
        self.scenario.equal(self.app.unsigned, [], "requests that are not signed")
        self.scenario.equal((self.in_use(), self.app.at_once), (0, 0), "streams left")
        self.scenario.equal(self.server.stop(), 0, "exit code")


def main():
    with Scenario(__file__) as scenario:
        streams = Streams(scenario)
        scenario.steps(streams.start, streams.echo, streams.marks, streams.listen, streams.by_rest, streams.one_too_many, streams.refused, streams.killed, streams.stop)
        scenario.summary = f"{streams.count} streams; never more than {MOST} at once, none left"


main()
