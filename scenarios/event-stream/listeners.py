"""Clients of the stream, by server-sent events and by WebSocket (RFC 6455): what each is told, and when."""

import base64
import collections
import hashlib
import itertools
import json
import os
import socket
import struct
import threading
import time
import urllib.parse

from lib.scenario import Failed, wait_for

PATH = "/2010-04-01/Events"
# For a client that does not read: the kernel takes little for it, in small segments.
SMALL = 2048

# `name` is "" for an event of an account, and for others what the stream says of itself. `number` is the last one known then.
Told = collections.namedtuple("Told", "at name number text")


def connect(http, small=False):
    connection = socket.socket()
    if small:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    host, port = http.split(":")
    connection.connect((host, int(port)))
    return connection


def request(token=None, last=None, filters=(), web_socket=False, basic=None):
    """The text that opens a stream. By a browser's WebSocket no header can be given."""
    query = [("AccessToken", token)] if token else []
    query += filters.items() if isinstance(filters, dict) else filters
    lines = ["Host: dialtone"]
    if basic:
        lines.append("Authorization: Basic " + base64.b64encode(":".join(basic).encode()).decode())
    if web_socket:
        key = base64.b64encode(os.urandom(16)).decode()
        lines += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"]
        query += [("LastEventId", last)] if last is not None else []
    elif last is not None:
        lines.append(f"Last-Event-ID: {last}")
    path = PATH + ("?" + urllib.parse.urlencode(query, doseq=True) if query else "")
    return f"GET {path} HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n"


class Listener:
    """Opens a stream, and reads it in a thread of its own until it ends. With `waits` it reads nothing before `go_on`."""

    def __init__(self, http, token=None, last=None, filters=(), web_socket=False, basic=None, waits=False):
        self.told, self.raw, self.retry, self.first, self.is_over, self.pongs = [], [], None, None, False, 0
        self.began = time.monotonic()
        self.connection = connect(http, small=waits)
        self.file = self.connection.makefile("rb")
        text = request(token, last, filters, web_socket, basic)
        self.connection.sendall(text.encode())
        self.status = int(self.file.readline().split()[1])
        self.headers = {}
        while line := self.file.readline().decode().strip():
            name, _, value = line.partition(":")
            self.headers[name.lower()] = value.strip()
        self.body = ""
        self.thread = threading.Thread(target=self._read, args=(self._messages if web_socket else self._stream,), daemon=True)
        if self.status == (101 if web_socket else 200):
            if web_socket:
                key = text.split("Sec-WebSocket-Key: ")[1].split("\r\n")[0]
                digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
                assert self.headers["sec-websocket-accept"] == base64.b64encode(digest).decode(), "the handshake's answer"
            if not waits:
                self.go_on()
        else:
            self.body = self.file.read(int(self.headers["content-length"])).decode()
            self.close()

    def go_on(self):
        self.thread.start()

    def _read(self, frames):
        try:
            frames()
        except (OSError, ValueError):
            pass
        self.is_over = True

    def _take(self, name, number, text):
        self.told.append(Told(time.monotonic(), name, number, text))

    # Server-sent events.

    def _chunks(self):
        while size := int(self.file.readline() or b"0", 16):
            yield self.file.read(size)
            self.file.readline()

    def _stream(self):
        left, fields = b"", {}
        number = None
        for chunk in self._chunks():
            *lines, left = (left + chunk).split(b"\n")
            for line in lines:
                self.raw.append(line.decode())
                name, _, value = self.raw[-1].partition(": ")
                if line:
                    fields[name] = value
                    continue
                if "data" in fields:
                    number = int(fields["id"]) if "id" in fields else number
                    self._take(fields.get("event", ""), number, fields["data"])
                elif "retry" in fields:
                    self.retry = int(fields["retry"])
                    self.first = time.monotonic() - self.began
                fields = {}

    # WebSocket.

    def _messages(self):
        number = None
        while len(head := self.file.read(2)) == 2:
            kind, length = head[0] & 15, head[1] & 127
            if length > 125:
                length = int.from_bytes(self.file.read(2 if length == 126 else 8))
            payload = self.file.read(length)
            if len(payload) < length or kind == 8:
                return
            if kind == 9:
                self._send(10, payload)
            self.pongs += kind == 10
            if kind == 1:
                text = payload.decode()
                told = json.loads(text)
                number = int(told.get("sequence") or told.get("cursor") or number or 0)
                self._take(told.get("control", ""), number, text)

    def _send(self, kind, payload):
        """What a client sends is masked."""
        mask = os.urandom(4)
        masked = bytes(byte ^ key for byte, key in zip(payload, itertools.cycle(mask)))
        self.connection.sendall(struct.pack("!BB", 128 | kind, 128 | len(payload)) + mask + masked)

    def ping(self):
        self._send(9, b"there?")

    # What was told.

    @property
    def events(self):
        return [json.loads(told.text) for told in list(self.told) if not told.name]

    @property
    def numbers(self):
        return [told.number for told in list(self.told) if not told.name]

    @property
    def texts(self):
        return [told.text for told in list(self.told) if not told.name]

    @property
    def last(self):
        """What it is opened with again, to go on."""
        return self.told[-1].number if self.told else None

    def named(self, name):
        """What the stream said of itself by that name; `None`: it did not."""
        return next((json.loads(told.text) for told in list(self.told) if told.name == name), None)

    def wait(self, count, seconds=5):
        """Until so many events have come."""
        until = time.monotonic() + seconds
        while len(self.numbers) < count:
            if time.monotonic() > until:
                raise Failed(f"waited {seconds:g} s for {count} events; {len(self.numbers)} came")
            time.sleep(0.01)
        return self

    def wait_named(self, name, seconds=5):
        return wait_for(lambda: self.named(name), seconds, f"the stream to say {name}")

    def wait_over(self, seconds=5):
        wait_for(lambda: self.is_over, seconds, "the stream to end")

    def close(self):
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.connection.close()
        if self.thread.is_alive():
            self.thread.join(2)
        self.file.close()


def stuck(http, token):
    """Opens a stream and never reads."""
    connection = connect(http, small=True)
    connection.sendall(request(token).encode())
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
        return next(part.last for part in reversed(self.parts) if part.told)

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
    def raw(self):
        return [line for part in list(self.parts) for line in part.raw]

    def said(self, since):
        """What the streams said of themselves that were opened since."""
        return [told.name for part in list(self.parts)[since:] for told in list(part.told) if told.name]

    wait = Listener.wait

    def close(self):
        self.is_open = False
        self.join(2)
        self.parts[-1].close()
