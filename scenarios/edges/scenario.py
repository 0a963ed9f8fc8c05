"""Two edges are one: a phone may speak with either, and when one machine is lost the other has its calls."""

import http.server
import pathlib
import subprocess
import sys
import threading
import time
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import requests

from lib import rtp
from lib.leg import Leg
from lib.scenario import Scenario, wait_for
from lib.server import ACCOUNT, AUTH_TOKEN, Server, base_config, number, trunk, user
from lib.sip import Phone, sdp

HERE = pathlib.Path(__file__).resolve().parent
TESTS = HERE.parent.parent / "tests"
ECHO, ROOM, BOB, WAIT, TAKE, TOLD = (f"+1555600000{digit}" for digit in range(6))
APP = 15795


class Application(http.server.ThreadingHTTPServer):
    """Is told of calls, and says that it is not, as long as it is not well."""

    def __init__(self):
        self.is_well, self.told = True, []
        super().__init__(("127.0.0.1", APP), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        self.server.told.append((form["CallSid"], form["CallStatus"], self.headers["I-Twilio-Idempotency-Token"], self.server.is_well))
        self.send_response(204 if self.server.is_well else 503)
        self.end_headers()

    def log_message(self, *_):
        pass



class Edge(Server):
    """One of the edges: a machine of its own, as far as processes go."""

    def __init__(self, scenario, name, base, postgres, redis, token=None, join=None):
        self.sip, self.cluster = ("127.0.0.1", base), f"127.0.0.1:{base + 1}"
        self.base = base
        more = trunk("phones", **{"from": ["127.0.0.1"]}) + user("bob", "secret-of-bob") + number(ECHO, "<Echo/>") + number(TOLD, "<Echo/>", status_callback=f"http://127.0.0.1:{APP}/told")
        more += number(ROOM, '<Dial><Conference beep="false">everybody</Conference></Dial>') + number(BOB, "<Dial><Client>bob</Client></Dial>")
        more += number(WAIT, '<Enqueue waitUrl="">line</Enqueue>') + number(TAKE, "<Dial><Queue>line</Queue></Dial>")
        config = base_config(f"127.0.0.1:{base}", f"127.0.0.1:{base + 2}", f"{base + 20}-{base + 139}", more=more)
        config = config.replace('url = "sqlite://data/dialtone.db"', f'url = "{postgres}"\nhot = "{redis}"\nfolder = "data"')
        config += f'\n[cluster]\nlisten = "{self.cluster}"\n' + ("" if join else 'dir = "cluster"\n')
        super().__init__(scenario, config, name)
        self.arguments = ["--name", name] + (["--role", "edge", "--join", join] if join else [])
        self.token = {"DIALTONE_JOIN_TOKEN": token} if token else {}

    def start(self):
        return super().start(environment=self.token, arguments=self.arguments)

    def children(self, part):
        pids = open(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read().split()
        of = lambda pid: open(f"/proc/{pid}/environ").read().split("DIALTONE_PROCESS=")[1].split("\0")[0]
        return [int(pid) for pid in pids if of(pid).startswith(part)]


class Edges:
    def __init__(self, scenario):
        self.scenario = scenario

    def start(self):
        """Each edge has workers of its own, and both edges have all of them."""
        postgres, redis = (self.scenario.folder / name for name in ("postgres", "redis"))
        self.app = Application()
        run = lambda *argv: subprocess.run([str(part) for part in argv], check=True, capture_output=True, text=True).stdout.strip()
        self.scenario.folder.chmod(0o755)
        self.postgres = run(TESTS / "postgres", "start", postgres)
        self.scenario.at_end(lambda: run(TESTS / "postgres", "stop", postgres))
        self.redis = run(TESTS / "redis", "start", redis)
        self.scenario.at_end(lambda: run(TESTS / "redis", "stop", redis))
        self.left = Edge(self.scenario, "left", 15800, self.postgres, self.redis)
        code, told = self.left.run("cluster", "init", "--dir", "cluster")
        self.scenario.equal(code, 0, told)
        code, token = self.left.run("cluster", "join-token", "--dir", "cluster")
        self.scenario.equal(code, 0, token)
        self.left.start()
        self.right = Edge(self.scenario, "right", 15950, self.postgres, self.redis, token.strip(), self.left.cluster).start()
        for edge in (self.left, self.right):
            wait_for(lambda: len(edge.workers("active")) == 2 and len(edge.workers("standby")) == 2, 6, "the workers of both machines")

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
        heard = [self.heard(member, since) for member in members]
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
            match = max(rtp.correlation(speaker.said[at : at + 8000], self.heard(listener, since)) for at in (0, 8000))
            self.scenario.check(match >= 0.8, f"how well one hears the other: {match:.2f}")
        taking.end()
        waiting.call.wait_bye()
        waiting.stop()
        wait_for(lambda: not self.left.live() and not self.right.live(), 3, "the calls to end")

    def heard(self, leg, since):
        heard = []
        for packet in sorted((it for it in list(leg.media.packets) if it.at >= since), key=lambda it: it.sequence):
            heard.extend(rtp.ulaw_decode(packet.payload))
        return heard

    def lost(self, legs=10):
        """A machine with an edge and workers is lost: the other edge goes on with its calls."""
        equal, check = self.scenario.equal, self.scenario.check
        self.app.is_well = False
        unheard = Leg(self.left.sip, TOLD)
        unheard.end()
        wait_for(lambda: self.app.told, 3, "the application not to hear of a call's end")
        callers = [Leg(self.left.sip, ECHO) for _ in range(legs)]
        others = [Leg(self.right.sip, ECHO) for _ in range(2)]
        sids = [call["sid"] for call in wait_for(lambda: len(self.left.live()) == legs + 2 and self.left.live(), 2, "the calls")]
        time.sleep(1.5)
        at = time.monotonic()
        self.left.kill()
        moved = []
        for caller in callers:
            caller.phone.transport.server = self.right.sip
        for caller in callers:
            before = caller.media.remote
            check(caller.reinvited(8) is not None, "each is told where its call is now")
            moved.append(caller.media.remote != before)
        back = time.monotonic() - at
        self.app.is_well = True
        time.sleep(1)
        now = time.monotonic()
        check(all(caller.media.packets[-1].at > now - 0.3 for caller in callers), "everybody hears still")
        stayed = [caller.gaps(at - 0.02, now)[0] for caller, has_moved in zip(callers, moved) if not has_moved]
        gone = [caller.gaps(at - 0.02, now)[0] for caller, has_moved in zip(callers, moved) if has_moved]
        check(max(stayed, default=0) < 0.2, f"gaps of those whose worker lives: {stayed}")
        for caller in callers + others:
            equal(caller.call.bye().status, 200, "BYE at the edge that is left")
            caller.stop()
        wait_for(lambda: not self.right.live(), 5, "the calls to end")
        equal([call["status"] for call in self.right.calls() if call["sid"] in sids], ["completed"] * len(sids), "how they ended")
        tokens = {token for _, _, token, _ in self.app.told}
        heard = wait_for(lambda: [told for *told, is_well in self.app.told if is_well], 5, "the other edge to tell of the call's end")
        equal([(status, {token} == tokens) for _, status, token in heard], [("completed", True)], "what was told of the call that had ended, with the token of every try")
        self.summary = f"{legs} calls of a lost edge go on after {back:.1f} s; largest gap {max(stayed, default=0) * 1000:.0f} ms where the worker lives, {max(gone, default=0) * 1000:.0f} ms where it does not"
        return self.summary


def main():
    with Scenario(__file__) as scenario:
        edges = Edges(scenario)
        scenario.step("start", edges.start)
        scenario.step("handed_on", edges.handed_on)
        scenario.step("api", edges.api)
        scenario.step("registered", edges.registered)
        scenario.step("meet", edges.meet)
        scenario.step("queue", edges.queue)
        scenario.step("lost", edges.lost)
        scenario.summary = getattr(edges, "summary", "")


if __name__ == "__main__":
    main()
