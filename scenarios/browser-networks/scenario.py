"""Pages on networks that let little through: no UDP at all, or nothing but a TURN server."""

import os
import pathlib
import random
import signal
import socket
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import requests

from lib.browsers import Browsers, application
from lib.scenario import Scenario, wait_for
from lib.server import ACCOUNT, AUTH_TOKEN

ECHO = "AP" + "1" * 32
TURN, TURN_SECRET = 20964, "secret-of-the-relay"
LOSSY_PATH = 20963
PORT = "/candidate:1 1 udp \\d+ \\S+ (\\d+)/.exec(window.told || phone.calls[0]._mediaHandler.version.pc.remoteDescription.sdp)[1]"
# What a network without UDP comes to: the page learns of no such candidate.
WITHOUT_UDP = """
    const set = RTCPeerConnection.prototype.setRemoteDescription;
    RTCPeerConnection.prototype.setRemoteDescription = function (told) {
      window.told = told.sdp;
      return set.call(this, { type: told.type, sdp: told.sdp.replace(/a=candidate:\\S+ \\d+ udp .*\\r\\n/g, "") });
    };
"""
PROTOCOL = """(async () => {
    const stats = [...(await phone.calls[0]._mediaHandler.version.pc.getStats()).values()];
    const pair = stats.find((one) => one.id === stats.find((other) => other.type === "transport").selectedCandidatePairId);
    return stats.find((one) => one.id === pair.localCandidateId).protocol;
})()"""
# What a page is told that is to reach the server by another port, and asks for lost packets, which no browser does by itself.
LOSSY = """
    const [told, said] = [RTCPeerConnection.prototype.setRemoteDescription, RTCPeerConnection.prototype.setLocalDescription];
    RTCPeerConnection.prototype.setRemoteDescription = function (answer) {
      window.told = answer.sdp;
      const sdp = answer.sdp.replace(/(a=candidate:\\S+ \\d+ udp \\d+ \\S+) \\d+/g, "$1 %d").replace(/a=candidate:\\S+ \\d+ tcp .*\\r\\n/g, "");
      return told.call(this, { type: answer.type, sdp });
    };
    RTCPeerConnection.prototype.setLocalDescription = function (offer) {
      return said.call(this, { type: offer.type, sdp: offer.sdp.replace(/a=rtcp-fb:(\\d+) transport-cc\\r\\n/g, "a=rtcp-fb:$1 nack\\r\\n") });
    };
"""


class LossyPath:
    """Between a page and the server. Of the audio each tenth packet is lost, each way, when it comes for the first time; or, with `share`, so much of all that comes."""

    def __init__(self, port):
        self.share, self.random = 0, random.Random(7)
        self.page = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.page.bind(("127.0.0.1", port))
        self.server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.at_page = self.at_server = None
        self.lost, self.came = {"page": set(), "server": set()}, {"page": set(), "server": set()}
        for name, own, other in (("page", self.page, self.server), ("server", self.server, self.page)):
            threading.Thread(target=self.carry, args=(name, own, other), daemon=True).start()

    def carry(self, name, own, other):
        lost, came = self.lost[name], self.came[name]
        while True:
            packet, source = own.recvfrom(2048)
            if name == "page":
                self.at_page = source
            to = self.at_server if name == "page" else self.at_page
            if to is None:
                continue
            if self.share:
                if self.random.random() < self.share:
                    continue
            elif len(packet) > 12 and packet[0] >> 6 == 2 and packet[1] & 0x7F == 111:
                seq = int.from_bytes(packet[2:4], "big")
                if seq % 10 == 0 and seq not in lost:
                    lost.add(seq)
                    continue
                if seq in lost:
                    came.add(seq)
            other.sendto(packet, to)


