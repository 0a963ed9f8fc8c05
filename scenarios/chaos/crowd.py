"""Many callers at once, who talk and hear all the time: one socket for their signalling, one thread for their sound."""

import select
import socket
import struct
import threading
import time

from lib.scenario import Failed
from lib.sip import Phone, reply, sdp

FRAME_S = 0.02


class Caller:
    def __init__(self, kind, host, number):
        self.kind, self.number = kind, number
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
        self.socket.bind((host, 0))
        self.socket.setblocking(False)
        self.host, self.port = self.socket.getsockname()
        self.remote, self.call, self.is_over, self.offered = None, None, False, 0
        self.sequence = 0
        # When packets came.
        self.times = []

    def largest_gap(self, since, until):
        """Seconds between two packets that came in that time, or nothing to its end."""
        times = [since, *(at for at in list(self.times) if since < at < until), until]
        return max(later - earlier for earlier, later in zip(times, times[1:]))


class Crowd:
    def __init__(self, host):
        self.host, self.callers, self.told = host, [], 0
        self.phone = Phone((host, 9), "+15556100001", local=(host, 0))
        self.is_running = True
        self.threads = [threading.Thread(target=run, daemon=True) for run in (self._sound, self._signalling)]
        for thread in self.threads:
            thread.start()

    def call(self, edge, kind, called):
        caller = Caller(kind, self.host, len(self.callers))
        self.phone.transport.server = edge.sip
        caller.call = self.phone.invite(called, sdp(caller.host, caller.port)).accepted()
        caller.remote, caller.edge = caller.call.answer.media(), edge.sip
        self.callers.append(caller)
        return caller

    def _sound(self):
        """Each says the same 20 ms again and again: what matters is when something comes."""
        due = time.monotonic()
        poll, known = select.epoll(), {}
        while self.is_running:
            for caller in list(self.callers):
                if caller.socket.fileno() not in known and not caller.is_over:
                    known[caller.socket.fileno()] = caller
                    poll.register(caller.socket.fileno(), select.EPOLLIN)
                if caller.is_over:
                    continue
                caller.sequence += 1
                head = struct.pack("!BBHII", 0x80, 0, caller.sequence & 0xFFFF, caller.sequence * 160, 0x1000 + caller.number)
                try:
                    caller.socket.sendto(head + b"\xff" * 160, caller.remote)
                except OSError:
                    pass
            due += FRAME_S
            while (left := due - time.monotonic()) > 0:
                for number, _ in poll.poll(left):
                    self._hear(known[number])

    def _hear(self, caller):
        try:
            while True:
                data = caller.socket.recv(2048)
                if len(data) > 12 and not 192 <= data[1] <= 223:
                    caller.times.append(time.monotonic())
        except OSError:
            pass

    def _signalling(self):
        """Whoever is offered something new answers, and goes on there; who is hung up on has lost its call."""
        mine = lambda message: message.is_request and message.method in ("INVITE", "BYE")
        while self.is_running:
            request = self.phone.transport.find(mine, 0.05)
            if request is None:
                continue
            caller = next((it for it in list(self.callers) if it.call and it.call.call_id == request.call_id), None)
            if caller is None or caller.is_over:
                self.phone.transport.send(reply(request, 481), request.source)
                continue
            self.told += 1
            if request.method == "BYE":
                caller.is_over = True
                self.phone.transport.send(reply(request, 200), request.source)
                continue
            body = sdp(caller.host, caller.port, version=2 + self.told)
            self.phone.transport.send(reply(request, 200, body=body, headers=[f"Contact: {self.phone.contact}"]), request.source)
            # One that comes again says nothing new; another edge counts on from where the one before was.
            if request.cseq > caller.offered:
                caller.offered, caller.remote = request.cseq, request.media()
                caller.call.target, caller.edge = request.contact_uri(), request.source

    def talking(self):
        """Those who have heard something a moment ago."""
        now = time.monotonic()
        return [caller for caller in self.callers if not caller.is_over and caller.times and now - caller.times[-1] < 0.5]

    def hang_up(self):
        """Everybody hangs up; how many were answered with 200."""
        fine = 0
        for caller in self.callers:
            if caller.is_over:
                continue
            caller.is_over = True
            self.phone.transport.server = caller.edge
            try:
                fine += caller.call.bye().status == 200
            except Failed:
                pass
        return fine

    def close(self):
        self.is_running = False
        for thread in self.threads:
            thread.join(1)
        self.phone.close()
        for caller in self.callers:
            caller.socket.close()
