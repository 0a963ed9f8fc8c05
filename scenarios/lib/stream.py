"""Connections by which a server tells something for as long as they are open: server-sent events, and WebSocket (RFC 6455)."""

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

from .scenario import wait_for

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
# For a client that does not read: the kernel takes little for it, in small segments.
SMALL = 2048


class Frame(collections.namedtuple("Frame", "at name number text")):
    """`name` is "" for what has none; `number` is what the stream goes on from, as far as that was said until then."""

    @property
    def data(self):
        return json.loads(self.text)


def connect(http, small=False, tls=None):
    """`tls`: an ssl context."""
    connection = socket.socket()
    # What is written at once is sent at once.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if small:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    host, port = http.split(":")
    connection.connect((host, int(port)))
    return tls.wrap_socket(connection, server_hostname=host) if tls else connection


def opening(path, query=(), last=None, web_socket=None, basic=None):
    """The text that opens a stream; a `web_socket` by that key. By a browser's WebSocket no header can be given."""
    query = list(query.items() if isinstance(query, dict) else query)
    lines = ["Host: dialtone", "User-Agent: scenario"]
    if basic:
        lines.append("Authorization: Basic " + base64.b64encode(":".join(basic).encode()).decode())
    if web_socket:
        lines += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {web_socket}"]
        query += [("LastEventId", last)] if last is not None else []
    elif last is not None:
        lines.append(f"Last-Event-ID: {last}")
    path += "?" + urllib.parse.urlencode(query, doseq=True) if query else ""
    return f"GET {path} HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n"


class Stream:
    """Opens one, and reads it in a thread of its own until it ends. Refused: `status` and `body` say how.

    With `waits` it reads nothing before `go_on`.
    """

    def __init__(self, http, path, query=(), last=None, web_socket=False, basic=None, waits=False, tls=None):
        self.web_socket, self.frames, self.is_over, self.answers_pings, self.body = web_socket, [], False, True, ""
        # The lines of server-sent events as they came, the pause that they name, and when they did; how often a ping was answered.
        self.lines, self.retry, self.first, self.pongs, self.began = [], None, None, 0, time.monotonic()
        self.socket = connect(http, waits, tls)
        self.file = self.socket.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(opening(path, query, last, key if web_socket else None, basic).encode())
        self.status = int(self.file.readline().split()[1])
        self.headers = {}
        while line := self.file.readline().decode().strip():
            name, _, value = line.partition(":")
            self.headers[name.lower()] = value.strip()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.is_open = self.status == (101 if web_socket else 200)
        if not self.is_open:
            self.body = self.file.read(int(self.headers["content-length"])).decode()
            self._release()
            return
        if web_socket:
            digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
            assert self.headers["sec-websocket-accept"] == base64.b64encode(digest).decode(), "the handshake's answer"
        if not waits:
            self.go_on()

    def go_on(self):
        self.thread.start()

    @property
    def error(self):
        """The number of the error by which it was refused."""
        return json.loads(self.body)["code"] if self.body else None

    def _read(self):
        try:
            (self._messages if self.web_socket else self._events)()
        except (OSError, ValueError):
            pass
        self.is_over = True

    def _events(self):
        left, fields, number = b"", {}, None
        while size := int(self.file.readline() or b"0", 16):
            *lines, left = (left + self.file.read(size)).split(b"\n")
            self.file.readline()
            for line in lines:
                self.lines.append(line.decode())
                name, _, value = self.lines[-1].partition(": ")
                if line:
                    fields[name] = value
                    continue
                if "data" in fields:
                    number = int(fields["id"]) if "id" in fields else number
                    self._take(fields.get("event", ""), number, fields["data"])
                elif "retry" in fields:
                    self.retry, self.first = int(fields["retry"]), time.monotonic() - self.began
                fields = {}

    def _messages(self):
        number = None
        while len(head := self.file.read(2)) == 2:
            kind, length = head[0] & 15, head[1] & 127
            if length > 125:
                length = int.from_bytes(self.file.read(2 if length == 126 else 8))
            payload = self.file.read(length)
            if len(payload) < length or kind == CLOSE:
                return
            if kind == PING and self.answers_pings:
                self._send(PONG, payload)
            self.pongs += kind == PONG
            if kind == TEXT:
                text = payload.decode()
                told = json.loads(text)
                number = int(told.get("sequence") or told.get("cursor") or number or 0)
                self._take(told.get("control") or told.get("event") or "", number, text)

    def _take(self, name, number, text):
        self.frames.append(Frame(time.monotonic(), name, number, text))

    def _send(self, kind, payload):
        """What a client sends is masked."""
        mask = os.urandom(4)
        masked = bytes(byte ^ key for byte, key in zip(payload, itertools.cycle(mask)))
        self.socket.sendall(struct.pack("!BB", 128 | kind, 128 | len(payload)) + mask + masked)

    def say(self, **what):
        """A WebSocket's client says something too."""
        self._send(TEXT, json.dumps(what).encode())

    def ping(self):
        self._send(PING, b"there?")

    def named(self, name):
        """What came last by that name; `None`: nothing."""
        return next((frame for frame in reversed(list(self.frames)) if frame.name == name), None)

    def wait_named(self, name, seconds=5):
        return wait_for(lambda: self.named(name), seconds, f"the stream to say {name!r}")

    def close(self):
        """Takes its leave, where there is a way to."""
        if self.is_open:
            try:
                if self.web_socket:
                    self._send(CLOSE, struct.pack("!H", 1000))
                self.socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            self._release()

    def cut(self):
        """Is gone from one moment to the next, by a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        try:
            # Nobody hears of this; but whoever reads here does not hold the socket any more.
            self.socket.shutdown(socket.SHUT_RD)
        except OSError:
            pass
        self._release()

    def _release(self):
        self.is_open = False
        if self.thread.is_alive():
            self.thread.join(2)
        self.file.close()
        self.socket.close()
