"""The console in a real Chromium: two phones on a page, calls, webhooks, and who may see them."""

import json
import pathlib
import sys
import threading

import requests

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lib.browser import Browser
from lib.document import Document
from lib.scenario import Failed, Scenario, wait_for
from lib.server import ACCOUNT, AUTH_TOKEN, Dev, Server, base_config, number, user
from lib.sip import Phone, sdp

SIP, HTTP, RTP = ("127.0.0.1", 20640), "127.0.0.1:20641", "20650-20669"
SIP_OF_SERVE, HTTP_OF_SERVE, RTP_OF_SERVE = "127.0.0.1:20643", "127.0.0.1:20644", "20670-20689"
PAGES, APP = 20646, 20647
OTHER, OTHERS_TOKEN = "AC" + "9" * 32, "token-of-the-other-account"
HOSTILE = "<img src=x onerror='document.title=1'>"
PHONE = "document.querySelectorAll('.phone')[{}]"


class Console:
    def __init__(self, scenario):
        self.scenario = scenario

    def start(self):
        # A text that would be markup, if anybody took it for that.
        Document(APP, f"<Response><!-- {HOSTILE} --><Reject/></Response>")
        self.dev = Dev(self.scenario, SIP, HTTP, RTP, app=f"http://127.0.0.1:{APP}/voice")
        self.browser = Browser(self.scenario, PAGES)
        self.browser.ask("dev", f"http://{HTTP}/", what="open")
        for phone in (0, 1):
            self.until(phone, "online")

    # --- what a person does and sees

    def run(self, code):
        return self.browser.ask("dev", code)

    def state(self, phone):
        return self.run(f"{PHONE.format(phone)}?.dataset.state")

    def until(self, phone, state, seconds=8):
        try:
            wait_for(lambda: self.state(phone) == state, seconds, f"phone {phone} to be {state}", every=0.05)
        except Failed as failed:
            raise Failed(f"{failed}: it is {self.state(phone)}, and says {self.says(phone)!r}") from None

    def says(self, phone):
        return self.run(f"{PHONE.format(phone)}.querySelector('.screen').innerText")

    def click(self, phone, part):
        self.run(f"{PHONE.format(phone)}.querySelector('{part}').click()")

    def call(self, phone, to):
        field = f"{PHONE.format(phone)}.querySelector('.number')"
        self.run(f"(() => {{ {field}.value = {json.dumps(to)}; {field}.dispatchEvent(new Event('input', {{ bubbles: true }})); }})()")
        self.click(phone, ".call")

    def hears(self, connection, wanted, what):
        """Whether this connection of the page hears the page's tone."""
        wait_for(lambda: (self.run(f"hears({connection})")["level"] > 0.05) == wanted, 6, what)

    # --- the parts

    def each_other(self):
        """One phone calls the other, which answers: both hear the tone of the page, and neither when it is muted. The calls are listed."""
        self.run("tone.frequency.value = 700")
        self.call(0, "mobile")
        self.until(1, "incoming")
        self.scenario.check("desk" in self.says(1), f"who calls is shown: {self.says(1)!r}")
        self.click(1, ".answer")
        self.until(0, "open")
        self.until(1, "open")
        for connection in (-1, -2):
            self.hears(connection, True, "a phone to hear the other")
        rows = lambda: self.run("[...document.querySelectorAll('#calls .call-row')].map((row) => row.innerText)")
        wait_for(lambda: len(rows()) == 2 and all("mobile" in row for row in rows()), 4, "both legs to be listed")
        self.click(0, ".mute")
        self.click(1, ".mute")
        for connection in (-1, -2):
            self.hears(connection, False, "a phone to hear nothing of who is muted")
        self.click(1, ".hang-up")
        self.until(0, "online")
        self.until(1, "online")
        wait_for(lambda: rows() == [], 4, "no call to be listed any more")

    def menu(self):
        """The menu of the demo hears a key, and what it was asked is listed."""
        self.call(0, "+15550000001")
        self.until(0, "open")
        self.hears(-1, True, "the prompt to be heard")
        self.run(f"[...{PHONE.format(0)}.querySelectorAll('.keypad button')].find((key) => key.innerText.trim().startsWith('1')).click()")
        listed = lambda: self.run("[...document.querySelectorAll('#webhooks .webhook')].map((row) => row.innerText)")
        wait_for(lambda: any("/demo/choice" in row and "200" in row for row in listed()), 6, "the answer to the key to be listed")
        self.click(0, ".hang-up")
        self.until(0, "online")

    def refused(self):
        """A call is rejected; an application rejects another, with text that stays text."""
        self.call(0, "mobile")
        self.until(1, "incoming")
        self.click(1, ".reject")
        self.until(0, "online")
        self.scenario.check("busy" in self.says(0).lower(), f"why it ended is said: {self.says(0)!r}")
        self.call(0, "+15559999999")
        wait_for(lambda: self.run(f"[...document.querySelectorAll('#webhooks .webhook')].some((row) => row.textContent.includes({json.dumps(HOSTILE)}))"), 6, "what the application said")
        self.until(0, "online")
        self.scenario.equal(self.run("[document.title, document.querySelectorAll('#webhooks img').length]"), ["Dialtone console", 0], "markup of others is text")

    def telephone(self):
        """A softphone rings a phone of the page by its user's name; what the page calls rings the softphone of that name too, which has the call."""
        phone = Phone(SIP, "mobile", self.dev.greeting["users"][1]["password"], algorithm="MD5")
        self.scenario.equal(phone.register().status, 200, "REGISTER")
        call, told = phone.invite("desk", sdp("127.0.0.1", 20699)), []
        waiting = threading.Thread(target=lambda: told.append(call.final().status), daemon=True)
        waiting.start()
        self.until(0, "incoming")
        self.scenario.check("mobile" in self.says(0), f"who calls: {self.says(0)!r}")
        self.click(0, ".reject")
        waiting.join(5)
        self.scenario.equal(told, [486], "what the softphone is told")
        self.until(0, "online")
        self.call(0, "mobile")
        self.until(1, "incoming")
        phone.wait_invite().accept(sdp("127.0.0.1", 20699))
        self.until(0, "open")
        self.until(1, "online")
        self.click(0, ".hang-up")
        self.until(0, "online")
        phone.close()

    def widths(self):
        """The page scrolls sideways at no width."""
        for width, height in ((1280, 900), (820, 1100), (390, 844), (320, 640)):
            for scheme in ("light", "dark"):
                self.browser.ask("dev", {"width": width, "height": height, "scheme": scheme}, what="look")
                self.scenario.equal(self.run("document.documentElement.scrollWidth - innerWidth"), 0, f"too wide at {width}")
                if self.scenario.long:
                    self.browser.ask("dev", str(self.scenario.folder / f"console-{width}-{scheme}.png"), what="shot")
        self.browser.ask("dev", {"width": 1280, "height": 900, "scheme": "light"}, what="look")

    def nothing_elsewhere(self):
        """Nothing is asked of anybody but the server, and no page of another site is let in."""
        asked = [url for url in self.browser.asked() if not url.startswith("data:")]
        self.scenario.check(asked and all(f"//{HTTP}/" in url for url in asked), f"asked elsewhere: {asked}")
        url = f"http://{HTTP}/console"
        self.scenario.equal(requests.get(f"{url}/overview", headers={"Host": "rebound.example"}, timeout=5).status_code, 401, "by another site's name")
        self.scenario.equal(requests.post(f"{url}/token", json={"identity": "desk"}, timeout=5).status_code, 403, "without the page's own header")
        self.scenario.equal(self.dev.stop(), 0, "exit code")

    def signed_in(self):
        """`serve` shows nothing unasked; an account's token opens its own console and nobody else's, and wrong ones are counted."""
        equal = self.scenario.equal
        more = number("+15550001", "<Pause length='20'/>", answer="at-once") + user("ann", "secret-of-ann", twiml="<Response><Pause length='20'/></Response>")
        more += f'[[account]]\nsid = "{OTHER}"\nauth_token = "{OTHERS_TOKEN}"\n'
        server = Server(self.scenario, base_config(SIP_OF_SERVE, HTTP_OF_SERVE, RTP_OF_SERVE, more=more, workers=0, sip_more='digest = ["MD5"]')).start()
        url, page = f"http://{HTTP_OF_SERVE}/console", {"X-Dialtone-Console": "1"}
        get = lambda session, path: session.get(f"{url}/{path}", timeout=5)
        enter = lambda session, account, token: session.post(f"{url}/session", json={"account": account, "token": token}, headers=page, timeout=5)
        mine, other, nobody = requests.Session(), requests.Session(), requests.Session()
        equal([get(nobody, path).status_code for path in ("session", "overview")], [401, 401], "unasked")
        equal(enter(mine, ACCOUNT, AUTH_TOKEN).status_code, 204, "signing in")
        equal(enter(other, OTHER, OTHERS_TOKEN).status_code, 204, "the other account")
        cookie = next(iter(mine.cookies))
        self.scenario.check(cookie.has_nonstandard_attr("HttpOnly") and cookie.path == "/console", "the cookie is kept from scripts")
        told = get(mine, "session").json()
        equal((told["account"], told["identities"], told["dev"]), (ACCOUNT, ["ann"], False), "who is signed in")
        phone = Phone(("127.0.0.1", 20643), "ann", "secret-of-ann", algorithm="MD5")
        equal(phone.register().status, 200, "REGISTER")
        call = phone.invite("+15550001", sdp("127.0.0.1", 20698)).accepted()
        wait_for(lambda: len(get(mine, "overview").json()["calls"]) == 1, 3, "the call to be shown")
        equal(get(other, "overview").json()["calls"], [], "another account's calls")
        call.bye()
        token = mine.post(f"{url}/token", json={"identity": "x" * 122}, headers=page, timeout=5)
        equal((token.status_code, "message" in token.json()), (400, True), "a name that is too long")
        forged = mine.cookies.get("dialtone_console")[:-2] + "AA"
        equal(requests.get(f"{url}/overview", cookies={"dialtone_console": forged}, timeout=5).status_code, 401, "a forged cookie")
        tries = [enter(nobody, ACCOUNT, f"wrong-{number}").status_code for number in range(12)]
        equal(tries, [401] * 10 + [429] * 2, "wrong tokens")
        equal(get(mine, "session").status_code, 200, "whoever is in stays in")
        equal(mine.delete(f"{url}/session", headers=page, timeout=5).status_code, 204, "signing out")
        equal(get(mine, "session").status_code, 401, "after signing out")
        phone.close()
        equal(server.stop(), 0, "exit code")

    def stop(self):
        self.browser.close()


def main():
    with Scenario(__file__) as scenario:
        console = Console(scenario)
        scenario.steps(console.start, console.each_other, console.menu, console.refused, console.telephone, console.widths, console.nothing_elsewhere, console.signed_in, console.stop)
        scenario.summary = "two phones of a page hear each other, and nobody sees what is not theirs"


main()