class Networks(Browsers):
    def __init__(self, scenario):
        turn = f'turn = {{ urls = ["turn:127.0.0.1:{TURN}?transport=udp"], secret = "{TURN_SECRET}" }}'
        super().__init__(scenario, 20960, ECHO, application(ECHO, "<Echo/>"), workers=1, media_more=turn)

    def start(self):
        super().start()
        wait_for(lambda: self.server.workers("active") and self.server.workers("standby"), 5, "a worker and a standby")

    def relayed(self):
        """A page that reaches nothing but a TURN server, by the credentials that its application was given: it hears itself; with others it does not connect."""
        settings = ["--use-auth-secret", f"--static-auth-secret={TURN_SECRET}", "--realm=dialtone", "--allow-loopback-peers", "--no-tls", "--no-dtls", "--no-cli", "--log-file=stdout", "--simple-log"]
        ports = [f"--listening-port={TURN}", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", f"--min-port={TURN + 1}", f"--max-port={TURN + 5}", f"--pidfile={self.scenario.folder}/turn.pid"]
        relay = self.scenario.start(["turnserver", "-n", *settings, *ports, f"--userdb={self.scenario.folder}/turn.db"], log="turn.log")
        url = f"http://127.0.0.1:20961/2010-04-01/Accounts/{ACCOUNT}/Tokens.json"
        servers = requests.post(url, {"Ttl": "60"}, auth=(ACCOUNT, AUTH_TOKEN), timeout=5).json()["ice_servers"]
        self.scenario.equal([server["urls"] for server in servers], [f"turn:127.0.0.1:{TURN}?transport=udp"], "the servers that the page is told of")
        page = self.page("heidi", 1650)
        only = {"iceServers": servers, "iceTransportPolicy": "relay"}
        call = page.connect(rtcConfiguration=only)
        page.wait("accept")
        page.hears(call, 1650)
        page.run(f"phone.calls[{call}].disconnect()")
        # The way was the relay's: one that it does not let in hears nothing.
        only["iceServers"] = [servers[0] | {"credential": "another"}]
        call = page.connect(rtcConfiguration=only)
        page.wait("accept")
        time.sleep(1)
        self.scenario.equal(page.run(f"phone.stats({call})").get("in", {}).get("packets", 0), 0, "packets without credentials")
        page.run(f"phone.calls[{call}].disconnect()")
        self.scenario.end(relay)

    def lossy(self):
        """A path that loses a tenth both ways, and a page that asks for what it misses: each packet comes after all, both ways."""
        path = LossyPath(LOSSY_PATH)
        page = self.page("luise", 1250, codecs=("opus", "pcmu"))
        page.run(LOSSY % LOSSY_PATH)
        call = page.connect()
        wait_for(lambda: page.run("!!window.told"), 5, "the answer")
        path.at_server = ("127.0.0.1", int(page.run(PORT)))
        page.wait("accept")
        page.hears(call, 1250)
        wait_for(lambda: min(len(lost) for lost in path.lost.values()) >= 20, 8, "losses", every=0.1)
        for name in ("page", "server"):
            lost, came = len(path.lost[name]), len(path.came[name])
            self.scenario.check(came >= lost - 2, f"{came} of {lost} packets of the {name} came after all")
        heard = page.run(f"phone.stats({call})")
        self.scenario.check(heard["in"]["lost"] <= 2 and heard["told"]["lost"] <= 2, f"what each says that it lost: {heard}")
        page.run(f"phone.calls[{call}].disconnect()")
        came = f"{len(path.came['page'])} packets of the page and {len(path.came['server'])} of the server came after all"
        if self.scenario.long:
            # Checks, handshake and all.
            path.share = 0.2
            times = [page.run("phone.timed()") for _ in range(40)]
            self.scenario.check(all(times), f"calls without sound where a fifth is lost: {times}")
            came += f"; of 40 calls where a fifth of all is lost half are heard after {sorted(times)[20]:.0f} ms, all after {max(times):.0f}"
        return came

    def without_udp(self):
        """A page from which no UDP port can be reached: its media goes by TCP, and (in the long form) again when the worker has died under it. Who connects and proves nothing is sent nothing."""
        page = self.page("kate", 1450)
        page.run(WITHOUT_UDP)
        call = page.connect()
        page.wait("accept")
        page.hears(call, 1450)
        self.scenario.equal(page.run(PROTOCOL), "tcp", "the way of the media")
        port = int(page.run(PORT))
        before = page.run(f"phone.stats({call})")
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            for frame in (bytes([22, 254, 253]) + bytes(60), bytes([128]) + bytes(171), b""):
                stranger.sendall(len(frame).to_bytes(2, "big") + frame)
            # What is longer than any packet is no frame.
            stranger.sendall(b"\xff\xff")
            stranger.settimeout(3)
            self.scenario.equal(stranger.recv(10), b"", "what a stranger is sent")
        if self.scenario.long:
            os.kill(self.server.workers("active")[0]["pid"], signal.SIGKILL)
            more = lambda: page.run(f"phone.stats({call})")["in"]["packets"] > before["in"]["packets"] + 200
            wait_for(more, 25, "packets of the next worker", every=0.2)
            page.hears(call, 1450)
            self.scenario.equal(page.run(PROTOCOL), "tcp", "the way of the media")
        page.run(f"phone.calls[{call}].disconnect()")


def main():
    with Scenario(__file__) as scenario:
        networks = Networks(scenario)
        scenario.steps(networks.start, networks.without_udp, networks.lossy, networks.relayed, networks.stop)
        scenario.summary = "pages hear themselves without UDP, and by a relay"


main()
