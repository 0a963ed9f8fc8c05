"""A carrier at which everybody is busy."""

import threading

from .sip import Phone


class BusyCarrier(threading.Thread):
    """Answers whoever comes to `address` with 486; who was called, in order."""

    def __init__(self, server, address):
        super().__init__(daemon=True)
        self.phone, self.called, self.is_open = Phone(server, "far", local=address), [], True

    def run(self):
        while self.is_open:
            try:
                incoming = self.phone.wait_invite(0.5)
            except Exception:
                continue
            self.called.append(incoming.invite.start.split(":")[1].split("@")[0])
            incoming.respond(486)
