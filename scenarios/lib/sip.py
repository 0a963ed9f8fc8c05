"""A small SIP client that does what a scenario says, right or wrong."""

import collections
import hashlib
import re
import secrets
import select
import socket
import ssl
import threading
import time

from .scenario import Failed

COMPACT = {"v": "via", "f": "from", "t": "to", "i": "call-id", "m": "contact", "l": "content-length", "c": "content-type"}


class Message:
    """A received message."""

    def __init__(self, data, source=None):
        self.source, self.at = source, time.monotonic()
        head, _, self.body = data.partition(b"\r\n\r\n")
        lines = head.decode("utf-8", "replace").split("\r\n")
        self.start = lines[0]
        self.fields = []
        for line in lines[1:]:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            self.fields.append((COMPACT.get(name, name), value.strip()))
        is_response = self.start.startswith("SIP/2.0 ")
        self.status = int(self.start.split()[1]) if is_response else 0
        self.method = (self.header("cseq") or "0 none").split()[-1] if is_response else self.start.split()[0]
        self.is_request = not is_response

    def header(self, name):
        return next((value for known, value in self.fields if known == name.lower()), "")

    def headers(self, name):
        return [value for known, value in self.fields if known == name.lower()]

    @property
    def call_id(self):
        return self.header("call-id")

    @property
    def cseq(self):
        return int((self.header("cseq") or "0").split()[0])

    def tag(self, name):
        found = re.search(r";tag=([^;>\s]+)", self.header(name))
        return found.group(1) if found else ""

    def contact_uri(self):
        return re.search(r"<([^>]+)>", self.header("contact")).group(1)

    def media(self):
        """Address and port that its SDP names."""
        text = self.body.decode()
        address = re.search(r"^c=IN IP[46] (\S+)", text, re.M).group(1)
        return address, int(re.search(r"^m=audio (\d+)", text, re.M).group(1))


def frame(buffer):
    """Takes the first message off a stream's bytes: the message and the rest, or `None` and all of it."""
    data = buffer.lstrip(b"\r\n")
    head, mark, rest = data.partition(b"\r\n\r\n")
    if not mark:
        return None, data
    found = re.search(rb"^(?:content-length|l)\s*:\s*(\d+)", head, re.I | re.M)
    length = int(found.group(1)) if found else 0
    if len(rest) < length:
        return None, data
    return head + mark + rest[:length], rest[length:]


class Transport:
    """One local address. A thread reads; `wait` gives each message to whoever asks for it first. `tls`: an ssl context, and the name of
    the server; or a connection that is open, of `accept_tls`."""

    def __init__(self, server, local=("127.0.0.1", 0), tcp=False, tls=None):
        tcp = tcp or tls is not None
        self.server, self.tcp, self.name = server, tcp, "tls" if tls else "tcp" if tcp else "udp"
        if isinstance(tls, ssl.SSLSocket):
            self.socket = tls
            return self._begin()
        family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
        # With it a datagram socket may be given a port that another one has.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1 if tcp or local[1] else 0)
        self.socket.bind(local)
        if tcp:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.connect(server)
        if tls:
            context, name = tls
            self.socket = context.wrap_socket(self.socket, server_hostname=name)
        self._begin()

    def _begin(self):
        self.host, self.port = self.socket.getsockname()[:2]
        self.closed_by_peer = False
        self._messages = collections.deque()
        self._news = threading.Condition()
        # An ssl object bears one thread at a time: whoever reads while another writes breaks it, and what was written is lost.
        self._turn = threading.Lock()
        self.socket.setblocking(self.name != "tls")
        self._open = True
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def address(self):
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def send(self, data, to=None):
        data = data.encode() if isinstance(data, str) else data
        if self.name == "tls":
            self._send_encrypted(data)
        elif self.tcp:
            self.socket.sendall(data)
        else:
            self.socket.sendto(data, to or self.server)

    def _send_encrypted(self, data):
        while data:
            try:
                with self._turn:
                    data = data[self.socket.send(data) :]
            except ssl.SSLWantWriteError:
                select.select([], [self.socket], [])

    def _read(self):
        buffer = b""
        # Of many phones some sockets have numbers that `select` does not take.
        news = select.poll()
        news.register(self.socket, select.POLLIN)
        while self._open:
            try:
                if not news.poll(50):
                    continue
                with self._turn:
                    data, source = (self.socket.recv(65536), self.server) if self.tcp else self.socket.recvfrom(65536)
            except ssl.SSLWantReadError:
                # A record of TLS itself.
                continue
            except (OSError, ValueError):
                return
            if not self.tcp:
                if data.strip():
                    self._take(data, source)
                continue
            if not data:
                with self._news:
                    self.closed_by_peer = True
                    self._news.notify_all()
                return
            buffer += data
            while True:
                message, buffer = frame(buffer)
                if message is None:
                    break
                self._take(message, self.server)

    def _take(self, data, source):
        with self._news:
            self._messages.append(Message(data, source))
            self._news.notify_all()

    def wait(self, wanted, seconds=5.0, what="a message"):
        """The first message that `wanted` accepts; it is taken away."""
        message = self.find(wanted, seconds)
        if message is None:
            left = [message.start for message in self._messages]
            raise Failed(f"waited {seconds:g} s for {what}; what came instead: {left}")
        return message

    def find(self, wanted, seconds):
        """As `wait`, but `None` when the time is over."""
        until = time.monotonic() + seconds
        with self._news:
            while True:
                for message in self._messages:
                    if wanted(message):
                        self._messages.remove(message)
                        return message
                left = until - time.monotonic()
                if left <= 0 or not self._news.wait(left) and time.monotonic() >= until:
                    return None

    def close(self):
        self._open = False
        if not self.tcp:
            # Whoever reads need not wait until it looks again.
            self.socket.sendto(b"", self.socket.getsockname())
        self._thread.join(1)
        self.socket.close()


