"""The edge, and then a machine with media workers, are lost under the calls of pages."""

import os
import pathlib
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lib.browsers import USER_SECRET, Browsers, application
from lib.edges import child
from lib.machine import Machine
from lib.scenario import Scenario, wait_for
from lib.server import number, user

ECHO, CALLED, CLUSTER = "AP" + "1" * 32, "+15554100", "127.0.0.1:20765"
UFRAG = "/ice-ufrag:(\\S+)/.exec({}.remoteDescription.sdp)[1]"


class Lost(Browsers):
    def __init__(self, scenario):
        more = application(ECHO, "<Echo/>") + number(CALLED, "<Echo/>") + user("page", USER_SECRET)
        super().__init__(scenario, 20760, ECHO, more, workers=1)

    def killed_edge(self):
        """The edge dies under a browser's call: what is heard goes on meanwhile, and the next one has the call as soon as the page is back."""
        page = self.page("ivan", 1400)
        call = page.connect()
        page.wait("accept")
        page.hears(call, 1400)
        sid, before = page.state(call)["sid"], page.run(f"phone.stats({call})")
        os.kill(child(self.server, "edge"), signal.SIGKILL)
        began = time.monotonic()
        page.wait("reconnected", call=call)
        back = time.monotonic() - began
        page.hears(call, 1400)
        lost = page.run(f"phone.stats({call})")["in"]["lost"] - before["in"]["lost"]
        self.scenario.check(lost <= 5, f"{lost} packets lost")
        page.run(f"phone.calls[{call}].disconnect()")
        ended = self.server.ended(lambda one: one["sid"] == sid)
        self.scenario.equal(ended["status"], "completed", "the call")
        return f"{lost} packets lost, the page back after {back:.1f} s"

    def lost_machine(self):
        """The machine is lost on which the media of two pages is, and another is there: who speaks SIP is told at once, and the SDK begins anew when the browser has noticed."""
        self.scenario.equal(self.server.stop(), 0, "exit code")
        self.server.write_config(self.config.replace("workers = 1", "workers = 0") + f'\n[cluster]\nlisten = "{CLUSTER}"\ndir = "cluster"\n')
        code, told = self.server.run("cluster", "init", "--dir", "cluster")
        self.scenario.equal(code, 0, told)
        code, token = self.server.run("cluster", "join-token", "--dir", "cluster", "--role", "worker")
        self.server.start()
        active = lambda: [worker["id"].split("-")[0] for worker in self.server.workers("active")]
        left = Machine(self.scenario, CLUSTER, "left", "20810-20829", token.strip())
        wait_for(lambda: active() == ["left"], 5, "a machine")
        calls = {"sdk": (sdk := self.page("judy", 1500), self.sdk_call(sdk)), "jssip": (page := self.sip_page("page", 1600), self.jssip_call(page))}
        right = Machine(self.scenario, CLUSTER, "right", "20830-20849", token.strip())
        wait_for(lambda: sorted(active()) == ["left", "right"], 5, "another machine")
        peers = {"sdk": "phone.calls[0]._mediaHandler.version.pc", "jssip": "phone.calls[0].connection"}
        ufrags = {name: page.run(UFRAG.format(peers[name])) for name, (page, _) in calls.items()}
        left.kill()
        began, back = time.monotonic(), {}
        for name in ("jssip", "sdk"):
            page, call = calls[name]
            wait_for(lambda: page.run(UFRAG.format(peers[name])) != ufrags[name], 20, f"{name} to have another address", every=0.1)
            page.hears(call, {"sdk": 1500, "jssip": 1600}[name])
            back[name] = time.monotonic() - began
        self.scenario.check(back["jssip"] < 4, f"who speaks SIP is told at once: {back}")
        for page, call in calls.values():
            page.run(f"phone.calls[{call}].{'disconnect' if page is sdk else 'terminate'}()")
        wait_for(lambda: not self.server.live(), 5, "the calls to end")
        self.scenario.equal({one["status"] for one in self.server.calls()}, {"completed"}, "how they ended")
        right.stop(0)
        return ", ".join(f"{name} heard again after {seconds:.1f} s" for name, seconds in back.items())

    def sdk_call(self, page):
        call = page.connect()
        page.wait("accept")
        page.hears(call, 1500)
        return call

    def jssip_call(self, page):
        page.run(f"phone.openJsSip('wss://{self.host}/sip', 'sip:page@dialtone', '{USER_SECRET}')")
        page.wait("registered")
        page.run(f"phone.call('sip:{CALLED}@dialtone')")
        call = page.wait("confirmed")["call"]
        page.hears(call, 1600)
        return call


def main():
    with Scenario(__file__) as scenario:
        lost = Lost(scenario)
        for part in (lost.start, lost.killed_edge, lost.lost_machine, lost.stop):
            scenario.step(part.__name__.replace("_", " "), part)
        scenario.summary = "calls of pages outlive the edge, and the machine that has their media"


main()
