"""Browsers with the unmodified official voice SDK, in a real Chromium: they register, call, are called, and hear each other."""

import json
import pathlib
import ssl
import sys
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from twilio.jwt.access_token import AccessToken
from twilio.jwt.access_token.grants import VoiceGrant

from lib.chromium import Browser
from lib.rtp import Rtp, tone_level
from lib.scenario import Scenario, wait_for
from lib.server import ACCOUNT, AUTH_TOKEN, Server, base_config, number, user
from lib.sip import Phone, sdp

SIP, HTTP, RTP, PAGE = ("127.0.0.1", 20400), "127.0.0.1:20401", "20410-20459", 20402
HOST = "localhost:20401"
KEY, SECRET, USER_SECRET = "SK" + "5" * 32, "secret-of-the-key-0123456789abcdef", "secret-of-the-user"
ECHO, DIAL = "AP" + "1" * 32, "AP" + "2" * 32
OTHER = "AC" + "7" * 32
OURS = "+15553000"


def token(identity, application=ECHO, incoming=True, ttl=3600, key=KEY, secret=SECRET, account=ACCOUNT):
    made = AccessToken(account, key, secret, identity=identity, ttl=ttl)
    made.add_grant(VoiceGrant(outgoing_application_sid=application, incoming_allow=incoming))
    return made.to_jwt()


def application(sid, twiml):
    return f"[[application]]\nsid = \"{sid}\"\naccount = \"{ACCOUNT}\"\ntwiml = '''<Response>{twiml}</Response>'''\n"


class Browsers:
    def __init__(self, scenario):
        self.scenario = scenario

    def start(self):
        more = application(ECHO, "<Echo/>") + application(DIAL, "<Dial timeout='10'><Client>bob</Client></Dial>")
        more += f'[[key]]\nsid = "{KEY}"\naccount = "{ACCOUNT}"\nsecret = "{SECRET}"\n' + number(OURS, "<Dial><Client>bob</Client></Dial>") + user("desk", USER_SECRET)
        config = base_config(f"{SIP[0]}:{SIP[1]}", HTTP, RTP, http_more="tls = { own = true }", sip_more='digest = ["MD5"]', more=more, workers=0)
        self.server = Server(self.scenario, config).start()
        self.browser = Browser(self.scenario, PAGE)

    def page(self, name, hertz, **options):
        page = self.browser.page(name, hertz)
        page.open(token(name, **options), chunderw=HOST)
        return page

    def echo(self):
        """A page calls, its call has a sid, and it hears itself by PCMU; it hangs up."""
        equal, page = self.scenario.equal, self.page("alice", 1000)
        call = page.connect({"To": "nowhere", "Colour": "blue"})
        page.wait("accept")
        heard = page.hears(call, 1000)
        state, stats = page.state(call), page.run(f"phone.stats({call})")
        equal((state["status"], state["sid"][:2], state["codec"], stats["transport"]["dtls"]), ("open", "CA", "PCMU", "connected"), "the call")
        page.run(f"phone.calls[{call}].disconnect()")
        page.wait("disconnect")
        ended = self.server.ended(lambda one: one["sid"] == state["sid"])
        print(sorted({url.split("?")[0] for url in self.browser.asked()}))
        equal((ended["from"], ended["to"], ended["status"]), ("client:alice", "nowhere", "completed"), "the record")
        return f"level {heard['level']:.2f}"


def main():
    with Scenario(__file__) as scenario:
        browsers = Browsers(scenario)
        for part in (browsers.start, browsers.echo):
            scenario.step(part.__name__.replace("_", " "), part)
        scenario.summary = "the official voice SDK in Chromium"


main()
