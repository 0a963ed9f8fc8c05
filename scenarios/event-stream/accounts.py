"""The accounts, their callers, and what the events of a call must be."""

import collections
import hashlib
import json
import warnings

from twilio.jwt.client import ClientCapabilityToken

from lib.server import ACCOUNT, AUTH_TOKEN, number, trunk
from lib.sip import Phone, sdp

# The secrets of the scenarios are shorter than the package likes.
warnings.filterwarnings("ignore", module="jwt")

SIP, HTTP, APP = ("127.0.0.1", 19060), "127.0.0.1:19040", 19030
ECHO, LOUD, KEYS = "+15558000001", "+15558000002", "+15558000004"
CALLER = "+15556100001"
# The account whose token becomes another, the one that is suspended, the one to which nobody listens at first, and those that have calls at the same time.
CHANGED, STOPPED, LATE = ("AC" + letter * 32 for letter in "c51")
CROWD = ["AC" + f"{at:032}" for at in range(1, 11)]
MANY = ["AC" + f"{at:032}" for at in range(1, 101)]
TOKEN, OTHER_TOKEN = "of-an-account-with-streams-4f1b", "of-the-same-account-later-9a02"
# A document in which so much is wrong that a call to it tells much at once.
FAULTS = 50
WRONG = "<Echo/>" + "<Pause length='0'/>" * FAULTS
STEPS = ["call.initiated", "call.answered", "call.verb-started", "call.completed"]


def account(sid, token=TOKEN):
    return f'\n[[account]]\nsid = "{sid}"\nauth_token = "{token}"\n'


def with_callers(sid, host, called, token=TOKEN):
    """An account with a number that echoes, called from an address of its own."""
    return account(sid, token) + trunk("phones", account=sid, **{"from": [host]}) + number(called, "<Echo/>", account=sid)


def own(at):
    """Where the callers of an account of the crowd are, and what they call."""
    return f"127.0.1.{at + 1}", f"+1555810{at:04}"


def accounts(crowd=CROWD):
    """Those of one server or of several. The first lines belong to the account that every configuration has."""
    return (
        trunk("phones", **{"from": ["127.0.0.1"]})
        + number(ECHO, "<Echo/>")
        + number(LOUD, WRONG)
        + number(KEYS, "<Gather numDigits='2' timeout='9'/>")
        + "".join(with_callers(sid, *own(at)) for at, sid in enumerate(crowd))
    )


def token(sid=ACCOUNT, secret=AUTH_TOKEN, ttl=3600, **filters):
    """As a customer's server makes it with the official package."""
    capability = ClientCapabilityToken(sid, secret, ttl=ttl)
    capability.allow_event_stream(**filters)
    return capability.to_jwt()


class Caller:
    """Whoever calls from an address. `events`: how many its calls tell of."""

    def __init__(self, scenario, sip, host="127.0.0.1", number=CALLER):
        self.scenario, self.phone, self.events = scenario, Phone(sip, number, local=(host, 0)), 0

    def ring(self, called=ECHO):
        self.events += len(STEPS) + (FAULTS if called == LOUD else 0)
        return self.phone.invite(called, sdp("127.0.0.1", 9))

    def call(self, called=ECHO):
        return self.ring(called).accepted()

    def calls(self, count, called=ECHO):
        """So many calls, one after another."""
        for _ in range(count):
            self.hang_up(self.call(called))

    def hang_up(self, *calls):
        for call in calls:
            self.scenario.equal(call.bye().status, 200, "BYE")

    def close(self):
        self.phone.close()


def short(event):
    """`call.answered` of `com.twilio.voice.status-callback.call.answered`."""
    return ".".join(event["type"].split(".")[-2:])


def by_call(events):
    """The events of each call, in the order in which they came."""
    calls = collections.defaultdict(list)
    for event in events:
        calls[event["callsid"]].append(event)
    return calls


def broken(events):
    """What is wrong with the chains of calls, by what is written of them: nothing of the server's is used."""
    wrong = []
    for call, told in by_call(events).items():
        before = ""
        for number, event in enumerate(told):
            rest = {name: value for name, value in event.items() if name not in ("chain", "sequence")}
            text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            before = hashlib.sha256((before + text).encode()).hexdigest()
            if (event["callsequence"], event["chain"]) != (number, before):
                wrong.append((call, number))
                break
    return wrong


def steps_of(told):
    """What there was of a call, but for silence: no caller says anything here."""
    return [step for event in told if (step := short(event)) != "call.silent"]


def whole(scenario, events, calls, steps=STEPS):
    """So many calls, each with all its steps in their order, and unbroken chains."""
    told = by_call(events)
    scenario.equal(len(told), calls, "calls that were told of")
    scenario.equal([(call, seen) for call, of in told.items() if (seen := steps_of(of)) != steps], [], f"calls whose steps are not {steps}")
    scenario.equal(broken(events), [], "chains that are broken")


def contiguous(scenario, numbers, first):
    """The numbers go up by one, from that one on."""
    wrong = next(((at, number) for at, number in enumerate(numbers) if number != first + at), None)
    scenario.check(wrong is None, f"numbers of {len(numbers)} events, from {first} on: {wrong and wrong[0]} of them in order, then {wrong and wrong[1]}")
