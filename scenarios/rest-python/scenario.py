"""A program of the official package makes and changes calls over the REST API."""

import http.server
import pathlib
import sys
import threading
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import openapi_spec_validator
import requests
from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.request_validator import RequestValidator
from twilio.rest import Client
from twilio.twiml.messaging_response import MessagingResponse
from twilio.twiml.voice_response import Dial, VoiceResponse

from lib.rtp import Rtp
from lib.scenario import Scenario, wait_for
from lib.server import ACCOUNT, AUTH_TOKEN, Server, base_config, number, trunk, user
from lib.sip import Phone, reply, sdp
from kills import Kills
from resources import Resources

SIP, HTTP, APP, TRUNK = ("127.0.0.1", 10060), "127.0.0.1:10040", 10030, "127.0.0.2"
URL = f"http://127.0.0.1:{APP}"
OTHER, MINE = "AC" + "f" * 32, "+15552000"
FAR = "127.0.0.1", 10069

CONFIG = base_config(
    f"{SIP[0]}:{SIP[1]}",
    HTTP,
    "10100-10299",
    more=number(MINE, voice_url=f"{URL}/dial")
    + user("bob", "secret-of-bob")
    + trunk("carrier", **{"from": [f"{TRUNK}/32"]}, uri=f"sip:{FAR[0]}:{FAR[1]}", prefixes=["+15554"])
    + f'\n[[account]]\nsid = "{OTHER}"\nauth_token = "of-the-other"\n',
)


