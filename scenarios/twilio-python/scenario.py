"""An application of the official package drives calls, and its RequestValidator accepts every request."""

import json
import pathlib
import socket
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lib.rtp import Rtp
from lib.scenario import Scenario, wait_for
from lib.server import ACCOUNT, AUTH_TOKEN, Server, base_config, number, trunk, user
from lib.sip import Phone, sdp

SIP, TRUNK, APP = ("127.0.0.1", 13060), "127.0.0.2", 13030
URL = f"http://127.0.0.1:{APP}"
OTHER = "AC" + "f" * 32

CONFIG = base_config(
    f"{SIP[0]}:{SIP[1]}",
    "127.0.0.1:13040",
    "13100-13299",
    more=number("+15552000", voice_url=f"{URL}/voice?tenant=7&name=J%C3%BCrgen%20K.", status_callback=f"{URL}/status?of=2000")
    + number("+15552001", voice_url=f"{URL}/broken", voice_fallback_url=f"{URL}/fallback", status_callback=f"{URL}/status")
    + number("+15552002", voice_url=f"{URL}/voice?by=get", voice_method="GET")
    + user("bob", "secret-of-bob")
    + trunk("carrier", **{"from": [f"{TRUNK}/32"]})
    + f'\n[[account]]\nsid = "{OTHER}"\nauth_token = "not-what-the-application-knows"\n'
    + number("+15552003", account=OTHER, voice_url=f"{URL}/voice", status_callback=f"{URL}/status")
    + trunk("stranger", account=OTHER, **{"from": ["127.0.0.3/32"]}),
)


