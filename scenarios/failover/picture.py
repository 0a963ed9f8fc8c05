"""Draws what a caller heard around a moment: the wave as it came, and a tick for each packet."""

import math

from lib import rtp

WIDTH, BEFORE, AFTER = 900, 0.25, 0.25


def tone(seconds, hertz=100):
    """A low tone: each period of its wave can be seen."""
    return [8000 * math.sin(2 * math.pi * hertz * index / 8000) for index in range(int(seconds * 8000))]


def draw(packets, at, title):
    """An SVG of a quarter of a second before and after `at`."""
    x = lambda moment: 20 + (moment - at + BEFORE) / (BEFORE + AFTER) * (WIDTH - 40)
    seen = sorted((packet for packet in packets if at - BEFORE <= packet.at < at + AFTER - 0.02), key=lambda packet: packet.number)
    wave, ticks, end = [], [], 0.0
    for packet in seen:
        # A phone plays a packet when it is there and the one before is over.
        begin = max(packet.at, end)
        end = begin + 0.02
        wave.append(" ".join(f"{x(begin + index / 8000):.1f},{90 - sample / 130:.1f}" for index, sample in enumerate(rtp.ulaw_decode(packet.payload)) if index % 2 == 0))
        ticks.append(f'<line x1="{x(packet.at):.1f}" y1="172" x2="{x(packet.at):.1f}" y2="184" stroke="#336" />')
    lines = "\n".join(f'<polyline points="{part}" fill="none" stroke="#2a6" stroke-width="1.2" />' for part in wave)
    marks = "\n".join(ticks)
    scale = "\n".join(f'<text x="{x(at + step / 1000):.0f}" y="212" text-anchor="middle">{step:+d} ms</text>' for step in (-200, -100, 0, 100, 200))
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} 225" font-family="sans-serif" font-size="12">
<rect width="{WIDTH}" height="225" fill="white" />
<text x="20" y="18">{title}</text>
{lines}
<line x1="{x(at):.1f}" y1="26" x2="{x(at):.1f}" y2="190" stroke="#c22" stroke-width="1.5" />
<text x="{x(at) + 5:.1f}" y="38" fill="#c22">kill -9</text>
<text x="20" y="168">packets</text>
{marks}
{scale}
</svg>
"""
