"""A server for browsers, and pages with the official voice SDK that use it."""

import math

from twilio.jwt.access_token import AccessToken
from twilio.jwt.access_token.grants import VoiceGrant

from .browser import Browser
from .server import ACCOUNT, Server, base_config
from .sip import Phone

KEY, SECRET, USER_SECRET = "SK" + "5" * 32, "secret-of-the-key-0123456789abcdef", "secret-of-the-user"


def token(identity, application, incoming=True, ttl=3600, key=KEY, secret=SECRET, account=ACCOUNT):
    made = AccessToken(account, key, secret, identity=identity, ttl=ttl)
    made.add_grant(VoiceGrant(outgoing_application_sid=application, incoming_allow=incoming))
    return made.to_jwt()


def application(sid, twiml):
    return f"[[application]]\nsid = \"{sid}\"\naccount = \"{ACCOUNT}\"\ntwiml = '''<Response>{twiml}</Response>'''\n"


def tone(hertz, seconds):
    """Samples of a tone."""
    return [8000 * math.sin(2 * math.pi * hertz * at / 8000) for at in range(8000 * seconds)]


class Browsers:
    """Ports from `first` on: SIP, HTTPS, the pages, and 40 of media from 10 above. `echo` is the application that pages call unless they say otherwise."""

    def __init__(self, scenario, first, echo, more, workers=0, sip_more='digest = ["MD5"]', media_more="", engine="chromium"):
        self.scenario, self.echo_application, self.engine = scenario, echo, engine
        self.sip, http, self.pages, rtp = ("127.0.0.1", first), f"127.0.0.1:{first + 1}", first + 2, f"{first + 10}-{first + 49}"
        self.host = f"localhost:{first + 1}"
        more = f'[[key]]\nsid = "{KEY}"\naccount = "{ACCOUNT}"\nsecret = "{SECRET}"\n' + more
        self.config = base_config(f"{self.sip[0]}:{first}", http, rtp, http_more="tls = { own = true }", sip_more=sip_more, media_more=media_more, more=more, workers=workers)

    def start(self):
        self.server = Server(self.scenario, self.config).start()
        self.browser = Browser(self.scenario, self.pages, engine=self.engine)

    def page(self, name, hertz, identity=None, codecs=("pcmu", "opus"), **options):
        """A page of an identity that says a tone, and would have these codecs; without any as the SDK has it."""
        page = self.browser.page(name, hertz)
        sounds = {sound: f"https://{self.host}/sounds/{sound}.wav" for sound in ("incoming", "outgoing", "disconnect", *(f"dtmf{key}" for key in "0123456789sh"))}
        page.open(self.token(identity or name, **options), chunderw=self.host, sounds=sounds, enableImprovedSignalingErrorPrecision=True, codecPreferences=list(codecs))
        return page

    def sip_page(self, name, hertz):
        """A page with JsSIP and SIP.js."""
        self.browser.ask(name, "sip", what="open")
        return self.browser.page(name, hertz)

    def token(self, identity, application=None, **options):
        return token(identity, application or self.echo_application, **options)

    def telephone(self):
        """The telephone of the user `desk`."""
        phone = Phone(self.sip, "desk", USER_SECRET, algorithm="MD5")
        self.scenario.equal(phone.register().status, 200, "REGISTER")
        return phone

    def stop(self):
        self.browser.close()
        self.scenario.equal(self.server.stop(), 0, "exit code")