class Calls:
    def __init__(self, scenario):
        self.scenario = scenario

    def start(self):
        self.log = self.scenario.folder / "requests"
        self.log.touch()
        self.scenario.start([sys.executable, self.scenario.here / "app.py", APP, self.log, AUTH_TOKEN], log="app.log")
        wait_for(self._application_answers, 10, "the application")
        self.server = Server(self.scenario, CONFIG).start()
        self.bob = Phone(SIP, "bob", "secret-of-bob")
        self.scenario.equal(self.bob.register().status, 200, "REGISTER of bob")

    def _application_answers(self):
        try:
            socket.create_connection(("127.0.0.1", APP), 1).close()
            return True
        except OSError:
            return False

    def requests(self, path=None):
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in lines if path in (None, line["path"])]

    def request(self, path, count=1, seconds=6):
        """Waits for the request to a path, and gives all its parameters."""
        wait_for(lambda: len(self.requests(path)) >= count, seconds, f"request {count} to {path}")
        found = self.requests(path)[count - 1]
        return found | {"params": found["query"] | found["form"]}

    def whole_call(self):
        """Say, Gather by RFC 4733, Redirect by GET, Gather by INFO, Dial to a registered user, callbacks."""
        equal, check = self.scenario.equal, self.scenario.check
        phone, rtp, far = Phone(SIP, "+15559000", local=(TRUNK, 0)), Rtp(), Rtp()
        call = phone.invite("+15552000", sdp("127.0.0.1", rtp.port), headers=["X-Color: blue"]).accepted()
        rtp.remote = call.answer.media()
        first = self.request("/voice")
        sid = first["params"]["CallSid"]
        wanted = {
            "AccountSid": ACCOUNT, "From": "+15559000", "To": "+15552000", "Caller": "+15559000", "Called": "+15552000", "CallStatus": "ringing",
            "Direction": "inbound", "ApiVersion": "2010-04-01", "SipHeader_X-Color": "blue", "SipSourceIp": TRUNK, "SipCallId": call.call_id,
        }
        equal({name: first["form"].get(name) for name in wanted}, wanted, "parameters of the first request")
        equal(first["query"], {"tenant": "7", "name": "Jürgen K."}, "the customer's own query")

        wait_for(lambda: max(map(abs, rtp.heard()[-4000:] or [0])) > 1000, 4, "speech of <Say>")
        rtp.press("1234")
        digits = self.request("/digits")
        equal((digits["form"].get("Digits"), digits["method"], digits["query"]), ("1234", "POST", {"step": "1", "note": "a b"}), "Gather by RFC 4733")
        again = self.request("/again")
        equal((again["method"], again["query"].get("from"), again["query"].get("q"), again["query"].get("CallSid")), ("GET", "digits", "é", sid), "Redirect by GET")

        for digit in "42#":
            equal(call.info(f"Signal={digit}\r\nDuration=160\r\n", "application/dtmf-relay").status, 200, "INFO")
        account = self.request("/account")
        equal((account["method"], account["query"].get("Digits"), account["query"].get("FinishedOnKey")), ("GET", "42", "#"), "Gather by INFO")

        incoming = self.bob.wait_invite()
        incoming.respond(180)
        self.request("/child", 2)
        incoming.accept(sdp("127.0.0.1", far.port))
        far.remote = incoming.invite.media()
        rtp.play(b"\x80\x00" * 80 * 10, wait=False)
        wait_for(lambda: max(map(abs, far.heard()[-1600:] or [0])) > 1000, 3, "the caller's audio at bob")
        equal(incoming.bye().status, 200, "bob's BYE")
        dialled = self.request("/dialled")
        equal(dialled["form"].get("DialCallStatus"), "completed", "DialCallStatus")
        call.wait_bye()

        self.request("/child", 4)
        child = self.requests("/child")
        steps = [(one["form"]["CallStatus"], one["form"]["SequenceNumber"]) for one in child]
        equal(steps, [("initiated", "0"), ("ringing", "1"), ("in-progress", "2"), ("completed", "3")], "callbacks of bob's leg, in order")
        equal({one["form"]["ParentCallSid"] for one in child}, {sid}, "ParentCallSid")
        equal({one["form"]["CallSid"] for one in child}, {dialled["form"]["DialCallSid"]}, "the child's CallSid")
        status = self.request("/status")
        equal((status["form"]["CallSid"], status["form"]["CallStatus"], status["form"]["SequenceNumber"]), (sid, "completed", "0"), "the number's callback")
        mine = [one for one in self.requests() if (one["query"] | one["form"]).get("CallSid") == sid and one["path"] not in ("/voice", "/status", "/child")]
        check(len(mine) == 4 and all(one["cookie"] == "session=blue-17" for one in mine), f"cookies: {[one['cookie'] for one in mine]}")
        record = self.server.ended(call.call_id)
        equal((record["status"], record["completed"]["ended_by"]), ("completed", "application"), "the record")
        for part in (phone, rtp, far):
            part.close()
        return f"{len(self.requests())} requests"

    def fallback(self):
        """500 leads to the fallback URL, which is told why."""
        phone = Phone(SIP, "+15559000", local=(TRUNK, 0))
        call = phone.invite("+15552001", sdp("127.0.0.1", 13400)).accepted()
        fallback = self.request("/fallback")
        self.scenario.equal(fallback["form"].get("ErrorCode"), "11200", "ErrorCode")
        self.scenario.equal(fallback["form"].get("ErrorUrl"), f"{URL}/broken", "ErrorUrl")
        call.wait_bye()
        record = self.server.ended(call.call_id)
        notices = [event["code"] for event in record["events"] if event["type"] == "noticed"]
        self.scenario.check(11200 in notices, f"notices: {notices}")
        phone.close()

    def by_get(self):
        phone, rtp = Phone(SIP, "+15559000", local=(TRUNK, 0)), Rtp()
        call = phone.invite("+15552002", sdp("127.0.0.1", rtp.port)).accepted()
        voice = self.request("/voice", 2)
        self.scenario.equal((voice["method"], voice["query"]["by"], voice["query"]["CallStatus"]), ("GET", "get", "ringing"), "the document by GET")
        self.scenario.equal(voice["cookie"], "", "cookies of another call")
        self.scenario.equal(call.bye().status, 200, "BYE")
        self.server.ended(call.call_id)
        phone.close()
        rtp.close()

    def wrong_token(self):
        """The application refuses what is signed with another token."""
        phone = Phone(SIP, "+15559000", local=("127.0.0.3", 0))
        before = len(self.requests())
        call = phone.invite("+15552003", sdp("127.0.0.1", 13400))
        response = call.final(8)
        if response.status == 200:
            call.ack()
            call.wait_bye(8)
        record = self.server.ended(call.call_id, 8)
        notices = [event["code"] for event in record["events"] if event["type"] == "noticed"]
        self.scenario.check(11200 in notices, f"notices: {notices}")
        wait_for(lambda: len(self.requests()) >= before + 2, 4, "document and callback with the wrong token")
        self.scenario.equal([one["valid"] for one in self.requests()[before:]], [False, False], "signatures with another token")
        self.refused = 2
        phone.close()

    def signatures(self):
        """Every request but those of the wrong token was accepted, and none would have been after a change."""
        good = [one for one in self.requests() if one["valid"]]
        self.scenario.equal(len(self.requests()) - len(good), self.refused, "requests that the validator refused")
        self.scenario.check(not any(one["forged"] for one in good), "a changed request passes the validator")
        tokens = [one["token"] for one in good]
        self.scenario.check(all(tokens) and len(set(tokens)) == len(tokens), "idempotency tokens")
        self.scenario.equal({one["agent"] for one in good}, {"TwilioProxy/1.1"}, "User-Agent")
        self.accepted = len(good)
        methods = sorted({one["method"] for one in good})
        self.scenario.equal(methods, ["GET", "POST"], "methods")
        self.bob.close()
        self.scenario.equal(self.server.stop(), 0, "exit code")


def main():
    with Scenario(__file__) as scenario:
        calls = Calls(scenario)
        for part in (calls.start, calls.whole_call, calls.fallback, calls.by_get, calls.wrong_token, calls.signatures):
            scenario.step(part.__name__.replace("_", " "), part)
        scenario.summary = f"RequestValidator accepted {getattr(calls, 'accepted', 0)} requests and refused {getattr(calls, 'refused', 0)} of a wrong token"


main()
