"""Encrypted RTP by libsrtp, with keys in SDP (RFC 4568)."""

import base64
import os
import re

from pylibsrtp import Error, Policy, Session

from .rtp import Rtp
from .sip import sdp

PROFILES = {"AES_CM_128_HMAC_SHA1_80": (Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 30), "AEAD_AES_128_GCM": (Policy.SRTP_PROFILE_AEAD_AES_128_GCM, 28)}


def keys_of(description):
    """Suite and key of each tag of an SDP."""
    found = re.findall(r"^a=crypto:(\d+) (\S+) inline:([A-Za-z0-9+/=]+)", description, re.M)
    return {int(tag): (suite, base64.b64decode(key)) for tag, suite, key in found}


class SecureRtp(Rtp):
    """A media address that takes and sends SRTP only; what cannot be opened is counted."""

    def __init__(self, suite="AES_CM_128_HMAC_SHA1_80", **options):
        self.suite, self.refused, self.reports, self._in = suite, 0, 0, None
        self.profile, length = PROFILES[suite]
        self.key = os.urandom(length)
        self._out = Session(Policy(key=self.key, ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=self.profile))
        super().__init__(**options)

    def sdp(self, tag=1, protocol="RTP/SAVP", **options):
        """An offer or answer with its key."""
        line = f"a=crypto:{tag} {self.suite} inline:{base64.b64encode(self.key).decode()}\r\n"
        return sdp(self.host, self.port, **options).replace("RTP/AVP", protocol) + line

    def agree(self, description):
        """Takes the key of the other side, of this suite; its tag."""
        tag, key = next((tag, key) for tag, (suite, key) in keys_of(description).items() if suite == self.suite)
        self._in = Session(Policy(key=key, ssrc_type=Policy.SSRC_ANY_INBOUND, srtp_profile=self.profile))
        return tag

    def seal(self, packet):
        return self._out.protect(packet)

    def open(self, data):
        try:
            if 192 <= data[1] <= 223:
                self._in.unprotect_rtcp(data)
                self.reports += 1
                return None
            return self._in.unprotect(data)
        except (AttributeError, Error):
            self.refused += 1
            return None
