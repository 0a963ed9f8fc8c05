"""Many streams in one process of their own: `crowd.py HTTP FILE`, where FILE has an account, its token and a number of streams a line.

It opens them all, says how long that took, and reads until it is told, by a line of JSON, how many events each account has had. It says what came of
that. Every event is looked at: whose it is, whether its number follows the one before, and how old it is."""

import array
import collections
import datetime
import errno
import functools
import json
import pathlib
import select
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from listeners import PATH, query

from lib.scenario import allow_many_files
from lib.stream import connect, opening

# Connections that are begun before the answers of earlier ones are read.
AT_ONCE = 100


@functools.lru_cache(1024)
def milliseconds(text):
    return round(datetime.datetime.fromisoformat(text.decode()).timestamp() * 1000)


class Stream:
    __slots__ = ("connection", "sid", "left", "is_open", "number", "count", "keep_alives")

    def __init__(self, http, sid, token):
        self.connection, self.sid, self.left = connect(http), f'"accountsid":"{sid}"'.encode(), b""
        self.is_open, self.number, self.count, self.keep_alives = False, 0, 0, 0
        self.connection.sendall(opening(PATH, query(token)).encode())
        self.connection.setblocking(False)


class Crowd:
    def __init__(self, http, accounts):
        self.http, self.accounts, self.poll = http, accounts, select.epoll()
        self.streams, self.by_sid = {}, collections.defaultdict(list)
        self.ages, self.foreign, self.gaps, self.ended, self.strange = array.array("l"), 0, 0, 0, []

    def open(self):
        pending = [(sid, token) for sid, token, count in self.accounts for _ in range(count)]
        # One account after another: the streams of one are then of many moments.
        pending = [pending[at] for step in range(97) for at in range(step, len(pending), 97)]
        while pending or any(not stream.is_open for stream in self.streams.values()):
            for sid, token in pending[:AT_ONCE]:
                stream = Stream(self.http, sid, token)
                self.streams[stream.connection.fileno()] = stream
                self.by_sid[sid].append(stream)
                self.poll.register(stream.connection, select.EPOLLIN)
            del pending[:AT_ONCE]
            began = len(self.streams)
            self.read(5)
            while sum(stream.is_open for stream in self.streams.values()) < began and not self.strange:
                self.read(1)
            if self.strange:
                return

    def read(self, seconds):
        for descriptor, _ in self.poll.poll(seconds):
            stream = self.streams[descriptor]
            try:
                data = stream.connection.recv(1 << 16)
            except OSError as error:
                data = b"" if error.errno != errno.EAGAIN else None
            now = time.time() * 1000
            if data:
                self.take(stream, data, now)
            elif data is not None:
                self.ended += 1
                self.poll.unregister(descriptor)

    def take(self, stream, data, now):
        *frames, stream.left = (stream.left + data).split(b"\n\n")
        for frame in frames:
            # Lengths of chunks stand between; they are in nobody's way.
            at = frame.find(b"id: ")
            if b"event: " in frame:
                if b"event: snapshot" in frame:
                    stream.is_open, stream.number = True, int(frame[at + 4 : frame.index(b"\n", at)])
                else:
                    self.strange.append(frame.decode()[:200])
            elif at >= 0:
                number = int(frame[at + 4 : frame.index(b"\n", at)])
                self.gaps += number != stream.number + 1
                stream.number = number
                stream.count += 1
                self.foreign += stream.sid not in frame
                since = frame.rindex(b'"time":"') + 8
                self.ages.append(round(now - milliseconds(frame[since : frame.index(b'"', since)])))
            elif frame.find(b": keep-alive") >= 0:
                stream.keep_alives += 1
            elif b"HTTP/1.1" in frame and b"HTTP/1.1 200" not in frame:
                self.strange.append(frame.decode()[:200])

    def missing(self, wanted):
        return sum(stream.count != wanted.get(sid, 0) for sid, streams in self.by_sid.items() for stream in streams)

    def wait(self, wanted, seconds):
        until, looked = time.monotonic() + seconds, 0.0
        while time.monotonic() < until:
            self.read(0.1)
            # To count takes time from those who are to be read.
            if time.monotonic() > looked + 1:
                if not self.missing(wanted):
                    break
                looked = time.monotonic()
        self.read(0.5)

    def result(self, wanted):
        ages = sorted(self.ages)
        share = lambda part: ages[min(len(ages) - 1, int(len(ages) * part))] if ages else 0
        return {
            "streams": len(self.streams), "events": len(ages), "foreign": self.foreign, "gaps": self.gaps, "ended": self.ended, "strange": self.strange[:3],
            "missing": self.missing(wanted), "p50": share(0.5), "p99": share(0.99), "most": ages[-1] if ages else 0,
            "kept_alive": sum(stream.keep_alives > 0 for stream in self.streams.values()),
        }


def main():
    allow_many_files()
    accounts = [(sid, token, int(count)) for sid, token, count in map(str.split, open(sys.argv[2]))]
    crowd = Crowd(sys.argv[1], accounts)
    began = time.monotonic()
    crowd.open()
    print(json.dumps({"opened": len(crowd.streams), "seconds": time.monotonic() - began, "strange": crowd.strange[:3]}), flush=True)
    # They are read until somebody says how many events there must have been.
    while not select.select([sys.stdin], [], [], 0)[0]:
        crowd.read(0.2)
    wanted = json.loads(sys.stdin.readline())
    crowd.wait(wanted, 60)
    print(json.dumps(crowd.result(wanted)), flush=True)


if __name__ == "__main__":
    main()
