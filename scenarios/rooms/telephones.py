"""What the telephones do: they call or are called, say a noise that nobody said before, and keep what they hear. They check nothing."""

import concurrent.futures
import itertools
import math
import time

import numpy

from lib.rtp import ULAW, Rtp, best_match, noise, ulaw_encode
from lib.scenario import Failed
from lib.sip import Phone, sdp

RATE = 8000
EXPANDED = numpy.array(ULAW, float)
_seeds = itertools.count(1000)


class Words:
    """A noise that somebody says, once; whether others are to hear it, and it alone, is known later."""

    def __init__(self, seconds=0.6):
        self.samples, self.began, self.is_heard = noise(seconds, next(_seeds)), time.monotonic(), None


class Telephone:
    """One that is in a call."""

    def __init__(self, name, phone, rtp, call):
        self.name, self.phone, self.rtp, self.call, self.sid = name, phone, rtp, call, None
        self.words, self.is_over = [], False

    def say(self, seconds=0.6, wait=True):
        words = Words(seconds)
        self.words.append(words)
        self.rtp.play(ulaw_encode(words.samples), wait=wait)
        return words

    def heard(self, seconds):
        """What came in the last so many seconds: nothing, where nothing was sent."""
        packets, since = self.rtp.packets[-math.ceil(seconds * 60) :], time.monotonic() - seconds
        payload = b"".join(packet.payload for packet in packets if packet.payload_type == 0 and packet.at >= since)
        return EXPANDED[numpy.frombuffer(payload, numpy.uint8)]

    def likeness(self, samples, since):
        """The best correlation with what was heard since then."""
        return best_match(samples, self.heard(time.monotonic() - since + 0.2))[0]

    def tone(self, hz, since):
        """The longest time, in seconds, for which this tone was heard since then."""
        longest = run = 0
        audio, width = self.heard(time.monotonic() - since), 400
        for at in range(0, len(audio) - width, 80):
            power = abs(numpy.fft.rfft(audio[at : at + width])) ** 2
            near = abs(numpy.fft.rfftfreq(width, 1 / RATE) - hz) < 45
            is_tone = power.sum() > width * 1e5 and power[near].sum() > 0.9 * power.sum()
            run = run + 1 if is_tone else 0
            longest = max(longest, run)
        return longest * 0.01

    def press(self, digit):
        self.rtp.press(digit)

    def hang_up(self):
        """Says so again where the answer does not come, as RFC 3261 s17.1.2 asks of UDP."""
        self.is_over = True
        bye = self.call.make("BYE")
        try:
            self.phone.exchange(bye, 1)
        except Failed:
            self.phone.exchange(bye, 4)

    def wait_bye(self, seconds=5):
        self.is_over = True
        return self.call.wait_bye(seconds)

    def close(self):
        if not self.is_over:
            self.hang_up()
        self.rtp.close()
        self.phone.close()


class Telephones:
    """Callers at the trunk, and users who are called."""

    def __init__(self, sip, trunk, number, app):
        self.sip, self.trunk, self.number, self.app = sip, trunk, number, app
        self.numbers = itertools.count(15559000)
        self.all = []

    def call(self, name, document):
        """Calls; the application has this document for it."""
        mine = f"+{next(self.numbers)}"
        self.app.documents[mine] = document
        phone, rtp = Phone(self.sip, mine, local=(self.trunk, 0)), Rtp()
        call = phone.invite(self.number, sdp("127.0.0.1", rtp.port)).accepted()
        rtp.remote = call.answer.media()
        telephone = Telephone(name, phone, rtp, call)
        telephone.sid = self.app.wait("/voice", From=mine)["CallSid"]
        self.all.append(telephone)
        return telephone

    def register(self, name, password):
        phone = Phone(self.sip, name, password)
        phone.register()
        return phone

    def answer(self, name, phone, sid):
        """Answers the call of that sid."""
        incoming, rtp = phone.wait_invite(), Rtp()
        incoming.respond(180)
        incoming.accept(sdp("127.0.0.1", rtp.port))
        rtp.remote = incoming.invite.media()
        telephone = Telephone(name, phone, rtp, incoming)
        telephone.sid = sid
        self.all.append(telephone)
        return telephone

    def close(self):
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(Telephone.close, self.all))
