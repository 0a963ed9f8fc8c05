"""The accounts of the scenario, their limits, and what is asked and done of them in all parts."""

import time

import requests

from lib.server import ACCOUNT, AUTH_TOKEN, number, trunk
from lib.sip import sdp

SIP, HTTP, APP, FAR = ("127.0.0.1", 17060), "127.0.0.1:17040", 17030, ("127.0.0.1", 17069)
ECHO, SLOW, LATER, ROOM, USUAL, URGENT, FAX = (f"+1555600000{digit}" for digit in range(7))
DELAYED, PREEMPTED, MEETING, LINES, ASKING = ("AC" + letter * 32 for letter in "12345")
TOKEN = "of-an-account-with-limits"
# What the whole server may have, and how long a call of DELAYED waits.
ALL, WAIT = 8, 1.2
# What an account may have at two edges, and at four.
SHARED, MANY = 6, 50


def account(sid, limits):
    return f'\n[[account]]\nsid = "{sid}"\nauth_token = "{TOKEN}"\nlimits = {{ {limits} }}\n'


def phones(sid, host, name="phones", **keys):
    """Whoever calls from this address calls a number of that account."""
    return trunk(name, account=sid, **{"from": [host]}, **keys)


def accounts(limit):
    """Those whose calls come to one server, or to several. The first line belongs to the account that every configuration has."""
    return (
        f"limits = {{ calls = {limit} }}\n"
        + phones(ACCOUNT, "127.0.0.1", uri=f"sip:{FAR[0]}:{FAR[1]}", numbers=[ECHO])
        + number(ECHO, "<Echo/>")
        + number(SLOW, voice_url=f"http://127.0.0.1:{APP}/")
        + account(DELAYED, f'calls = 1, when_full = "delay", wait = "{WAIT * 1000:.0f}ms"')
        + phones(DELAYED, "127.0.0.2")
        + number(LATER, "<Echo/>", account=DELAYED)
    )


OTHERS = (
    account(PREEMPTED, 'calls = 1, when_full = "preempt"')
    + phones(PREEMPTED, "127.0.0.3")
    + number(USUAL, "<Echo/>", account=PREEMPTED)
    + number(URGENT, "<Echo/>", account=PREEMPTED, priority=5)
    + account(MEETING, "conference_participants = 1")
    + phones(MEETING, "127.0.0.4")
    + number(ROOM, "<Dial><Conference>all</Conference></Dial><Pause length='9'/>", account=MEETING)
    + account(LINES, "")
    + phones(LINES, "127.0.0.5", "narrow", calls=2)
    + phones(LINES, "127.0.0.6", "wide")
    + number(FAX, "<Echo/>", account=LINES)
    + account(ASKING, "api = 2")
)


def shown(http, sid=ACCOUNT, token=AUTH_TOKEN, what="/Calls"):
    """What `Concurrency` says."""
    return requests.get(f"http://{http}/2010-04-01/Accounts/{sid}/Concurrency{what}.json", auth=(sid, token), timeout=5).json()


def in_use(http, sid=ACCOUNT, token=AUTH_TOKEN):
    return shown(http, sid, token)["current_value"]


def hang_up(scenario, calls):
    for call in calls:
        scenario.equal(call.bye().status, 200, "BYE")


def take_back(scenario, phone, called, delays):
    """A call after another that is taken back so soon; how many were answered, and hung up then."""
    answered = 0
    for delay in delays:
        call = phone.invite(called, sdp("127.0.0.1", 9))
        time.sleep(delay)
        cancelled, final = call.cancel().status, call.final().status
        scenario.check((cancelled, final) in ((200, 487), (200, 200), (481, 200)), f"answers to a CANCEL and its INVITE: {cancelled}, {final}")
        if final == 200:
            answered += 1
            call.ack()
            hang_up(scenario, [call])
    return answered


def ring(phone, called, count):
    """So many calls at once: those that are answered, and the refusals of the others."""
    calls = [phone.invite(called, sdp("127.0.0.1", 9)) for _ in range(count)]
    answers = [call.final() for call in calls]
    answered = [call for call, answer in zip(calls, answers) if answer.status == 200]
    for call in answered:
        call.ack()
    return answered, [answer for answer in answers if answer.status != 200]
