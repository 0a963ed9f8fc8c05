"""RTP in and out, G.711, RFC 4733 digits, and comparing what was heard with what was sent."""

import math
import random
import select
import socket
import struct
import threading
import time

FRAME = 160
DIGITS = "0123456789*#ABCD"


def _expand(code):
    code = ~code & 0xFF
    value = (((code & 0x0F) << 3) + 0x84 << (code >> 4 & 7)) - 0x84
    return -value if code & 0x80 else value


ULAW = [_expand(code) for code in range(256)]
_COMPRESS = {}


def ulaw_decode(data):
    """Samples of u-law bytes."""
    return [ULAW[code] for code in data]


def ulaw_encode(samples):
    """The nearest u-law byte of each sample."""
    if not _COMPRESS:
        order = sorted(range(256), key=lambda code: ULAW[code])
        place, table = 0, {}
        for value in range(-32768, 32768, 4):
            while place < 255 and abs(ULAW[order[place + 1]] - value) <= abs(ULAW[order[place]] - value):
                place += 1
            table[value // 4] = order[place]
        # All of it at once: another thread may be encoding.
        _COMPRESS.update(table)
    return bytes(_COMPRESS[max(-32768, min(32767, int(sample))) // 4] for sample in samples)


def noise(seconds, seed, level=6000):
    """Noise with the spectrum of speech, about: no two seeds correlate."""
    source = random.Random(seed)
    samples, last = [], 0.0
    for index in range(int(seconds * 8000)):
        last = 0.6 * last + source.uniform(-level, level)
        samples.append(last * (0.6 + 0.4 * math.sin(index / 900)))
    return samples


def correlation(wanted, heard):
    """The best normalised cross-correlation of `wanted` with any part of `heard` that has its length: -1 to 1."""
    return best_match(wanted, heard)[0]


def best_match(wanted, heard):
    """That correlation, and at which sample of `heard` it is."""
    import numpy

    wanted, heard = numpy.asarray(wanted, float), numpy.asarray(heard, float)
    if len(heard) < len(wanted):
        heard = numpy.pad(heard, (0, len(wanted) - len(heard)))
    size = 1 << (len(wanted) + len(heard)).bit_length()
    products = numpy.fft.irfft(numpy.fft.rfft(heard, size) * numpy.conj(numpy.fft.rfft(wanted, size)), size)
    products = products[: len(heard) - len(wanted) + 1]
    squares = numpy.concatenate(([0.0], numpy.cumsum(heard**2)))
    energy = squares[len(wanted) :] - squares[: len(squares) - len(wanted)]
    scale = numpy.sqrt((wanted**2).sum() * numpy.maximum(energy, 1e3))
    found = products / numpy.maximum(scale, 1e-9)
    return float(found.max()), int(found.argmax())


def tone_level(samples, hz, rate=8000):
    """The amplitude of a frequency in samples."""
    turn = 2 * math.pi * hz / rate
    real = sum(sample * math.cos(turn * index) for index, sample in enumerate(samples))
    imaginary = sum(sample * math.sin(turn * index) for index, sample in enumerate(samples))
    return 2 * math.hypot(real, imaginary) / max(1, len(samples))


class Packet:
    """A received packet."""

    def __init__(self, data, source):
        first, second, self.sequence, self.timestamp, self.ssrc = struct.unpack("!BBHII", data[:12])
        self.marker, self.payload_type = bool(second & 0x80), second & 0x7F
        self.payload, self.source, self.at = data[12:], source, time.monotonic()


class Rtp:
    """A media address: a thread keeps what comes; `play` and `press` send."""

    def __init__(self, host="127.0.0.1", port=0):
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, port))
        self.host, self.port = self.socket.getsockname()[:2]
        self.packets = []
        # The packet that came last, of each stream.
        self._latest = {}
        self.remote = None
        self._sequence, self._timestamp, self._ssrc = random.getrandbits(15), random.getrandbits(31), random.getrandbits(32)
        self.sent = 0
        self._open = True
        self._players = []
        # When the next packet is due, of a telephone whose clock goes on while it says nothing.
        self._due = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        while self._open:
            if not select.select([self.socket], [], [], 0.1)[0]:
                continue
            try:
                data, source = self.socket.recvfrom(2048)
            except OSError:
                return
            # The reports (RTCP) of a call whose port happens to be one below ours come here too: RFC 5761 s4 tells them apart.
            data = self.open(data) if len(data) > 12 and data[0] >> 6 == 2 else None
            if data and not 192 <= data[1] <= 223:
                packet = Packet(data, source)
                packet.number = self._number(packet)
                self._latest[packet.ssrc] = packet
                self.packets.append(packet)

    def _number(self, packet):
        """Its number among all that came: those of a stream go on where its sequence begins anew at 16 bits, and another stream begins behind the last."""
        latest = self._latest.get(packet.ssrc)
        if latest is None:
            return max((one.number for one in self._latest.values()), default=0) + 1
        return latest.number + (packet.sequence - latest.sequence + 0x8000) % 0x10000 - 0x8000

    def send(self, payload, payload_type=0, marker=False, step=FRAME, timestamp=None):
        stamp = self._timestamp if timestamp is None else timestamp
        head = struct.pack("!BBHII", 0x80, payload_type | (0x80 if marker else 0), self._sequence & 0xFFFF, stamp & 0xFFFFFFFF, self._ssrc)
        self.socket.sendto(self.seal(head + payload), self.remote)
        self.sent += 1
        self._sequence += 1
        self._timestamp += step

    def seal(self, packet):
        """What goes over the network for it."""
        return packet

    def open(self, data):
        """What it was before that; `None` if it is to be passed over."""
        return data

    def play(self, audio, payload_type=0, wait=True):
        """Sends G.711 bytes at the pace of a phone."""
        def run():
            now = time.monotonic()
            if self._due is not None:
                self._timestamp += round(max(0.0, now - self._due) * 50) * FRAME
            self._due = now
            for at in range(0, len(audio) - FRAME + 1, FRAME):
                if not self._open:
                    return
                self.send(audio[at : at + FRAME], payload_type)
                self._due += 0.02
                time.sleep(max(0.0, self._due - time.monotonic()))

        if wait:
            run()
        else:
            player = threading.Thread(target=run, daemon=True)
            player.start()
            self._players.append(player)

    def press(self, digits, payload_type=101, milliseconds=100):
        """Sends digits by RFC 4733."""
        for digit in digits:
            begun, packets = self._timestamp, milliseconds // 20
            for index in range(packets + 3):
                length = min(index + 1, packets) * FRAME
                end = 0x80 if index >= packets - 1 else 0
                self.send(struct.pack("!BBH", DIGITS.index(digit), end | 10, length), payload_type, index == 0, 0, begun)
                time.sleep(0.02)
            self._timestamp += (packets + 5) * FRAME
            time.sleep(0.06)
        self._due = time.monotonic()

    def heard(self, payload_type=0, since=0.0):
        """Samples of what came since then, in the order in which it was sent; silence for packets that did not come."""
        samples, due = [], None
        for packet in sorted((packet for packet in list(self.packets) if packet.at >= since), key=lambda packet: packet.number):
            if due is not None:
                samples.extend([0] * (packet.number - due) * FRAME)
            if packet.payload_type == payload_type:
                samples.extend(ulaw_decode(packet.payload))
            due = packet.number + 1
        return samples

    def digits(self, payload_type=101):
        """Digits that came by RFC 4733."""
        seen, text = set(), ""
        for packet in list(self.packets):
            if packet.payload_type == payload_type and packet.timestamp not in seen:
                seen.add(packet.timestamp)
                text += DIGITS[packet.payload[0]]
        return text

    def close(self):
        self._open = False
        for player in self._players:
            player.join(1)
        # Whoever reads need not wait until it looks again.
        self.socket.sendto(b"", self.socket.getsockname())
        self._thread.join(1)
        self.socket.close()