def branch():
    return "z9hG4bK" + secrets.token_hex(8)


def sdp(host, port, payloads=(0, 101), direction="sendrecv", version=1):
    """An offer or answer; payload type 101 is telephone-event."""
    family = "IP6" if ":" in host else "IP4"
    names = {0: "PCMU/8000", 8: "PCMA/8000", 18: "G729/8000", 3: "GSM/8000", 13: "CN/8000", 101: "telephone-event/8000"}
    maps = "".join(f"a=rtpmap:{payload} {names[payload]}\r\n" for payload in payloads)
    events = "a=fmtp:101 0-16\r\n" if 101 in payloads else ""
    return (
        f"v=0\r\no=- 1 {version} IN {family} {host}\r\ns=-\r\nc=IN {family} {host}\r\nt=0 0\r\n"
        f"m=audio {port} RTP/AVP {' '.join(map(str, payloads))}\r\n{maps}{events}a=ptime:20\r\na={direction}\r\n"
    )


def fields_of(challenge):
    """The parameters of a challenge."""
    return {name.lower(): quoted or bare for name, quoted, bare in re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,"]+))', challenge)}


def credentials(challenge, username, password, method, uri, count=1, **overrides):
    """The value of Authorization that answers a challenge; `overrides` makes it wrong on purpose."""
    fields = fields_of(challenge) | overrides
    algorithm = fields.get("algorithm", "MD5")
    digest = hashlib.sha256 if algorithm.upper() == "SHA-256" else hashlib.md5
    hashed = lambda text: digest(text.encode()).hexdigest()
    cnonce, nc = secrets.token_hex(6), f"{count:08x}"
    secret = hashed(f"{username}:{fields['realm']}:{password}")
    response = hashed(f"{secret}:{fields['nonce']}:{nc}:{cnonce}:auth:{hashed(f'{method}:{uri}')}")
    return (
        f'Digest username="{username}", realm="{fields["realm"]}", nonce="{fields["nonce"]}", uri="{uri}", '
        f'algorithm={algorithm}, qop=auth, nc={nc}, cnonce="{cnonce}", response="{response}"'
    )


class Phone:
    """A user agent on a transport."""

    def __init__(self, server, user="phone", password="", local=("127.0.0.1", 0), tcp=False, algorithm="SHA-256", domain="dialtone", tls=None):
        self.transport = Transport(server, local, tcp, tls)
        self.user, self.password, self.algorithm, self.domain = user, password, algorithm, domain
        self._counts = collections.Counter()

    @property
    def contact(self):
        return f"<sip:{self.user}@{self.transport.address}{f';transport={self.transport.name}' if self.transport.tcp else ''}>"

    def via(self, name=None):
        return f"SIP/2.0/{self.transport.name.upper()} {self.transport.address};branch={name or branch()};rport"

    def build(self, method, uri, call_id=None, cseq=1, to=None, from_=None, headers=(), body="", via=None, content_type="application/sdp"):
        """A request as text."""
        lines = [
            f"{method} {uri} SIP/2.0",
            f"Via: {via or self.via()}",
            f"From: {from_ or f'<sip:{self.user}@{self.domain}>;tag={secrets.token_hex(4)}'}",
            f"To: {to or f'<{uri}>'}",
            f"Call-ID: {call_id or secrets.token_hex(8)}",
            f"CSeq: {cseq} {method}",
            f"Max-Forwards: 70",
        ]
        names = {header.split(":")[0].lower() for header in headers}
        if "max-forwards" in names:
            lines.pop()
        if method in ("INVITE", "REGISTER") and "contact" not in names:
            lines.append(f"Contact: {self.contact}")
        if body and "content-type" not in names:
            lines.append(f"Content-Type: {content_type}")
        lines += headers
        return "\r\n".join(lines) + f"\r\nContent-Length: {len(body.encode())}\r\n\r\n{body}"

    def exchange(self, text, seconds=5.0):
        """Sends a request and gives its final response; an INVITE that fails is acknowledged."""
        self.transport.send(text)
        return self.answer_to(text, seconds)

    def insist(self, text, tries=16):
        """As `exchange`, and sends it again every half a second, as if the network had lost it."""
        for _ in range(tries - 1):
            try:
                return self.exchange(text, 0.5)
            except Failed:
                pass
        return self.exchange(text)

    def answer_to(self, text, seconds=5.0):
        """The final response to a request that was sent."""
        request = Message(text.encode())
        final = self.transport.wait(
            lambda message: message.status >= 200 and message.call_id == request.call_id and message.cseq == request.cseq and message.method == request.method,
            seconds,
            f"the final response to {request.start}",
        )
        if request.method == "INVITE" and final.status >= 300:
            self.transport.send(ack_of_failure(request, final))
        return final

    def credentials(self, response, method, uri, **overrides):
        """Answers a 401; a nonce that comes again is counted on, as RFC 7616 s3.4 asks."""
        challenge = self.pick(response)
        nonce = fields_of(challenge)["nonce"]
        self._counts[nonce] += 1
        return "Authorization: " + credentials(challenge, self.user, self.password, method, uri, self._counts[nonce], **overrides)

    def authorized(self, method, uri, **parts):
        """Sends a request without and then with credentials: the last response, and the request's text."""
        call_id, tag = secrets.token_hex(8), secrets.token_hex(4)
        parts = {"call_id": call_id, "from_": f"<sip:{self.user}@{self.domain}>;tag={tag}"} | parts
        headers = list(parts.pop("headers", ()))
        text = self.build(method, uri, headers=headers, **parts)
        response = self.exchange(text)
        if response.status != 401:
            return response, text
        headers.append(self.credentials(response, method, uri))
        text = self.build(method, uri, headers=headers, cseq=2, **parts)
        return self.exchange(text), text

    def pick(self, response):
        """The challenge of this phone's algorithm."""
        for challenge in response.headers("www-authenticate"):
            if fields_of(challenge).get("algorithm", "MD5").upper() == self.algorithm.upper():
                return challenge
        raise Failed(f"no challenge for {self.algorithm}: {response.headers('www-authenticate')}")

    def register(self, expires=300, aor=None):
        uri = f"sip:{self.domain}"
        to = f"<sip:{aor or self.user}@{self.domain}>"
        return self.authorized("REGISTER", uri, to=to, headers=[f"Expires: {expires}"])[0]

    def invite(self, user, body, headers=()):
        """Calls; gives the call, answered or refused."""
        uri = f"sip:{user}@{self.domain}"
        call_id = secrets.token_hex(8)
        from_ = f"<sip:{self.user}@{self.domain}>;tag={secrets.token_hex(4)}"
        return Call(self, uri, call_id, from_, body, list(headers))

    def wait_invite(self, seconds=5.0):
        """The next call that comes in."""
        invite = self.transport.wait(lambda message: message.is_request and message.method == "INVITE", seconds, "an INVITE")
        return IncomingCall(self, invite)

    def close(self):
        self.transport.close()


class Dialog:
    """What both kinds of call share once there is a dialog."""

    routes = ()

    def make(self, method, headers=(), body="", cseq=None, content_type="application/sdp", via=None):
        if cseq is None:
            self.cseq += 1
            cseq = self.cseq
        return self.phone.build(
            method, self.target, self.call_id, cseq, self.remote, self.local, [*self.routes, *headers], body, via, content_type
        )

    def _exchange(self, text, seconds=5.0):
        return self.phone.exchange(text, seconds)

    def bye(self):
        return self._exchange(self.make("BYE"))

    def info(self, body, content_type):
        return self._exchange(self.make("INFO", body=body, content_type=content_type))

    def reinvite(self, body):
        """Offers anew; gives the 200, which is acknowledged."""
        response = self._exchange(self.make("INVITE", body=body))
        if response.status < 300:
            self.phone.transport.send(self.make("ACK", cseq=self.cseq))
        return response

    def wait_bye(self, seconds=5.0):
        """Waits for the peer's BYE, and answers it."""
        mine = lambda message: message.is_request and message.method == "BYE" and message.call_id == self.call_id
        bye = self.phone.transport.wait(mine, seconds, "a BYE")
        self.phone.transport.send(reply(bye, 200), bye.source)
        return bye


class Call(Dialog):
    """A call that this side places."""

    def __init__(self, phone, uri, call_id, local, body, headers):
        self.phone, self.target, self.uri, self.call_id, self.local = phone, uri, uri, call_id, local
        self.remote, self.cseq, self.body, self.headers = f"<{uri}>", 1, body, headers
        self.via = phone.via()
        self.answer = None
        self._send_invite(headers)

    def _send_invite(self, headers):
        self.request = self.make("INVITE", headers, self.body, cseq=self.cseq, via=self.via)
        self.phone.transport.send(self.request)

    def _mine(self, message):
        return message.status and message.call_id == self.call_id and message.method == "INVITE" and message.cseq == self.cseq

    def provisional(self, status, seconds=5.0):
        return self.phone.transport.wait(lambda m: self._mine(m) and m.status == status, seconds, f"a {status}")

    def final(self, seconds=5.0):
        """The final response; a challenge is answered where the phone has a password. A refusal is acknowledged."""
        while True:
            response = self.phone.transport.wait(lambda m: self._mine(m) and m.status >= 200, seconds, "a final response to INVITE")
            if response.status >= 300:
                self.phone.transport.send(ack_of_failure(Message(self.request.encode()), response))
            if response.status != 401 or not self.phone.password or self.cseq > 1:
                break
            self.cseq, self.via = 2, self.phone.via()
            self._send_invite([*self.headers, self.phone.credentials(response, "INVITE", self.uri)])
        if response.status < 300:
            self.answer = response
            self.remote, self.target = response.header("to"), response.contact_uri()
            self.routes = [f"Route: {route}" for route in reversed(response.headers("record-route"))]
        return response

    def accepted(self, seconds=5.0, body=""):
        """Waits for 200 and acknowledges it."""
        response = self.final(seconds)
        if response.status != 200:
            raise Failed(f"the call was refused: {response.start}")
        self.ack(body)
        return self

    def ack(self, body=""):
        self.phone.transport.send(self.make("ACK", body=body, cseq=self.cseq))

    def cancel(self):
        """Takes the INVITE back; gives the response to the CANCEL."""
        text = self.phone.build("CANCEL", self.uri, self.call_id, self.cseq, f"<{self.uri}>", self.local, via=self.via)
        return self._exchange(text)


class IncomingCall(Dialog):
    """A call that comes to this side."""

    def __init__(self, phone, invite):
        self.phone, self.invite, self.call_id = phone, invite, invite.call_id
        self.target, self.cseq = invite.contact_uri(), 100
        self.routes = [f"Route: {route}" for route in invite.headers("record-route")]
        self.tag = secrets.token_hex(4)
        self.local, self.remote = f"{invite.header('to')};tag={self.tag}", invite.header("from")

    def respond(self, status, body="", headers=()):
        contact = [f"Contact: {self.phone.contact}"] if status < 300 else []
        self.phone.transport.send(reply(self.invite, status, self.tag, body, [*contact, *headers]), self.invite.source)

    def accept(self, body, seconds=5.0):
        """Answers, and waits for the ACK."""
        self.respond(200, body)
        mine = lambda m: m.is_request and m.method == "ACK" and m.call_id == self.call_id
        self.phone.transport.wait(mine, seconds, "the ACK")
        return self

    def wait_cancel(self, seconds=5.0):
        """Waits for the CANCEL, and ends the INVITE by 487."""
        mine = lambda m: m.is_request and m.method == "CANCEL" and m.call_id == self.call_id
        cancel = self.phone.transport.wait(mine, seconds, "a CANCEL")
        self.phone.transport.send(reply(cancel, 200, self.tag), cancel.source)
        self.respond(487)
        return cancel


REASONS = {100: "Trying", 180: "Ringing", 183: "Session Progress", 200: "OK", 302: "Moved", 404: "Not Found", 486: "Busy Here", 487: "Request Terminated"}


def reply(request, status, tag="", body="", headers=()):
    """A response to a request, as text."""
    to = request.header("to")
    if tag and ";tag=" not in to:
        to += f";tag={tag}"
    lines = [f"SIP/2.0 {status} {REASONS.get(status, 'Refused')}"]
    lines += [f"Via: {via}" for via in request.headers("via")]
    lines += [f"Record-Route: {route}" for route in request.headers("record-route")]
    lines += [f"From: {request.header('from')}", f"To: {to}", f"Call-ID: {request.call_id}", f"CSeq: {request.header('cseq')}"]
    lines += headers
    if body:
        lines.append("Content-Type: application/sdp")
    return "\r\n".join(lines) + f"\r\nContent-Length: {len(body.encode())}\r\n\r\n{body}"


def ack_of_failure(invite, response):
    """The ACK of a refusal, of the INVITE's own transaction."""
    uri = invite.start.split()[1]
    return (
        f"ACK {uri} SIP/2.0\r\nVia: {invite.header('via')}\r\nFrom: {invite.header('from')}\r\nTo: {response.header('to')}\r\n"
        f"Call-ID: {invite.call_id}\r\nCSeq: {invite.cseq} ACK\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
