"""Two thousand browsers that are registered and say nothing: what each takes of memory, and what all take of a processor."""

import asyncio
import base64
import json
import os
import resource
import time

COUNT = 2_000


class Quiet:
    """A WebSocket as the SDK has it: listens, registers, and answers heartbeats."""

    async def open(self, port, token):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        key = base64.b64encode(os.urandom(16)).decode()
        self.writer.write(f"GET /signal HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
        answer = await self.reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in answer, answer
        self.say(json.dumps({"type": "listen", "version": "1.6", "payload": {"token": token}}))
        assert json.loads(await self.hear())["type"] == "connected"
        self.say(json.dumps({"type": "register", "version": "1.6", "payload": {"media": {"audio": True}}}))
        while json.loads(await self.hear() or "{}").get("type") != "ready":
            pass
        self.task = asyncio.create_task(self.stay())

    async def stay(self):
        while True:
            if await self.hear() == "":
                self.say("\n")

    def say(self, text):
        body = text.encode()
        head = bytes([0x81, 0x80 | len(body)]) if len(body) < 126 else bytes([0x81, 0x80 | 126]) + len(body).to_bytes(2, "big")
        # A mask of zeros is one.
        self.writer.write(head + bytes(4) + body)

    async def hear(self):
        """The next text, without its line feed."""
        while True:
            first, length = await self.reader.readexactly(2)
            if length == 126:
                length = int.from_bytes(await self.reader.readexactly(2), "big")
            body = await self.reader.readexactly(length)
            if first & 0x0F == 1:
                return body.decode().strip()


def memory_and_cpu(pids):
    """Bytes of private memory, and seconds of processor time, of all of them."""
    kilobytes = seconds = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup") as smaps:
            kilobytes += sum(int(line.split()[1]) for line in smaps if line.startswith(("Private_Dirty", "Private_Clean")))
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return kilobytes * 1024, seconds


def measure(port, token, pids, registered):
    """Registers all; kilobytes of each, and the share of a processor that all take while they are quiet."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)

    async def run():
        before, _ = memory_and_cpu(pids)
        browsers = [Quiet() for _ in range(COUNT)]
        for at in range(0, COUNT, 50):
            await asyncio.gather(*(one.open(port, token(f"quiet-{at + number}")) for number, one in enumerate(browsers[at : at + 50])))
        # What is counted is looked at every 5 s.
        await asyncio.sleep(7)
        assert registered() == COUNT, registered()
        after, begun = memory_and_cpu(pids)
        at = time.monotonic()
        await asyncio.sleep(30)
        _, ended = memory_and_cpu(pids)
        share = (ended - begun) / (time.monotonic() - at)
        assert registered() == COUNT, registered()
        return (after - before) / COUNT / 1024, share

    return asyncio.run(run())
