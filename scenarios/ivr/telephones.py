"""What the telephones do: they call or are called, speak, press keys, and keep what they hear. They check nothing."""

import itertools

import numpy

from lib.rtp import ULAW, Rtp, best_match, noise, ulaw_encode
from lib.scenario import Failed, wait_for
from lib.sip import Phone, sdp

RATE, ENOUGH = 8000, 0.9
EXPANDED = numpy.array(ULAW, float)
_seeds = itertools.count(1000)


class Telephone:
    """One that is in a call. `likeness` and `hears` are about what came since `mark`, which what is heard moves on."""

    def __init__(self, name, phone, rtp, call):
        self.name, self.phone, self.rtp, self.call = name, phone, rtp, call
        self.mark, self.is_over, self.worst = 0, False, 1.0

    def heard(self):
        """Samples of what came so far."""
        return EXPANDED[numpy.frombuffer(b"".join(packet.payload for packet in list(self.rtp.packets) if packet.payload_type == 0), numpy.uint8)]

    def likeness(self, samples, since=None):
        """The best correlation with what came since the mark or that sample, and where it ends."""
        since = self.mark if since is None else since
        found, at = best_match(samples, self.heard()[since:])
        return found, since + at + len(samples)

    def hears(self, samples, what, seconds=6):
        """Waits for this sound, to its end; the mark is behind it then. Gives what came before it, since the mark."""

        def is_heard():
            found, end = self.likeness(samples)
            return found >= ENOUGH and len(self.heard()) >= end

        try:
            wait_for(is_heard, seconds, what, every=0.1)
        except Failed:
            raise Failed(f"{self.name} does not hear {what}: correlation {self.likeness(samples)[0]:.3f} at most") from None
        found, end = self.likeness(samples)
        self.worst = min(self.worst, found)
        before, self.mark = self.heard()[self.mark : end - len(samples)], end
        return before

    def hears_speech(self, seconds=6):
        """Waits for a quarter of a second of something that is loud, since the mark."""
        wait_for(lambda: loudest(self.heard()[self.mark :]) > 300, seconds, f"speech at {self.name}", every=0.1)

    def say(self, seconds=0.6, after=0.0):
        """A noise that nobody has said before, after a silence; given back as it was."""
        samples = noise(seconds, next(_seeds))
        self.rtp.play(ulaw_encode([0] * int(after * RATE) + samples))
        return samples

    def press(self, digits):
        self.rtp.press(digits)

    def hang_up(self):
        """Says so again where the answer does not come, as RFC 3261 s17.1.2 asks of UDP."""
        self.is_over = True
        bye = self.call.make("BYE")
        try:
            self.phone.exchange(bye, 1)
        except Failed:
            self.phone.exchange(bye, 4)

    def wait_bye(self, seconds=8):
        self.is_over = True
        return self.call.wait_bye(seconds)

    def close(self):
        if not self.is_over:
            self.hang_up()
        self.rtp.close()


def loudest(audio, width=RATE // 4):
    """The greatest loudness of a quarter of a second."""
    parts = [audio[at : at + width] for at in range(0, len(audio) - width + 1, width // 2)]
    return max((float(numpy.sqrt((part**2).mean())) for part in parts), default=0.0)


class Telephones:
    """Callers at the trunk, the carrier that is called, and users."""

    def __init__(self, sip, trunk, carrier):
        self.sip, self.trunk = sip, trunk
        self.carrier = Phone(sip, "carrier", local=(trunk, carrier))
        self.phones, self.all = [self.carrier], []

    def at_trunk(self, mine):
        phone = Phone(self.sip, mine, local=(self.trunk, 0))
        self.phones.append(phone)
        return phone

    def register(self, name, password):
        phone = Phone(self.sip, name, password, algorithm="MD5")
        self.phones.append(phone)
        phone.register()
        return phone

    def ring(self, phone, number):
        """Calls, and does not wait for an answer: the call and its sound."""
        rtp = Rtp()
        return phone.invite(number, sdp("127.0.0.1", rtp.port)), rtp

    def call(self, name, phone, number):
        """Calls, and is answered."""
        call, rtp = self.ring(phone, number)
        return self.answered(name, phone, rtp, call)

    def answered(self, name, phone, rtp, call):
        """A call that has been placed is answered."""
        rtp.remote = call.accepted(8).answer.media()
        return self._keep(Telephone(name, phone, rtp, call))

    def answer(self, name, phone, incoming):
        rtp = Rtp()
        incoming.accept(sdp("127.0.0.1", rtp.port))
        rtp.remote = incoming.invite.media()
        return self._keep(Telephone(name, phone, rtp, incoming))

    def _keep(self, telephone):
        self.all.append(telephone)
        return telephone

    def close(self):
        for telephone in self.all:
            telephone.close()
        for phone in self.phones:
            phone.close()
