"""Clients of the stream of events, and what each was told."""

import threading
import time

from lib.scenario import Failed, wait_for
from lib.stream import Stream, connect, opening

PATH = "/2010-04-01/Events"


def query(token, filters=()):
    return ([("AccessToken", token)] if token else []) + list(filters.items() if isinstance(filters, dict) else filters)


class Listener(Stream):
    """What it is told of an account has no name, and a number; what the stream says of itself has a name."""

    def __init__(self, http, token=None, last=None, filters=(), **how):
        super().__init__(http, PATH, query(token, filters), last, **how)

    @property
    def events(self):
        return [frame.data for frame in list(self.frames) if not frame.name]

    @property
    def numbers(self):
        return [frame.number for frame in list(self.frames) if not frame.name]

    @property
    def texts(self):
        return [frame.text for frame in list(self.frames) if not frame.name]

    @property
    def last(self):
        """What it is opened with again, to go on."""
        return self.frames[-1].number if self.frames else None

    def wait(self, count, seconds=5):
        """Until so many events have come."""
        until = time.monotonic() + seconds
        while len(self.numbers) < count:
            if time.monotonic() > until:
                raise Failed(f"waited {seconds:g} s for {count} events; {len(self.numbers)} came")
            time.sleep(0.01)
        return self

    def wait_over(self, seconds=5):
        wait_for(lambda: self.is_over, seconds, "the stream to end")


def stuck(http, token):
    """Opens a stream and never reads."""
    connection = connect(http, small=True)
    connection.sendall(opening(PATH, query(token)).encode())
    return connection


class Follower(threading.Thread):
    """As an EventSource: opens the stream again where it was, at one address after another, until it is closed."""

    def __init__(self, https, token):
        super().__init__(daemon=True)
        self.https, self.token, self.parts, self.is_open = https, token, [Listener(https[0], token)], True
        self.start()

    def run(self):
        turn = 0
        while self.is_open:
            if not self.parts[-1].is_over:
                time.sleep(0.01)
                continue
            turn += 1
            try:
                self.parts.append(Listener(self.https[turn % len(self.https)], self.token, self.last))
            except (OSError, IndexError, ValueError):
                time.sleep(0.05)

    @property
    def last(self):
        return next(part.last for part in reversed(self.parts) if part.frames)

    @property
    def numbers(self):
        return [number for part in list(self.parts) for number in part.numbers]

    @property
    def events(self):
        return [event for part in list(self.parts) for event in part.events]

    @property
    def texts(self):
        return [text for part in list(self.parts) for text in part.texts]

    @property
    def lines(self):
        return [line for part in list(self.parts) for line in part.lines]

    def said(self, since):
        """What the streams said of themselves that were opened since."""
        return [frame.name for part in list(self.parts)[since:] for frame in list(part.frames) if frame.name]

    wait = Listener.wait

    def close(self):
        self.is_open = False
        self.join(2)
        self.parts[-1].close()