class Application(http.server.ThreadingHTTPServer):
    """The program's web server: a document for each path, and a list of what it was asked."""

    def __init__(self):
        self.requests, self.validator = [], RequestValidator(AUTH_TOKEN)
        super().__init__(("127.0.0.1", APP), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def to(self, path, **wanted):
        found = [form for at, form in list(self.requests) if at == path]
        return [form for form in found if all(form.get(name) == value for name, value in wanted.items())]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = dict(urllib.parse.parse_qsl(body, keep_blank_values=True))
        form["valid"] = self.server.validator.validate(URL + self.path, form, self.headers.get("X-Twilio-Signature", ""))
        response = VoiceResponse()
        if self.path == "/sms":
            response = MessagingResponse()
            response.message(f"You said: {form['Body']}")
        elif self.path == "/dial":
            dial = Dial(action="/dialled")
            dial.client("bob")
            response.append(dial)
        else:
            # Speech answers a call that comes in; a pause does not.
            if self.path not in ("/first", "/second"):
                response.say("Here.")
            response.pause(length=30)
        self.server.requests.append((self.path, form))
        text = str(response).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


class Rest:
    def __init__(self, scenario):
        self.scenario = scenario

    def start(self):
        self.app = Application()
        self.server = Server(self.scenario, CONFIG).start()
        self.client = self.login(ACCOUNT, AUTH_TOKEN)
        self.bob = Phone(SIP, "bob", "secret-of-bob")
        self.scenario.equal(self.bob.register().status, 200, "REGISTER of bob")

    @staticmethod
    def login(sid, token):
        client = Client(sid, token)
        client.api.base_url = f"http://{HTTP}"
        return client

    def refused(self, code, ask):
        """The error number that the SDK gives; list errors have it in their text only."""
        try:
            ask()
        except TwilioRestException as error:
            return self.scenario.equal(error.code, code, f"error of {error.uri}")
        except TwilioException as error:
            return self.scenario.check(f'"code":{code}' in str(error), f"{code} in {error}")
        self.scenario.check(False, f"{code} is not raised")

    def becomes(self, sid, status, seconds=6):
        wait_for(lambda: self.client.calls(sid).fetch().status == status, seconds, f"{sid} to be {status}")
        return self.client.calls(sid).fetch()

    def whole_call(self):
        """Queued, rung, answered, redirected by URL and by TwiML, ended: as the program sees it, as bob hears it, as callbacks tell it."""
        equal, check = self.scenario.equal, self.scenario.check
        rtp = Rtp()
        call = self.client.calls.create(
            to="client:bob", from_=MINE, url=f"{URL}/first", status_callback=f"{URL}/status",
            status_callback_event=["initiated", "ringing", "answered", "completed"],
        )
        equal((call.status, call.direction, call.to, call._from), ("queued", "outbound-api", "client:bob", MINE), "what create gives")
        incoming = self.bob.wait_invite()
        incoming.respond(180)
        self.becomes(call.sid, "ringing")
        equal(self.app.to("/first"), [], "a document is asked for only after the answer")
        incoming.accept(sdp("127.0.0.1", rtp.port))
        rtp.remote = incoming.invite.media()
        wait_for(lambda: self.app.to("/first"), 5, "the first document")
        first = self.app.to("/first")[0]
        equal((first["CallSid"], first["CallStatus"], first["Direction"]), (call.sid, "in-progress", "outbound-api"), "parameters")
        self.becomes(call.sid, "in-progress")

        self.client.calls(call.sid).update(url=f"{URL}/second")
        wait_for(lambda: self.app.to("/second"), 5, "the second document")
        self.client.calls(call.sid).update(twiml="<Response><Say>You have been redirected.</Say><Pause length='30'/></Response>")
        rtp.play(b"\xff" * 8000, wait=False)
        wait_for(lambda: max(map(abs, rtp.heard()[-4000:] or [0])) > 1000, 5, "speech of the document in the update")
        self.refused(21220, lambda: self.client.calls(call.sid).update(status="canceled"))
        self.client.calls(call.sid).update(status_callback=f"{URL}/instead")
        equal(self.client.calls(call.sid).update(status="completed").status, "completed", "what update gives")
        incoming.wait_bye()
        done = self.becomes(call.sid, "completed")
        check(int(done.duration) >= 1 and done.end_time >= done.start_time, f"duration {done.duration}, {done.start_time} to {done.end_time}")
        self.refused(21220, lambda: self.client.calls(call.sid).update(status="completed"))

        wait_for(lambda: self.app.to("/instead", CallSid=call.sid), 5, "the callback of the end, where the change sends it")
        steps = [(one["CallStatus"], one["SequenceNumber"]) for path in ("/status", "/instead") for one in self.app.to(path, CallSid=call.sid)]
        equal(steps, [("initiated", "0"), ("ringing", "1"), ("in-progress", "2"), ("completed", "3")], "callbacks in order")
        rtp.close()

    def referred(self):
        """The phone is asked to call somebody else; what it tells of that is told to the action."""
        rtp, outcomes = Rtp(), []
        document = f"<Response><Refer action='{URL}/referred'><Sip>sip:carol@pbx.example.com?X-Id=7</Sip></Refer></Response>"
        for line in ("SIP/2.0 200 OK", "SIP/2.0 486 Busy Here", None):
            call = self.client.calls.create(to="client:bob", from_=MINE, twiml=document, caller_id="+15552000")
            incoming = self.bob.wait_invite()
            incoming.accept(sdp("127.0.0.1", rtp.port))
            refer = self.bob.transport.wait(lambda m: m.is_request and m.method == "REFER" and m.call_id == incoming.call_id, 5, "a REFER")
            self.scenario.equal((refer.header("refer-to"), refer.header("x-id")), ("<sip:carol@pbx.example.com>", "7"), "what the REFER asks for")
            self.bob.transport.send(reply(refer, 202 if line else 603), refer.source)
            if line:
                tells = ["Event: refer", "Subscription-State: terminated;reason=noresource"]
                told = incoming._exchange(incoming.make("NOTIFY", headers=tells, body=line, content_type="message/sipfrag;version=2.0"))
                self.scenario.equal(told.status, 200, "the answer to NOTIFY")
            wait_for(lambda: self.app.to("/referred", CallSid=call.sid), 5, "the action")
            form, = self.app.to("/referred", CallSid=call.sid)
            outcomes.append([form.get(name) for name in ("ReferCallStatus", "ReferSipResponseCode", "NotifySipResponseCode")])
            self.client.calls(call.sid).update(status="completed")
            incoming.wait_bye()
        rtp.close()
        self.scenario.equal(outcomes, [["completed", "202", "200"], ["busy", "202", "486"], ["failed", "603", None]], "what the action is told")

    def failures(self):
        """Busy, no answer, taken back, and nobody there."""
        equal = self.scenario.equal
        call = self.client.calls.create(to="client:bob", from_=MINE, twiml="<Response/>")
        self.bob.wait_invite().respond(486)
        self.becomes(call.sid, "busy")

        call = self.client.calls.create(to="client:bob", from_=MINE, twiml="<Response/>", timeout=1)
        incoming = self.bob.wait_invite()
        incoming.respond(180)
        incoming.wait_cancel()
        equal(self.becomes(call.sid, "no-answer").duration, "0", "duration of a call without answer")

        call = self.client.calls.create(to="client:bob", from_=MINE, twiml="<Response/>")
        incoming = self.bob.wait_invite()
        incoming.respond(180)
        self.becomes(call.sid, "ringing")
        equal(self.client.calls(call.sid).update(status="canceled").status, "canceled", "what update gives")
        incoming.wait_cancel()
        self.becomes(call.sid, "canceled")

        call = self.client.calls.create(to="client:nobody", from_=MINE, twiml="<Response/>")
        self.becomes(call.sid, "failed")
        notices = self.client.calls(call.sid).notifications.list()
        equal([(one.error_code, one.log) for one in notices], [("13223", "0")], "why it failed")
        equal(self.client.calls(call.sid).notifications(notices[0].sid).fetch().message_text, notices[0].message_text, "fetch of a notification")

    def leg_of_a_dial(self):
        """Bob's leg gets a document of its own: the caller goes on with the action, and both go on by themselves."""
        phone, rtp, far = Phone(SIP, "+15559000", local=(TRUNK, 0)), Rtp(), Rtp()
        call = phone.invite(MINE, sdp("127.0.0.1", rtp.port))
        incoming = self.bob.wait_invite()
        incoming.accept(sdp("127.0.0.1", far.port))
        call.accepted()
        far.remote = incoming.invite.media()
        caller = self.app.to("/dial")[0]["CallSid"]
        wait_for(lambda: self.client.calls.list(parent_call_sid=caller, status="in-progress"), 5, "bob's leg")
        leg = self.client.calls.list(parent_call_sid=caller)[0]
        self.scenario.equal(leg.direction, "outbound-dial", "direction of bob's leg")

        self.client.calls(leg.sid).update(twiml="<Response><Say>You are alone now.</Say><Pause length='30'/></Response>")
        wait_for(lambda: self.app.to("/dialled"), 5, "the action of the Dial")
        dialled = self.app.to("/dialled")[0]
        self.scenario.equal((dialled["CallSid"], dialled["DialCallStatus"], dialled["DialCallSid"]), (caller, "completed", leg.sid), "what the action is told")
        far.play(b"\xff" * 8000, wait=False)
        wait_for(lambda: max(map(abs, far.heard()[-4000:] or [0])) > 1000, 5, "speech at bob alone")
        # The caller leaves; bob's leg, whose media began in the caller's session, stays.
        self.scenario.equal(call.bye().status, 200, "the caller's BYE")
        self.becomes(caller, "completed")
        self.scenario.equal(self.client.calls(leg.sid).fetch().status, "in-progress", "bob's leg after the caller's end")
        far.packets.clear()
        self.client.calls(leg.sid).update(twiml="<Response><Say>Still here.</Say><Pause length='30'/></Response>")
        far.play(b"\xff" * 8000, wait=False)
        wait_for(lambda: max(map(abs, far.heard()[-4000:] or [0])) > 1000, 5, "speech at bob after the caller's end")
        self.client.calls(leg.sid).update(status="completed")
        incoming.wait_bye()
        for part in (phone, rtp, far):
            part.close()

    def errors(self):
        create = self.client.calls.create
        for code, parameters in (
            (21201, {"to": "", "from_": MINE, "url": URL}),
            (21211, {"to": "what", "from_": MINE, "url": URL}),
            (21213, {"to": "client:bob", "from_": "", "url": URL}),
            (21205, {"to": "client:bob", "from_": MINE}),
            (21205, {"to": "client:bob", "from_": MINE, "url": "ftp://host/x"}),
            (20001, {"to": "client:bob", "from_": MINE, "url": URL, "timeout": 601}),
            (20001, {"to": "client:bob", "from_": MINE, "url": URL, "send_digits": "12x"}),
            (20001, {"to": "client:bob", "from_": MINE, "url": URL, "method": "PUT"}),
            (20001, {"to": "client:bob", "from_": MINE, "url": URL, "status_callback": URL, "status_callback_event": ["answered", "never"]}),
            (20001, {"to": "client:bob", "from_": MINE, "url": URL, "machine_detection": "Enable"}),
        ):
            self.refused(code, lambda: create(**parameters))
        self.refused(20404, lambda: self.client.calls("CA" + "0" * 32).fetch())
        self.refused(20404, lambda: self.client.calls("CA" + "0" * 32).update(status="completed"))

    def tenants(self):
        """Wrong credentials open nothing, and another account's sid is as if there were no such thing."""
        mine = self.client.calls.list(limit=1)[0].sid
        other = self.login(OTHER, "of-the-other")
        for client in (self.login(ACCOUNT, "wrong"), self.login(OTHER, AUTH_TOKEN), self.login("AC" + "0" * 32, AUTH_TOKEN)):
            self.refused(20003, client.calls.list)
            self.refused(20003, lambda: client.calls.create(to="client:bob", from_=MINE, url=URL))
        self.scenario.equal(other.calls.list(), [], "calls of the other account")
        self.refused(20404, lambda: other.calls(mine).fetch())
        self.refused(20404, lambda: other.calls(mine).update(status="completed"))
        self.refused(20404, lambda: other.calls(mine).delete())
        self.refused(20404, other.api.accounts(ACCOUNT).calls.list)
        self.refused(20404, other.api.accounts(ACCOUNT).fetch)
        self.scenario.equal([one.sid for one in self.client.api.accounts.list()], [ACCOUNT], "accounts")

    def numbers(self):
        mine = self.client.incoming_phone_numbers.list()
        self.scenario.equal([(one.phone_number, one.voice_url, one.voice_method) for one in mine], [(MINE, f"{URL}/dial", "POST")], "numbers")
        again = self.client.incoming_phone_numbers(mine[0].sid).fetch()
        self.scenario.equal((again.sid, again.capabilities["voice"]), (mine[0].sid, True), "fetch of a number")
        self.scenario.equal(self.client.incoming_phone_numbers.list(phone_number="+1555*1"), [], "a pattern")
        self.refused(20404, lambda: self.login(OTHER, "of-the-other").incoming_phone_numbers(mine[0].sid).fetch())

    def described(self):
        """The description is one by its own standard, and says of the resources that this program uses what they take."""
        description = requests.get(f"http://{HTTP}/openapi.json", timeout=5).json()
        openapi_spec_validator.validate(description)
        calls = description["paths"]["/2010-04-01/Accounts/{account}/Calls.json"]
        form = calls["post"]["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"]["properties"]
        self.scenario.check({"To", "From", "Twiml", "Url", "StatusCallback", "Record"} <= form.keys(), f"parameters of a call: {sorted(form)}")
        self.scenario.check("ParentCallSid" in {one["name"] for one in calls["get"]["parameters"]}, "filters of calls")
        page = requests.get(f"http://{HTTP}/compatibility", timeout=5)
        self.scenario.equal(page.headers["Content-Type"], "text/html; charset=utf-8", "the page's type")
        self.scenario.check("<td><code>Echo</code></td><td>the element</td>" in page.text and page.text.count("<table>") > 20, "the page's tables")

    def pages(self):
        """More calls than a page holds, made in a burst: all are there, in order, once; from memory and from the store."""
        made = [self.client.calls.create(to="client:nobody", from_=MINE, twiml="<Response/>").sid for _ in range(120)]
        self.scenario.check(made == sorted(made), "sids in the order of creation")
        wait_for(lambda: len(self.client.calls.list(to="client:nobody", status="failed")) >= 121, 8, "all of them to end")
        for where in ("memory", "the store"):
            listed = [one.sid for one in self.client.calls.list(to="client:nobody", page_size=50)]
            self.scenario.equal(listed[:120], made[::-1], f"pages from {where}")
            self.server.written(made)
        self.scenario.equal(len(self.client.calls.list(limit=7)), 7, "a limit")
        self.scenario.check(self.client.calls(made[0]).delete(), "delete")
        self.refused(20404, lambda: self.client.calls(made[0]).fetch())
        self.created = len(made)

    def signatures(self):
        forms = [form for _, form in self.app.requests]
        self.scenario.check(forms and all(form["valid"] for form in forms), f"{len(forms)} requests with valid signatures")
        self.accepted = len(forms)
        self.bob.close()
        self.scenario.equal(self.server.stop(), 0, "exit code")


def main():
    with Scenario(__file__) as scenario:
        rest = Rest(scenario)
        made = Resources(rest, SIP, URL, TRUNK, FAR)
        calls = (rest.start, rest.whole_call, rest.referred, rest.failures, rest.leg_of_a_dial, rest.errors, rest.tenants, rest.numbers, rest.described, rest.pages)
        resources = (made.applications, made.messages, made.numbers, made.accounts, made.keys, made.domains, made.trunks, made.forwarded, made.records, made.backup)
        kills = Kills(rest, URL)
        for part in (*calls, *resources, kills.threat_28, made.triggers, rest.signatures):
            scenario.step(part.__name__.replace("_", " "), part)
        scenario.summary = f"{getattr(rest, 'created', 0)} calls in a burst, none lost; {getattr(kills, 'told', '')}; RequestValidator accepted {getattr(rest, 'accepted', 0)} requests"


main()
