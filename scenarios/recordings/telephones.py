"""What the telephones do: they call, wait for the beep, say their noise, press a key, and leave. They check nothing."""

import concurrent.futures
import time

import numpy

from lib.rtp import Rtp, noise, ulaw_encode
from lib.scenario import wait_for
from lib.sip import Phone, sdp

RATE = 8000
# Who speaks, each his own noise of 1.5 s.
NAMES = ["trimmed", "kept", "left", "dialled", "bob", "started", "killed", "full"]


def quiet(seconds):
    return [0] * int(seconds * RATE)


def is_beep(samples):
    """Whether what was heard is a tone of 1 kHz and of 0.4 s."""
    samples = numpy.asarray(samples, float)
    loud = numpy.flatnonzero(abs(samples) > 100)
    tone = samples[loud[0] : loud[-1] + 1]
    power = abs(numpy.fft.rfft(tone)) ** 2
    at = numpy.fft.rfftfreq(len(tone), 1 / RATE)
    return abs(len(tone) / RATE - 0.4) < 0.03 and power[abs(at - 1000) < 20].sum() > 0.9 * power.sum()


class Caller:
    """A telephone at the trunk that is in a call."""

    def __init__(self, sip, trunk, number):
        self.phone, self.rtp = Phone(sip, "+15559000", local=(trunk, 0)), Rtp()
        self.call = self.phone.invite(number, sdp("127.0.0.1", self.rtp.port)).accepted()
        self.rtp.remote = self.call.answer.media()

    def wait_beep(self):
        wait_for(lambda: len(self.rtp.heard()) >= 0.4 * RATE, 5, "the beep")

    def say(self, *parts, wait=True):
        self.rtp.play(ulaw_encode([sample for part in parts for sample in part]), wait=wait)

    def close(self):
        self.rtp.close()
        self.phone.close()


class Telephones:
    """Those at the trunk, which call the numbers by their names, and bob's."""

    def __init__(self, sip, trunk, numbers, bob):
        self.sip, self.trunk, self.numbers, self.bob = sip, trunk, numbers, bob
        self.said = {name: noise(1.5, seed) for seed, name in enumerate(NAMES, 1)}
        self.talks = {}

    def speak(self):
        """All talks at once."""
        parts = [self.say_trimmed, self.say_kept, self.leave, self.say_nothing, self.two_speak, self.say_while_started]
        with concurrent.futures.ThreadPoolExecutor() as pool:
            self.talks = {part.__name__: pool.submit(part) for part in parts}

    def talk(self, name):
        """What one of them gave, or its failure."""
        return self.talks[name].result()

    def call(self, name):
        return Caller(self.sip, self.trunk, self.numbers[name])

    def with_key(self, name):
        """Beep, silence, words, silence, and the key."""
        caller = self.call(name)
        caller.wait_beep()
        caller.say(quiet(0.8), self.said[name], quiet(0.8))
        caller.rtp.press("#")
        caller.call.wait_bye()
        caller.close()
        return caller

    def say_trimmed(self):
        return self.with_key("trimmed")

    def say_kept(self):
        return self.with_key("kept")

    def leave(self):
        """Speaks at once, and hangs up in the middle of a word."""
        caller = self.call("trimmed")
        caller.wait_beep()
        caller.say(self.said["left"])
        caller.call.bye()
        caller.close()
        return caller

    def say_nothing(self):
        caller = self.call("silent")
        caller.say(quiet(4), wait=False)
        began = time.monotonic()
        caller.call.wait_bye()
        caller.waited = time.monotonic() - began
        caller.close()
        return caller

    def two_speak(self):
        """Caller and bob, at once."""
        phone, rtp, far = Phone(self.sip, "+15559000", local=(self.trunk, 0)), Rtp(), Rtp()
        call = phone.invite(self.numbers["dialled"], sdp("127.0.0.1", rtp.port))
        incoming = self.bob.wait_invite()
        incoming.accept(sdp("127.0.0.1", far.port))
        rtp.remote, far.remote = call.accepted().answer.media(), incoming.invite.media()
        far.play(ulaw_encode(quiet(0.5) + self.said["bob"] + quiet(0.3)), wait=False)
        rtp.play(ulaw_encode(quiet(0.3) + self.said["dialled"] + quiet(0.5)))
        incoming.bye()
        call.wait_bye()
        for part in (phone, rtp, far):
            part.close()
        return call

    def say_while_started(self):
        caller = self.call("started")
        caller.say(quiet(0.3), self.said["started"], quiet(1.2))
        caller.call.bye()
        caller.close()
        return caller
