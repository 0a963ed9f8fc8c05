"""Two edges are one: a phone may speak with either, and so may an application."""

import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import requests

from lib import rtp
from lib.edges import two_edges
from lib.leg import Leg
from lib.scenario import Scenario, wait_for
from lib.server import ACCOUNT, AUTH_TOKEN, number, trunk, user
from lib.sip import Phone, sdp

ECHO, ROOM, BOB, WAIT, TAKE = (f"+1555600000{digit}" for digit in range(5))
NUMBERS = (
    trunk("phones", **{"from": ["127.0.0.1"]})
    + user("bob", "secret-of-bob")
    + number(ECHO, "<Echo/>")
    + number(ROOM, '<Dial><Conference beep="false">everybody</Conference></Dial>')
    + number(BOB, "<Dial><Client>bob</Client></Dial>")
    + number(WAIT, '<Enqueue waitUrl="">line</Enqueue>')
    + number(TAKE, "<Dial><Queue>line</Queue></Dial>")
)


class Edges:
    def __init__(self, scenario):
        self.scenario = scenario

    def start(self):
        """Each edge has workers of its own, and both edges have all of them."""
        self.left, self.right, _ = two_edges(self.scenario, 15800, NUMBERS)

    def handed_on(self):
        """What comes to the edge that does not have the call is handed on to the one that has it."""
        caller = Leg(self.left.sip, ECHO)
        sid = wait_for(self.left.live, 2, "the call")[0]["sid"]
        caller.phone.transport.server = self.right.sip
        answer = caller.call.reinvite(sdp(caller.media.host, caller.media.port, version=2))
        self.scenario.equal(answer.status, 200, "a new offer by way of the other edge")
        time.sleep(0.3)
        self.scenario.equal(caller.call.bye().status, 200, "BYE by way of the other edge")
        caller.stop()
        wait_for(lambda: not self.left.live(), 2, "the call to end")
        self.scenario.equal(self.left.call(sid)["status"], "completed", "how it ended")

    def api(self):
        """What runs at one edge is seen and changed at the other."""
        equal, account = self.scenario.equal, f"/2010-04-01/Accounts/{ACCOUNT}"
        ask = lambda edge, path, **form: requests.request("POST" if form else "GET", f"http://{edge.http}{account}{path}", data=form, auth=(ACCOUNT, AUTH_TOKEN), timeout=5)
        caller = Leg(self.left.sip, ECHO)
        sid = wait_for(self.left.live, 2, "the call")[0]["sid"]
        equal([call["sid"] for call in ask(self.right, "/Calls.json?Status=in-progress").json()["calls"]], [sid], "running calls, as the other edge lists them")
        equal(ask(self.right, f"/Calls/{sid}.json").json()["status"], "in-progress", "the call at the other edge")
        equal([call["sid"] for call in self.right.live()], [sid], "and as its operator sees it")
        equal(ask(self.right, f"/Calls/{sid}.json", Status="completed").status_code, 200, "ended by way of the other edge")
        caller.call.wait_bye()
        caller.stop()
        made = ask(self.right, "/IncomingPhoneNumbers.json", PhoneNumber="+15557770001", VoiceUrl="http://127.0.0.1:9/none").json()
        wait_for(lambda: ask(self.left, f"/IncomingPhoneNumbers/{made['sid']}.json").status_code == 200, 2, "the number at the other edge")
        refused = lambda: Phone(self.left.sip, "+15556100002").invite("+15557770001", sdp("127.0.0.1", 9)).final().status
        wait_for(lambda: refused() != 404, 2, "a number that was made at the other edge to be taken")

    def registered(self):
        """A phone is reached from whichever edge, by the one that it has registered at."""
        bob = Phone(self.left.sip, "bob", "secret-of-bob", tcp=True)
        self.scenario.equal(bob.register().status, 200, "REGISTER")
        time.sleep(0.3)
        caller = Phone(self.right.sip, "+15556100003").invite(BOB, sdp("127.0.0.1", 9))
        incoming = bob.wait_invite()
        incoming.respond(486)
        caller.final()
        self.scenario.check(incoming.invite.header("via").split()[1].startswith(f"{self.left.sip[0]}:{self.left.sip[1]}"), "it comes by the connection of the other edge")
        bob.close()

    def meet(self):
        """A conference is one, though its members are at two edges and on two machines."""
        since = time.monotonic()
        members = [Leg(edge.sip, ROOM, rtp.noise(3, 60 + seed, 3000)) for seed, edge in enumerate((self.left, self.right, self.left, self.right))]
        time.sleep(3.3)
        heard = [member.media.heard(since=since) for member in members]
        for number, listener in enumerate(members):
            for speaker in members:
                match = max(rtp.correlation(speaker.said[at : at + 8000], heard[number]) for at in (0, 8000, 16000))
                wanted = match >= 0.4 if speaker is not listener else match < 0.3
                self.scenario.check(wanted, f"{number} hears {members.index(speaker)}: {match:.2f}")
        rooms = self.conferences()
        self.scenario.equal([(room["friendly_name"], room["status"]) for room in rooms], [("everybody", "in-progress")], "conferences")
        told = requests.get(f"http://{self.right.http}/2010-04-01/Accounts/{ACCOUNT}/Conferences/{rooms[0]['sid']}/Participants.json", auth=(ACCOUNT, AUTH_TOKEN), timeout=5).json()
        self.scenario.equal(len(told["participants"]), 4, "participants, asked at the other edge")
        for member in members:
            member.end()
        wait_for(lambda: not self.left.live() and not self.right.live(), 3, "the calls to end")
        wait_for(lambda: self.conferences()[0]["status"] == "completed", 3, "the conference to end")

    def conferences(self):
        return requests.get(f"http://{self.left.http}/2010-04-01/Accounts/{ACCOUNT}/Conferences.json", auth=(ACCOUNT, AUTH_TOKEN), timeout=5).json()["conferences"]

    def queue(self):
        """Who waits at one edge is taken by somebody at the other, and they hear each other."""
        waiting = Leg(self.left.sip, WAIT, rtp.noise(2, 71))
        time.sleep(0.5)
        since = time.monotonic()
        taking = Leg(self.right.sip, TAKE, rtp.noise(2, 72))
        time.sleep(2.5)
        for listener, speaker in ((waiting, taking), (taking, waiting)):
            # Of the two seconds that it says again and again one is heard whole, wherever the link came up.
            match = max(rtp.correlation(speaker.said[at : at + 8000], listener.media.heard(since=since)) for at in (0, 8000))
            self.scenario.check(match >= 0.8, f"how well one hears the other: {match:.2f}")
        taking.end()
        waiting.call.wait_bye()
        waiting.stop()
        wait_for(lambda: not self.left.live() and not self.right.live(), 3, "the calls to end")


def main():
    with Scenario(__file__) as scenario:
        edges = Edges(scenario)
        scenario.steps(edges.start, edges.handed_on, edges.api, edges.registered, edges.meet, edges.queue)
        scenario.summary = "calls, phones, requests, a conference and a queue across two edges"


if __name__ == "__main__":
    main()
