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

# `name` is "" for what has none; `number` is what the stream goes on from, where that was said.
Frame = collections.namedtuple("Frame", "at name number data")

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class Stream:
    """Opens one, and reads it in a thread of its own until it ends. Refused: `status` and `body` say how."""

    def __init__(self, http, path, query=(), web_socket=False, last=None):
        self.web_socket, self.frames, self.is_over, self.answers_pings = web_socket, [], False, True
        host, port = http.split(":")
        self.socket = socket.create_connection((host, int(port)))
        # What is written at once is sent at once.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")
        lines = [f"GET {path}?{urllib.parse.urlencode(query)} HTTP/1.1", "Host: dialtone", "User-Agent: scenario"]
        if web_socket:
            key = base64.b64encode(os.urandom(16)).decode()
            lines += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"]
        if last is not None:
            lines.append(f"Last-Event-ID: {last}")
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self.status = int(self.file.readline().split()[1])
        self.headers = {}
        while line := self.file.readline().decode().strip():
            name, _, value = line.partition(":")
            self.headers[name.lower()] = value.strip()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.is_open = self.status == (101 if web_socket else 200)
        if not self.is_open:
            self.body = json.loads(self.file.read(int(self.headers["content-length"])))
            self._release()
            return
        if web_socket:
            digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
            assert self.headers["sec-websocket-accept"] == base64.b64encode(digest).decode(), "the handshake's answer"
        self.thread.start()

    def _read(self):
        try:
            (self._messages if self.web_socket else self._events)()
        except (OSError, ValueError):
            pass
        self.is_over = True

    def _events(self):
        left, fields = b"", {}
        while size := int(self.file.readline() or b"0", 16):
            *lines, left = (left + self.file.read(size)).split(b"\n")
            self.file.readline()
            for line in lines:
                name, _, value = line.decode().partition(": ")
                if name:
                    fields[name] = value
                    continue
                if "data" in fields:
                    self._take(fields.get("event", ""), fields.get("id"), json.loads(fields["data"]))
                fields = {}

    def _messages(self):
        while len(head := self.file.read(2)) == 2:
            kind, length = head[0] & 15, head[1] & 127
            if length > 125:
                length = int.from_bytes(self.file.read(2 if length == 126 else 8))
            payload = self.file.read(length)
            if kind == PING and self.answers_pings:
                self._send(PONG, payload)
            elif kind == CLOSE:
                return
            elif kind == TEXT:
                data = json.loads(payload)
                self._take(data.pop("event", "") or data.pop("control", ""), data.get("sequence"), data)

    def _take(self, name, number, data):
        self.frames.append(Frame(time.monotonic(), name, number, data))

    def _send(self, kind, payload):
        """What a client sends is masked."""
        mask = os.urandom(4)
        masked = bytes(byte ^ key for byte, key in zip(payload, itertools.cycle(mask)))
        self.socket.sendall(struct.pack("!BB", 128 | kind, 128 | len(payload)) + mask + masked)

    def say(self, **what):
        """A WebSocket's client says something too."""
        self._send(TEXT, json.dumps(what).encode())

    def named(self, name):
        """What came last by that name; `None`: nothing."""
        return next((frame for frame in reversed(list(self.frames)) if frame.name == name), None)

    def wait(self, name, seconds=5):
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
