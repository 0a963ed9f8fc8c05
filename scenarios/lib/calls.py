"""What pages with the unmodified official voice SDK do with the server, in whatever browser: they register, call, are called, and hear each other."""

import json
import re
import threading
import time

import requests

from .browsers import USER_SECRET, Browsers, application, tone
from .rtp import Rtp, tone_level, ulaw_encode
from .scenario import wait_for
from .server import ACCOUNT, AUTH_TOKEN, number, user
from .sip import sdp

ECHO, DIAL, ROOM, TO_ERIN, WAITS, TEST = ("AP" + digit * 32 for digit in "123456")
OURS = "+15553000"
CONFERENCE = "<Dial><Conference beep='false' startConferenceOnEnter='true'>room</Conference></Dial>"
BOB = "<Dial timeout='10'><Client><Identity>bob</Identity><Parameter name='Room' value='7 &amp; 8'/></Client></Dial>"


class Calls(Browsers):
    def __init__(self, scenario, first, engine):
        more = application(ECHO, "<Echo/>") + application(DIAL, BOB) + application(ROOM, CONFERENCE) + application(TO_ERIN, "<Dial><Client>erin</Client></Dial>") + application(WAITS, "<Enqueue>support</Enqueue>") + application(TEST, "<Say>This is a test of your connection.</Say>")
        more += number(OURS, "<Dial><Client>bob</Client></Dial>") + number(OURS + "7", "<Dial><Queue>support</Queue></Dial>") + number(OURS + "8", "<Dial><Client>erin</Client></Dial>") + number(OURS + "9", CONFERENCE) + user("desk", USER_SECRET)
        super().__init__(scenario, first, ECHO, more, engine=engine)

    def echo(self):
        """A page calls, its call has a sid, and it hears itself by PCMU."""
        equal, page = self.scenario.equal, self.page("alice", 1000)
        call = page.connect({"To": "nowhere", "Colour": "blue"})
        page.wait("accept")
        heard = page.hears(call, 1000)
        state, stats = page.state(call), page.run(f"phone.stats({call})")
        wait_for(lambda: page.state(call).get("codec") == "PCMU", 5, "the SDK to name the codec", every=0.2)
        equal((state["status"], state["sid"][:2], stats["transport"]["dtls"]), ("open", "CA", "connected"), "the call")
        self.first = page, call, state["sid"]
        return f"level {heard['level']:.2f}"

    def rung(self, page, number):
        """The telephone calls a number that rings the page: its sound, its call, the thread that waits for the answer, and the call in the page."""
        rtp = Rtp()
        call = self.desk.invite(number, sdp(rtp.host, rtp.port))
        answered = threading.Thread(target=call.accepted, daemon=True)
        answered.start()
        return rtp, call, answered, page.wait("incoming")["call"]

    def called(self):
        """A telephone calls a number that rings the browser of an identity: it is told by whom, answers, and both hear each other."""
        equal, bob = self.scenario.equal, self.page("bob", 1300)
        bob.register()
        self.bob = bob
        url = f"http://127.0.0.1:{self.sip[1] + 1}/2010-04-01/Accounts/{ACCOUNT}/Clients/bob/Devices.json"
        devices = lambda: requests.get(url, auth=(ACCOUNT, AUTH_TOKEN), timeout=5).json()["devices"]
        wait_for(lambda: [device["kind"] for device in devices()] == ["browser"], 3, "the device to be shown")
        self.desk = self.telephone()
        rtp, call, answered, incoming = self.rung(bob, OURS)
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

    def room(self):
        """A browser on Opus and a telephone hear each other in a conference."""
        page, rtp = self.page("alice4", 1050, application=ROOM, codecs=("opus", "pcmu")), Rtp()
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

    def queued(self):
        """A browser waits in a queue, and a telephone takes it out: both hear each other."""
        page, rtp = self.page("grace", 1500, application=WAITS), Rtp()
        call = page.connect()
        page.wait("accept")
        phone = self.desk.invite(OURS + "7", sdp(rtp.host, rtp.port)).accepted()
        rtp.remote = phone.answer.media()
        rtp.play(ulaw_encode(tone(600, 5)), wait=False)
        page.hears(call, 600)
        wait_for(lambda: tone_level(rtp.heard()[-4000:], 1500) > 1500, 5, "the telephone to hear the browser", every=0.2)
        phone.bye()
        page.run(f"phone.calls[{call}].disconnect()")
        page.wait("disconnect")
        rtp.close()

    def preflight(self):
        """The SDK's own test of a connection: it calls what the token's application says, measures until that ends, and finds it good."""
        page = self.browser.page("heidi", 1000)
        page.run(f"phone.preflight({json.dumps(self.token('heidi', TEST))}, {{ chunderw: '{self.host}' }})")
        page.wait("preflight-connected")
        report = page.wait("preflight-completed")["told"]
        self.scenario.check(report["callSid"].startswith("CA") and report["stats"]["mos"]["average"] > 4, f"the report: {report}")
        self.scenario.equal(page.events("preflight-failed"), [], "what failed")
        return f"mos {report['stats']['mos']['average']:.2f}, connected in {report['networkTiming']['peerConnection']['duration']} ms"

    def opus(self):
        """A page that would rather have Opus: as it is with another such page, and through the codec with a telephone."""
        codecs = ("opus", "pcmu")
        carol, erin = self.page("carol", 850, application=TO_ERIN, codecs=codecs), self.page("erin", 2900, codecs=codecs)
        erin.register()
        call = carol.connect()
        incoming = erin.wait("incoming")["call"]
        erin.run(f"phone.calls[{incoming}].accept()")
        carol.wait("accept")
        # Beyond what G.711 carries well, and far beyond what a mix of 8 kHz would: what is relayed keeps its whole band.
        erin.run("tone.frequency.value = 6000")
        carol.hears(call, 6000)
        erin.hears(incoming, 850)
        wait_for(lambda: carol.state(call).get("codec") == "opus", 5, "the SDK to name the codec", every=0.2)
        carol.run(f"phone.calls[{call}].disconnect()")
        erin.wait("disconnect")
        erin.run("tone.frequency.value = 1150")
        rtp, phone, answered, incoming = self.rung(erin, OURS + "8")
        erin.run(f"phone.calls[{incoming}].accept()")
        erin.wait("accept")
        answered.join(5)
        rtp.remote = phone.answer.media()
        rtp.play(ulaw_encode(tone(700, 8)), wait=False)
        erin.hears(incoming, 700)
        wait_for(lambda: tone_level(rtp.heard()[-4000:], 1150) > 1500, 5, "the telephone to hear the browser", every=0.2)
        erin.run(f"phone.calls[{incoming}].sendDigits('7*')")
        wait_for(lambda: rtp.digits() == "7*", 5, "the digits", every=0.2)
        phone.bye()
        erin.wait("disconnect")
        rtp.close()

    def measured(self):
        """What the SDK measures of the first call comes here, and nothing goes to its maker. The page hangs up."""
        page, call, sid = self.first
        names = ("mos_score", "rtt_seconds", "jitter_seconds")
        wait_for(lambda: all(self.measured_so_far(name) for name in names), 15, "what the browser has measured", every=0.3)
        told = [url for url in self.browser.asked() if "twilio.com" in url.split("?")[0] or "eventgw" in url]
        self.scenario.check(told and all("//eventgw.localhost" in url for url in told), f"what went elsewhere: {set(told)}")
        sounds = {url.rsplit("/", 1)[1] for url in self.browser.asked() if url.startswith(f"https://{self.host}/sounds/")}
        self.scenario.check({"incoming.wav", "outgoing.wav", "dtmf5.wav"} <= sounds, f"sounds that were asked for: {sounds}")
        page.run(f"phone.calls[{call}].disconnect()")
        page.wait("disconnect")
        ended = self.server.ended(lambda one: one["sid"] == sid)
        self.scenario.equal((ended["from"], ended["to"], ended["status"]), ("client:alice", "nowhere", "completed"), "the record")

    def measured_so_far(self, name):
        found = re.search(rf"^dialtone_client_{name}_count (\d+)", self.server.get("/metrics")[1], re.M)
        return found and int(found.group(1)) >= 1
