"""A UDP relay that loses datagrams, the same ones in every run of a seed."""

import hashlib
import re
import select
import socket
import threading


class Lossy:
    """Stands at `here` for the server at `there`. Whether a datagram is lost depends on the seed, on what it says (not on
    tags and branches, which are random) and on how often that was sent before."""

    def __init__(self, here, there, loss, seed):
        self.there, self.loss, self.seed = there, loss, seed
        self.near, self.far = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        self.near.bind(here)
        self.far.bind((here[0], 0))
        self.peer = None
        self.passed = self.dropped = 0
        self._copies = {}
        self._open = True
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._open = False
        self._thread.join(1)
        self.near.close()
        self.far.close()

    def _is_lost(self, data):
        start = data.split(b"\r\n", 1)[0].split()
        what = start[0] if start[0] != b"SIP/2.0" else start[1]
        call = re.search(rb"^Call-ID:\s*(\S+)", data, re.I | re.M)
        cseq = re.search(rb"^CSeq:\s*(.+?)\r", data, re.I | re.M)
        name = (what, call and call.group(1), cseq and cseq.group(1))
        copy = self._copies[name] = self._copies.get(name, -1) + 1
        drawn = hashlib.sha256(repr((self.seed, name, copy)).encode()).digest()
        return int.from_bytes(drawn[:4], "big") / 2**32 < self.loss

    def _run(self):
        while self._open:
            for one in select.select([self.near, self.far], [], [], 0.1)[0]:
                data, source = one.recvfrom(65536)
                if one is self.near:
                    self.peer = source
                if self._is_lost(data):
                    self.dropped += 1
                    continue
                self.passed += 1
                if one is self.near:
                    self.far.sendto(data, self.there)
                elif self.peer:
                    self.near.sendto(data, self.peer)
