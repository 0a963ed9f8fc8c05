"""A caller who talks all the time and hears: what happens to its sound while something dies."""

import threading
import time

from . import rtp
from .sip import Phone, reply, sdp


class Leg:
    """A call that is answered. `said`: samples that it says again and again; noise if nothing is given."""

    def __init__(self, server, called, said=None):
        self.said = said or rtp.noise(2, 1)
        self.media = rtp.Rtp()
        self.phone = Phone(server, "+15556100001")
        self.call = self.phone.invite(called, sdp(self.media.host, self.media.port)).accepted()
        self.media.remote, self.offered = self.call.answer.media(), 0
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

    def mute(self):
        self.is_talking = False
        self.talker.join(1)

    def end(self):
        self.call.bye()
        self.stop()

    def stop(self):
        """Falls silent; its call is over, or nobody hangs up."""
        self.mute()
        self.media.close()
        self.phone.close()

    def reinvited(self, seconds=0.0):
        """Answers a re-INVITE, if there is one, and sends to where it says; the address."""
        invite = self.phone.transport.find(lambda message: message.is_request and message.method == "INVITE", seconds)
        if invite is None:
            return None
        body = sdp(self.media.host, self.media.port, version=2)
        self.phone.transport.send(reply(invite, 200, body=body, headers=[f"Contact: {self.phone.contact}"]), invite.source)
        # One that comes again is answered again, and says nothing new.
        if invite.cseq > self.offered:
            self.offered, self.media.remote = invite.cseq, invite.media()
        return self.media.remote
