"""Makes hold-music.ulaw anew: quiet arpeggios over C, Am, F and G, that loop without a seam. Nobody's but ours."""

import math
import pathlib

RATE, BEAT = 8000, 0.5
CHORDS = [
    (261.63, 329.63, 392.0, 523.25),
    (220.0, 261.63, 329.63, 440.0),
    (174.61, 220.0, 261.63, 349.23),
    (196.0, 246.94, 293.66, 392.0),
]
PATTERN = [0, 1, 2, 3, 2, 1]
LENGTH = int(RATE * BEAT * len(PATTERN) * len(CHORDS))


def add(music, at, frequency, seconds, level):
    """A note with a soft attack and three partials; what is longer than the piece goes on at its beginning."""
    for index in range(int(seconds * RATE)):
        time = index / RATE
        envelope = min(1, time / 0.02) * math.exp(-2.2 * time)
        wave = sum(part * math.sin(2 * math.pi * frequency * number * time) for number, part in ((1, 1.0), (2, 0.35), (3, 0.12)))
        music[(int(at * RATE) + index) % LENGTH] += level * envelope * wave


def ulaw(value):
    """ITU-T G.711."""
    sign, value = (0x80 if value < 0 else 0), min(abs(int(value)), 32635) + 0x84
    exponent = max(0, value.bit_length() - 8)
    return ~(sign | exponent << 4 | value >> exponent + 3 & 15) & 0xFF


music = [0.0] * LENGTH
for number, chord in enumerate(CHORDS):
    start = number * len(PATTERN) * BEAT
    add(music, start, chord[0] / 2, 3.0, 2600)
    for step, tone in enumerate(PATTERN):
        add(music, start + step * BEAT, chord[tone], 1.6, 2200)
pathlib.Path(__file__).with_name("hold-music.ulaw").write_bytes(bytes(ulaw(sample) for sample in music))
