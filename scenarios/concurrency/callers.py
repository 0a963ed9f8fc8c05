"""Callers who call without pause, at one edge after another, and what each knows of when it had a call."""

import collections
import random
import threading
import time

from lib.sip import Message, Phone, ack_of_failure, reply, sdp

# For the final response to an INVITE, and for the answer to a BYE.
PATIENCE, BYE_PATIENCE = 3.0, 0.5
# A call in so many has a BYE too many.
TWICE = 7
WANTED = {
    "admitted", "refused with 503", "ended with 200", "told of another edge", "told to come again", "BYE too many: 481",
}
# Of edges that die or stand still while they are asked.
IN_TROUBLE = {"not answered", "answered late", "ended with 481", "ended by the server", "BYE not answered", "BYE too many: not answered"}


class Caller(threading.Thread):
    """Has one call at a time. It has it from the 200 until it hangs up, or the server does."""

    def __init__(self, crowd, number):
        super().__init__(daemon=True)
        self.crowd, self.number = crowd, number
        self.phone = Phone(crowd.edges[0].sip, f"+1555610{number:04}")
        self.random = random.Random(number)
        self.call, self.since, self.given_up = None, None, {}

    def run(self):
        turn = self.number
        while self.crowd.is_running:
            turn += 1
            if self.begin(self.crowd.edges[turn % len(self.crowd.edges)]):
                self.listen(self.random.uniform(*self.crowd.hold))
                self.end()
            else:
                self.listen(self.random.uniform(*self.crowd.pause))
        # What comes late is ended too.
        self.listen(PATIENCE if self.given_up else 0.1)
        self.phone.close()

    def begin(self, edge):
        """Whether it has a call."""
        self.phone.transport.server = edge.sip
        call = self.phone.invite(self.crowd.called, sdp("127.0.0.1", 9))
        answer = self.listen(PATIENCE, lambda message: message.call_id == call.call_id and message.method == "INVITE" and message.status >= 200)
        if answer is None:
            self.crowd.outcomes["not answered"] += 1
            self.given_up[call.call_id] = call
            return False
        if answer.status != 200:
            self.phone.transport.send(ack_of_failure(Message(call.request.encode()), answer))
            self.crowd.outcomes[f"refused with {answer.status}"] += 1
            self.crowd.outcomes["told to come again"] += bool(answer.header("retry-after"))
            return False
        self.crowd.outcomes["admitted"] += 1
        self.answered(call, answer)
        self.call, self.since = call, answer.at
        return True

    def answered(self, call, answer):
        call.remote, call.target, call.edge = answer.header("to"), answer.contact_uri(), self.phone.transport.server
        call.ack()

    def end(self):
        """Hangs up, if the server has not, and now and then says it again."""
        if self.call is None:
            return
        call, edge = self.call, self.call.edge
        self.over(time.monotonic())
        status = self.bye(call, call.make("BYE"), edge)
        self.crowd.outcomes[f"ended with {status}" if status else "BYE not answered"] += 1
        if status == 200 and self.random.randrange(TWICE) == 0:
            status = self.bye(call, call.make("BYE"), edge)
            self.crowd.outcomes[f"BYE too many: {status or 'not answered'}"] += 1

    def over(self, at):
        self.crowd.intervals.append((self.since, at))
        self.call = None

    def bye(self, call, text, edge):
        """Asks the edge that has the call, twice as a datagram may be lost, then the others; the status."""
        cseq = Message(text.encode()).cseq
        mine = lambda message: message.call_id == call.call_id and message.method == "BYE" and message.cseq == cseq
        others = [one.sip for one in self.crowd.edges if one.sip != edge]
        for server in (edge, edge, *others):
            self.phone.transport.send(text, server)
            answer = self.listen(BYE_PATIENCE, mine)
            if answer is not None:
                return answer.status
        return None

    def listen(self, seconds, wanted=None):
        """Does what the server asks meanwhile. The message that is wanted, or `None` when the time or the call is over."""
        until, call = time.monotonic() + seconds, self.call
        while call is self.call:
            message = self.phone.transport.find(lambda _: True, max(0.0, until - time.monotonic()))
            if message is None:
                return None
            if message.is_request:
                self.asked(message)
            elif wanted and wanted(message):
                return message
            elif message.method == "INVITE" and message.status == 200:
                self.came_late(message)
        return None

    def asked(self, request):
        """Another edge says that it has the call, or the server hangs up. Of calls that are over there are none any more."""
        if request.method == "ACK":
            return
        if self.call is None or request.call_id != self.call.call_id:
            return self.phone.transport.send(reply(request, 481), request.source)
        if request.method == "BYE":
            self.crowd.outcomes["ended by the server"] += 1
            self.phone.transport.send(reply(request, 200), request.source)
            return self.over(request.at)
        self.crowd.outcomes["told of another edge"] += 1
        body = sdp("127.0.0.1", 9, version=2)
        self.phone.transport.send(reply(request, 200, body=body, headers=[f"Contact: {self.phone.contact}"]), request.source)
        self.call.target, self.call.edge = request.contact_uri(), request.source

    def came_late(self, answer):
        """It had not waited so long. Until it says so this is a call as any other."""
        call = self.given_up.pop(answer.call_id, None)
        if call is None:
            # Its ACK was lost.
            return self.call and answer.call_id == self.call.call_id and self.call.ack()
        self.crowd.outcomes["answered late"] += 1
        self.phone.transport.server = answer.source
        self.answered(call, answer)
        self.crowd.intervals.append((answer.at, time.monotonic()))
        self.phone.transport.send(call.make("BYE"), answer.source)


class Crowd:
    """So many callers of one number. `hold` and `pause` are each from and to how many seconds."""

    def __init__(self, edges, called, count, hold, pause):
        self.edges, self.called, self.hold, self.pause = edges, called, hold, pause
        self.is_running, self.outcomes, self.intervals = True, collections.Counter(), []
        self.began = time.monotonic()
        self.callers = [Caller(self, number) for number in range(count)]
        for caller in self.callers:
            caller.start()

    def stop(self):
        """Everybody hangs up and goes."""
        self.is_running, self.ended = False, time.monotonic()
        for caller in self.callers:
            caller.join(30)
        return [caller for caller in self.callers if caller.is_alive()]

    def most_at_once(self):
        """How many calls there were at the busiest moment."""
        changes = sorted([(since, 1) for since, _ in self.intervals] + [(until, -1) for _, until in self.intervals])
        most = held = 0
        for _, change in changes:
            held += change
            most = max(most, held)
        return most

    def mean(self, since, until):
        """How many calls there were on average in that time."""
        shared = (min(end, until) - max(begin, since) for begin, end in self.intervals)
        return sum(part for part in shared if part > 0) / (until - since)

    def strange(self, in_trouble=()):
        """Outcomes that should not be."""
        return {what: count for what, count in self.outcomes.items() if count and what not in WANTED | set(in_trouble)}
