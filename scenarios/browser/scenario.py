"""Browsers with the unmodified official voice SDK, in a real Chromium: they register, call, are called, and hear each other."""

import math
import pathlib
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from twilio.jwt.access_token import AccessToken
from twilio.jwt.access_token.grants import VoiceGrant

from lib.chromium import Browser
from lib.rtp import Rtp, tone_level, ulaw_encode
from lib.scenario import Scenario, wait_for
from lib.server import ACCOUNT, AUTH_TOKEN, Server, base_config, number, user
from lib.sip import Phone, sdp

SIP, HTTP, RTP, PAGE = ("127.0.0.1", 20400), "127.0.0.1:20401", "20410-20459", 20402
HOST = "localhost:20401"
KEY, SECRET, USER_SECRET = "SK" + "5" * 32, "secret-of-the-key-0123456789abcdef", "secret-of-the-user"
ECHO, DIAL, DESK, ROOM = ("AP" + digit * 32 for digit in "1234")
OTHER = "AC" + "7" * 32
OURS = "+15553000"
CONFERENCE = "<Dial><Conference beep='false' startConferenceOnEnter='true'>room</Conference></Dial>"


def token(identity, application=ECHO, incoming=True, ttl=3600, key=KEY, secret=SECRET, account=ACCOUNT):
    made = AccessToken(account, key, secret, identity=identity, ttl=ttl)
    made.add_grant(VoiceGrant(outgoing_application_sid=application, incoming_allow=incoming))
    return made.to_jwt()


def application(sid, twiml):
    return f"[[application]]\nsid = \"{sid}\"\naccount = \"{ACCOUNT}\"\ntwiml = '''<Response>{twiml}</Response>'''\n"


def tone(hertz, seconds):
    return [8000 * math.sin(2 * math.pi * hertz * at / 8000) for at in range(8000 * seconds)]


