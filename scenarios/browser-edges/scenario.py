"""Pages at two edges: each is reached from the other, and a call goes on when its page comes back to the other one."""

import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import requests

from lib.browser import Browser
from lib.browsers import KEY, SECRET, USER_SECRET, application, token, tone
from lib.edges import two_edges
from lib.rtp import Rtp, tone_level, ulaw_encode
from lib.scenario import Scenario, wait_for
from lib.server import ACCOUNT, AUTH_TOKEN, number, user
from lib.sip import Phone, sdp

ECHO, TO_BOB, KEYS = ("AP" + digit * 32 for digit in "123")
BOB, PAGES = "+15554200", 21420
# The page's next connection is to that edge; and it is made now.
TURNED = """
    const transport = phone.device._stream.transport;
    transport._uris = ["wss://localhost:%d/signal"];
    transport._preferredUri = transport._uris[0];
"""
ELSEWHERE = TURNED + "transport._socket.close();"


class Edges:
    def __init__(self, scenario):
        self.scenario = scenario

    def start(self):
        """Two edges, and a browser."""
        bob = "<Dial><Client>bob</Client></Dial>"
        more = f'[[key]]\nsid = "{KEY}"\naccount = "{ACCOUNT}"\nsecret = "{SECRET}"\n' + application(ECHO, "<Echo/>") + application(TO_BOB, bob)
        more += application(KEYS, "<Gather numDigits='3' timeout='20' action='http://127.0.0.1:9/none'><Pause length='20'/></Gather>") + number(BOB, bob) + user("desk", USER_SECRET)
        self.left, self.right, _ = two_edges(self.scenario, 21100, more, http_more="tls = { own = true, plain = true }", sip_more='digest = ["MD5"]')
        self.port = {edge: int(edge.http.split(":")[1]) for edge in (self.left, self.right)}
        self.browser = Browser(self.scenario, PAGES)

    def page(self, edge, name, hertz, application=ECHO):
        page, host = self.browser.page(name, hertz), f"localhost:{self.port[edge]}"
        sounds = {sound: f"https://{host}/sounds/{sound}.wav" for sound in ("incoming", "outgoing", "disconnect")}
        page.open(token(name, application), chunderw=host, sounds=sounds, enableImprovedSignalingErrorPrecision=True, codecPreferences=["pcmu", "opus"])
        return page

    def rung(self):
        """A page at the right edge is called by a telephone and by a page at the left one."""
        bob = self.page(self.right, "bob", 1300)
        bob.register()
        desk, rtp = Phone(self.left.sip, "desk", USER_SECRET, algorithm="MD5"), Rtp()
        self.scenario.equal(desk.register().status, 200, "REGISTER")
        call = desk.invite(BOB, sdp(rtp.host, rtp.port)).accepted()
        incoming = bob.wait("incoming")["call"]
        bob.run(f"phone.calls[{incoming}].accept()")
        bob.wait("accept")
        rtp.remote = call.answer.media()
        rtp.play(ulaw_encode(tone(700, 6)), wait=False)
        bob.hears(incoming, 700)
        wait_for(lambda: tone_level(rtp.heard()[-4000:], 1300) > 1500, 5, "the telephone to hear the page", every=0.2)
        call.bye()
        bob.wait("disconnect")
        rtp.close(), desk.close()
        alice = self.page(self.left, "alice", 900, TO_BOB)
        calls = alice.connect(), bob.wait("incoming")["call"]
        bob.run(f"phone.calls[{calls[1]}].accept()")
        alice.wait("accept")
        alice.hears(calls[0], 1300)
        bob.hears(calls[1], 900)
        alice.run(f"phone.calls[{calls[0]}].disconnect()")
        bob.wait("disconnect", call=calls[1])

    def comes_back(self, ended_by):
        """Its connection to the left edge breaks, and the next is to the right one."""
        page = self.page(self.left, f"carol-{ended_by}", 1100)
        call = page.connect()
        page.wait("accept")
        page.hears(call, 1100)
        sid = page.state(call)["sid"]
        page.run(ELSEWHERE % self.port[self.right])
        page.wait("reconnected", call=call)
        if self.scenario.long:
            # What the left edge had of it gives it up meanwhile, and ends nothing.
            time.sleep(12)
        self.scenario.equal(page.run("phone.device._stream.transport._socket.url"), f"wss://localhost:{self.port[self.right]}/signal", "where it is now")
        page.hears(call, 1100)
        at = f"http://{self.right.http}/2010-04-01/Accounts/{ACCOUNT}/Calls/{sid}"
        ask = lambda path, **form: requests.post(f"{at}{path}", form, auth=(ACCOUNT, AUTH_TOKEN), timeout=5)
        self.scenario.equal(ask("/UserDefinedMessages.json", Content='"hello"').status_code, 201, "a message by way of the other edge")
        page.wait("message", content="hello")
        if ended_by == "page":
            page.run(f"phone.calls[{call}].disconnect()")
        else:
            self.scenario.equal(ask(".json", Status="completed").status_code, 200, "its end by the API")
            page.wait("disconnect", call=call)
        self.scenario.equal(self.left.ended(lambda one: one["sid"] == sid)["status"], "completed", "the call")

    def lost(self):
        """The machine of the left edge is lost: the right one has the calls of its pages when they come there, wherever their media was."""
        pages = [(page := self.page(self.left, f"erin-{number}", 1000 + 100 * number), page.connect()) for number in range(2)]
        for page, call in pages:
            page.wait("accept")
        for number, (page, call) in enumerate(pages):
            page.hears(call, 1000 + 100 * number)
            page.run(TURNED % self.port[self.right])
        self.left.kill()
        for number, (page, call) in enumerate(pages):
            page.wait("reconnected", seconds=20, call=call)
            page.hears(call, 1000 + 100 * number, seconds=20)
            sid = page.state(call)["sid"]
            page.run(f"phone.calls[{call}].disconnect()")
            self.scenario.equal(self.right.ended(lambda one: one["sid"] == sid)["status"], "completed", "the call")
        self.left = None

    def stop(self):
        self.browser.close()
        for edge in filter(None, (self.right, self.left)):
            self.scenario.equal(edge.stop(), 0, "exit code")


def main():
    with Scenario(__file__) as scenario:
        edges = Edges(scenario)
        scenario.steps(edges.start, edges.rung)
        for ended_by in ("page", "application"):
            scenario.step(f"comes back, {ended_by} ends", edges.comes_back, ended_by)
        scenario.steps(*([edges.lost] if scenario.long else []), edges.stop)
        scenario.summary = "pages at two edges hear each other, and come back to either"


main()
