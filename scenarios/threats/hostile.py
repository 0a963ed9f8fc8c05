"""Applications that do what no application should. Each takes a connection on which the request was read."""

import socket
import threading
import time

DOCUMENT = b"<?xml version='1.0'?><Response><Hangup/></Response>"


def http(body, content_type="text/xml", status="200 OK", more=""):
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{more}\r\n"
    return head.encode() + body


def hang(peer, path):
    time.sleep(30)


def drip(peer, path):
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 1000\r\n\r\n<Response>")
    while True:
        peer.sendall(b" ")
        time.sleep(0.2)


def slow_head(peer, path):
    peer.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        peer.sendall(b"X-A: b\r\n")
        time.sleep(0.2)


def reset(peer, path):
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def endless(peer, path):
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    while True:
        peer.sendall(chunk)


def large_head(peer, path):
    peer.sendall(b"HTTP/1.1 200 OK\r\n" + b"X-Fill: " + b"y" * 1_000_000 + b"\r\n\r\n")


def sends(data):
    return lambda peer, path: peer.sendall(data)


ENTITY = b"<!DOCTYPE r [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'>]><Response><Say>&b;</Say></Response>"

# path: what happens, and Twilio's error number that the call must tell
HOSTILE = {
    "hang": (hang, 11200),
    "drip": (drip, 11200),
    "slow-head": (slow_head, 11200),
    "reset": (reset, 11200),
    "status-500": (sends(http(b"no", status="500 Out Of Order")), 11200),
    "not-http": (sends(b"\x15\x03\x01 this is no http\r\n\r\n"), 11206),
    "large-head": (large_head, 11206),
    "large-body": (sends(http(b"<Response>" + b" " * 70_000 + b"</Response>")), 11750),
    "endless-body": (endless, 11750),
    "http-loop": (lambda peer, path: peer.sendall(http(b"", status="302 Found", more=f"Location: {path}\r\n")), 11215),
    "not-xml": (sends(http(b"hello <world", "text/xml")), 12100),
    "no-response": (sends(http(b"<Hello/>")), 12100),
    "entities": (sends(http(ENTITY)), 12100),
    "deep": (sends(http(b"<Response>" + b"<Gather>" * 2000 + b"</Gather>" * 2000 + b"</Response>")), 12101),
    "wrong-type": (sends(http(b"\x00\x01\x02", "application/octet-stream")), 12300),
}


class Application:
    """Serves all of them, and two that behave: `/good`, and `/verb-loop`, which redirects to itself for ever."""

    def __init__(self, port):
        self.requests = []
        self.listener = socket.create_server(("127.0.0.1", port), backlog=128)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            peer, _ = self.listener.accept()
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer):
        with peer:
            try:
                data = b""
                while b"\r\n\r\n" not in data:
                    piece = peer.recv(65536)
                    if not piece:
                        return
                    data += piece
                path = data.split(b" ", 2)[1].decode()
                name = path.split("?")[0].strip("/")
                self.requests.append(name)
                if name == "verb-loop":
                    peer.sendall(http(b"<Response><Redirect>/verb-loop</Redirect></Response>"))
                elif name in HOSTILE:
                    HOSTILE[name][0](peer, path)
                else:
                    peer.sendall(http(DOCUMENT))
            except OSError:
                pass