class Browsers:
    def __init__(self, scenario):
        self.scenario = scenario

    def start(self):
        more = application(ECHO, "<Echo/>") + application(DIAL, "<Dial timeout='10'><Client><Identity>bob</Identity><Parameter name='Room' value='7 &amp; 8'/></Client></Dial>")
        more += application(DESK, "<Dial timeout='10'><Client>desk</Client></Dial>") + application(ROOM, CONFERENCE) + number(OURS + "9", CONFERENCE)
        more += f'[[key]]\nsid = "{KEY}"\naccount = "{ACCOUNT}"\nsecret = "{SECRET}"\n' + number(OURS, "<Dial><Client>bob</Client></Dial>") + user("desk", USER_SECRET)
        config = base_config(f"{SIP[0]}:{SIP[1]}", HTTP, RTP, http_more="tls = { own = true }", sip_more='digest = ["MD5"]', more=more, workers=0)
        self.server = Server(self.scenario, config).start()
        self.browser = Browser(self.scenario, PAGE)

    def page(self, name, hertz, **options):
        page = self.browser.page(name, hertz)
        page.open(token(name, **options), chunderw=HOST, enableImprovedSignalingErrorPrecision=True)
        return page

    def echo(self):
        """A page calls, its call has a sid, and it hears itself by PCMU; it hangs up."""
        equal, page = self.scenario.equal, self.page("alice", 1000)
        call = page.connect({"To": "nowhere", "Colour": "blue"})
        page.wait("accept")
        heard = page.hears(call, 1000)
        state, stats = page.state(call), page.run(f"phone.stats({call})")
        wait_for(lambda: page.state(call).get("codec") == "PCMU", 5, "the SDK to name the codec", every=0.2)
        equal((state["status"], state["sid"][:2], stats["transport"]["dtls"]), ("open", "CA", "connected"), "the call")
        page.run(f"phone.calls[{call}].disconnect()")
        page.wait("disconnect")
        ended = self.server.ended(lambda one: one["sid"] == state["sid"])
        equal((ended["from"], ended["to"], ended["status"]), ("client:alice", "nowhere", "completed"), "the record")
        return f"level {heard['level']:.2f}"


    def called(self):
        """A telephone calls a number that rings the browser of an identity: it is told by whom, answers, and both hear each other."""
        equal, bob = self.scenario.equal, self.page("bob", 1300)
        bob.register()
        self.bob = bob
        self.desk = Phone(SIP, "desk", USER_SECRET, algorithm="MD5")
        equal(self.desk.register().status, 200, "REGISTER")
        rtp = Rtp()
        call = self.desk.invite(OURS, sdp(rtp.host, rtp.port))
        answered = threading.Thread(target=call.accepted, daemon=True)
        answered.start()
        incoming = bob.wait("incoming")["call"]
        parameters = bob.state(incoming)["parameters"]
        wanted = {"AccountSid": ACCOUNT, "ApiVersion": "2010-04-01", "To": "client:bob", "From": f"sip:desk@dialtone"}
        equal({name: parameters.get(name) for name in wanted}, wanted, "what it is told")
        bob.run(f"phone.calls[{incoming}].accept()")
        bob.wait("accept")
        answered.join(5)
        rtp.remote = call.answer.media()
        rtp.play(ulaw_encode(tone(700, 8)), wait=False)
        bob.hears(incoming, 700)
        wait_for(lambda: tone_level(rtp.heard()[-4000:], 1300) > 1500, 5, "the telephone to hear the browser", every=0.2)
        # Muted, it says nothing.
        bob.run(f"phone.calls[{incoming}].mute(true)")
        wait_for(lambda: tone_level(rtp.heard()[-2000:], 1300) < 100, 5, "the telephone to hear nothing", every=0.2)
        bob.run(f"phone.calls[{incoming}].mute(false)")
        bob.run(f"phone.calls[{incoming}].sendDigits('5#')")
        wait_for(lambda: rtp.digits() == "5#", 5, f"the digits", every=0.2)
        call.bye()
        bob.wait("disconnect")
        rtp.close()

    def each_other(self):
        """A browser calls another: parameters of the page and the token reach it; the other hangs up."""
        alice, bob = self.page("alice2", 900, application=DIAL), self.bob
        call = alice.connect({"To": "bob"})
        incoming = bob.wait("incoming")["call"]
        self.scenario.equal(bob.state(incoming)["parameters"]["From"], "client:alice2", "who calls")
        self.scenario.equal(bob.state(incoming)["custom"], {"Room": "7 & 8"}, "what the document gives along")
        bob.run(f"phone.calls[{incoming}].accept()")
        alice.wait("accept")
        bob.hears(incoming, 900)
        alice.hears(call, 1300)
        bob.run(f"phone.calls[{incoming}].disconnect()")
        alice.wait("disconnect")
        self.alice = alice

    def several_devices(self):
        """A telephone and two browsers of one identity ring at once, each offered what it speaks; the first that answers has the call."""
        equal, alice = self.scenario.equal, self.page("alice3", 950, application=DESK)
        desks = [self.browser.page(f"desk{number}", 1500 + 100 * number) for number in (1, 2)]
        for page in desks:
            page.open(token("desk"), chunderw=HOST)
            page.register()
        for answers in ("browser", "telephone"):
            call = alice.connect()
            incoming = self.desk.wait_invite()
            incoming.respond(180)
            ringing = [page.wait("incoming")["call"] for page in desks]
            offer = incoming.invite.body.decode()
            self.scenario.check(" RTP/AVP " in offer and "ice-ufrag" not in offer, f"what the telephone is offered: {offer}")
            if answers == "browser":
                desks[1].run(f"phone.calls[{ringing[1]}].accept()")
                alice.wait("accept")
                desks[0].wait("cancel")
                self.scenario.check("completed elsewhere" in incoming.wait_cancel().header("reason"), "why the telephone stops ringing")
                desks[1].hears(ringing[1], 950)
                alice.hears(call, 1700)
            else:
                rtp = Rtp()
                rtp.remote = incoming.invite.media()
                incoming.accept(sdp(rtp.host, rtp.port))
                [page.wait("cancel") for page in desks]
                rtp.play(ulaw_encode(tone(770, 5)), wait=False)
                alice.hears(call, 770)
                wait_for(lambda: tone_level(rtp.heard()[-4000:], 950) > 1500, 5, "the telephone to hear the browser", every=0.2)
                rtp.close()
            sid = alice.state(call)["sid"]
            alice.run(f"phone.calls[{call}].disconnect()")
            alice.wait("disconnect")
            if answers == "telephone":
                incoming.wait_bye()
            child = self.server.ended(lambda one: one.get("parent") == sid)
            equal(child["status"], "completed", "the one call to all devices")
        [page.run("phone.device.destroy()") for page in desks]

    def room(self):
        """A browser and a telephone hear each other in a conference."""
        page, rtp = self.page("alice4", 1050, application=ROOM), Rtp()
        call = page.connect()
        page.wait("accept")
        other = self.desk.invite(OURS + "9", sdp(rtp.host, rtp.port)).accepted()
        rtp.remote = other.answer.media()
        rtp.play(ulaw_encode(tone(640, 6)), wait=False)
        page.hears(call, 640)
        wait_for(lambda: tone_level(rtp.heard()[-4000:], 1050) > 1500, 5, "the telephone to hear the browser", every=0.2)
        other.bye()
        page.run(f"phone.calls[{call}].disconnect()")
        rtp.close()

    def comes_back(self):
        """The connection breaks: the call goes on, and another connection takes it up. Then the network changes: ICE begins anew."""
        page = self.page("alice5", 1150)
        call = page.connect()
        page.wait("accept")
        page.hears(call, 1150)
        page.run("phone.device._stream.transport._socket.close()")
        page.wait("reconnected", call=call)
        page.hears(call, 1150)
        ufrag = "/ice-ufrag:(\\S+)/.exec(phone.calls[0]._mediaHandler.version.pc.remoteDescription.sdp)[1]"
        before = page.run(ufrag)
        page.run(f"phone.calls[{call}]._mediaHandler.iceRestart()")
        wait_for(lambda: page.run(ufrag) != before, 5, "another name of ours")
        page.hears(call, 1150)
        sid = page.state(call)["sid"]
        page.run(f"phone.calls[{call}].disconnect()")
        self.server.ended(lambda one: one["sid"] == sid)

    def refusals(self):
        """A call is rejected, taken back, and left alone; nobody who could answer ends the Dial at once."""
        alice, bob = self.alice, self.bob
        call = alice.connect()
        incoming = bob.wait("incoming")["call"]
        bob.run(f"phone.calls[{incoming}].reject()")
        alice.wait("disconnect")
        sid = alice.state(call)["sid"]
        child = lambda status: self.server.ended(lambda one: one.get("parent") == sid and one["status"] == status)
        child("busy")
        call = alice.connect()
        bob.wait("incoming")
        alice.run(f"phone.calls[{call}].disconnect()")
        bob.wait("cancel")
        bob.run("phone.device.unregister()")
        bob.wait("unregistered")
        began = time.monotonic()
        alice.connect()
        alice.wait("disconnect")
        self.scenario.check(time.monotonic() - began < 2, "a Dial of nobody takes its time")
        bob.register()

    def tokens(self):
        """What is wrong with a token is told by the SDK's own errors."""
        cases = {
            "signature": (token("eve", secret="another"), 20101),
            "key": (token("eve", key="SK" + "6" * 32), 20101),
            "expired": (token("eve", ttl=-5), 20104),
            "account": (token("eve", account=OTHER), 20101),
        }
        for name, (made, code) in cases.items():
            page = self.browser.page(f"eve-{name}", 500)
            page.open(made, chunderw=HOST)
            page.run("void phone.device.register().catch(() => {})")
            self.scenario.equal(page.wait("error")["code"], code, name)
            page.run("phone.device.destroy()")
        page = self.page("mute", 500, incoming=False)
        page.run("void phone.device.register().catch(() => {})")
        page.wait("error")
        page = self.page("lost", 500, application="AP" + "9" * 32)
        page.connect()
        self.scenario.equal(page.wait("call-error")["code"], 31404, "no such application")

    def measured(self):
        """What the SDK measures comes here, and nothing goes to its maker but what a page asks for before it is connected."""
        wait_for(lambda: (self.server.metric("dialtone_client_mos_score_count") or 0) > 0, 12, "what the browsers have measured", every=0.3)
        told = [url for url in self.browser.asked() if "eventgw" in url]
        self.scenario.check(told and all("eventgw.localhost" in url for url in told), f"measurements went to {set(told)}")

    def stop(self):
        self.browser.close()
        self.scenario.equal(self.server.stop(), 0, "exit code")


def main():
    with Scenario(__file__) as scenario:
        browsers = Browsers(scenario)
        parts = [browsers.start, browsers.echo, browsers.called, browsers.each_other, browsers.several_devices, browsers.room, browsers.comes_back, browsers.refusals, browsers.tokens, browsers.measured, browsers.stop]
        for part in parts:
            scenario.step(part.__name__.replace("_", " "), part)
        scenario.summary = f"the official voice SDK in Chromium {browsers.browser.version}"


main()
