"""Softphones on G.722 hear each other at 16 kHz, and whoever has only 8 kHz at that."""

import math
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lib.baresip import Baresip
from lib.browsers import tone
from lib.rtp import Rtp, tone_level, ulaw_encode
from lib.scenario import Scenario, wait_for
from lib.server import Server, base_config, number, user
from lib.sip import Phone, sdp

SIP, HTTP, RTP = ("127.0.0.1", 20860), "127.0.0.1:20861", "20870-20899"
ECHO, RING, DESK = "+15558000", "+15558001", "+15558002"
HERTZ, HIGH, LOW = 16_000, 6_000, 900


def tones(*hertz, seconds=30):
    """Samples of 16 kHz of several tones at once."""
    one = lambda at: sum(6000 * math.sin(2 * math.pi * each * at / HERTZ) for each in hertz)
    return [one(at) for at in range(HERTZ)] * seconds


class Wideband:
    def __init__(self, scenario):
        self.scenario = scenario

    def start(self):
        dial = lambda client: f"<Dial><Client>{client}</Client></Dial>"
        more = "".join(user(name, f"secret-of-{name}") for name in ("high", "quiet", "desk"))
        more += number(ECHO, "<Echo/>") + number(RING, dial("quiet")) + number(DESK, dial("desk"))
        self.server = Server(self.scenario, base_config(f"{SIP[0]}:{SIP[1]}", HTTP, RTP, sip_more='digest = ["MD5"]', more=more, workers=0)).start()
        phone = lambda name, at, plays: Baresip(self.scenario, name, f"{SIP[0]}:{SIP[1]}", name, f"secret-of-{name}", 20900 + 4 * at, 20902 + 4 * at, (20920 + 20 * at, 20939 + 20 * at), plays, codec="g722", hertz=HERTZ)
        self.high, self.quiet = phone("high", 0, tones(HIGH, LOW)), phone("quiet", 1, [0] * HERTZ * 30)
        self.desk = Phone(SIP, "desk", "secret-of-desk", algorithm="MD5")
        self.scenario.equal(self.desk.register().status, 200, "REGISTER")
        for phone in (self.high, self.quiet):
            phone.says("registered successfully")

    def hears(self, phone, hertz, is_heard=True):
        """Waits until it hears the tone, for half a second; that it hears it not is only looked at."""
        level = lambda: tone_level(phone.heard()[-HERTZ // 2 :], hertz, HERTZ)
        if is_heard:
            wait_for(lambda: level() > 1000, 6, f"{phone.name} to hear {hertz} Hz", every=0.2)
        else:
            self.scenario.check(level() < 100, f"{phone.name} hears {hertz} Hz at {level():.0f}")

    def each_other(self):
        """What one says of 6 kHz the other hears."""
        self.high.dial(RING)
        self.quiet.says("Incoming call")
        self.quiet.accept()
        self.hears(self.quiet, HIGH)
        self.hears(self.quiet, LOW)
        self.scenario.check(self.high.heard() and tone_level(self.high.heard()[-HERTZ // 2 :], LOW, HERTZ) < 100, "who is quiet is heard")
        self.high.hang_up()
        self.over()

    def echo(self):
        """Its own sound comes back as it was: no codec is between."""
        self.high.forget()
        self.high.dial(ECHO)
        self.hears(self.high, HIGH)
        self.hears(self.high, LOW)
        self.high.hang_up()
        self.over()

    def telephone(self):
        """A telephone that has only PCMU: 900 Hz go both ways, and 6 kHz do not."""
        self.high.forget()
        rtp = Rtp()
        self.high.dial(DESK)
        incoming = self.desk.wait_invite()
        offered = incoming.invite.body.decode()
        self.scenario.check("G722/8000" in offered and "PCMU/8000" in offered, f"what the telephone is offered: {offered}")
        rtp.remote = incoming.invite.media()
        incoming.accept(sdp(rtp.host, rtp.port))
        rtp.play(ulaw_encode(tone(700, 8)), wait=False)
        wait_for(lambda: tone_level(rtp.heard()[-4000:], LOW) > 1000, 5, "the telephone to hear the softphone", every=0.2)
        # It would be heard as what 6 kHz is when every second sample is left out.
        folded = tone_level(rtp.heard()[-4000:], 8000 - HIGH)
        self.scenario.check(folded < 100, f"6 kHz are heard as 2 kHz at {folded:.0f}")
        self.hears(self.high, 700)
        self.hears(self.high, HIGH, is_heard=False)
        self.high.hang_up()
        incoming.wait_bye()
        rtp.close()
        self.over()

    def over(self):
        wait_for(lambda: not self.server.live(), 5, "the call to be over")
        time.sleep(1)

    def stop(self):
        codecs = self.server.get("/metrics")[1]
        self.scenario.check('codec="g722"' in codecs.lower(), "the metrics name the codec")
        # Who takes leave of nobody waits for an answer.
        for phone in (self.high, self.quiet):
            self.scenario.end(phone.process)
        self.desk.close()
        self.scenario.equal(self.server.stop(), 0, "exit code")


def main():
    with Scenario(__file__) as scenario:
        wideband = Wideband(scenario)
        scenario.steps(wideband.start, wideband.each_other, wideband.echo, wideband.telephone, wideband.stop)
        scenario.summary = "softphones on G.722 hear 6 kHz of each other, and a telephone what it has room for"


main()
