"""Pages with JsSIP and SIP.js in a real Chromium: users of this server by SIP over WebSocket."""

import os
import pathlib
import signal
import socket
import ssl
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import requests

from lib.browsers import USER_SECRET, Browsers, tone
from lib.document import Document
from lib.edges import child
from lib.rtp import Rtp, tone_level, ulaw_encode
from lib.scenario import Scenario, wait_for
from lib.server import ACCOUNT, AUTH_TOKEN, number, user
from lib.sip import sdp

ECHO, RING, ASK, MOVES = "+15554000", "+15554001", "+15554002", "+15554003"
HANDSHAKE = "GET /sip HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MTIzNDU2Nzg5MDEyMzQ1Ng==\r\n"


class Sip(Browsers):
    def __init__(self, scenario):
        more = number(ECHO, "<Echo/>") + number(RING, "<Dial><Client>page</Client></Dial>") + user("desk", USER_SECRET) + user("page", USER_SECRET) + user("other", USER_SECRET)
        more += number(MOVES, f"<Dial referUrl='http://127.0.0.1:20513/moved'><Client>page</Client></Dial>")
        more += number(ASK, "<Gather numDigits='3' timeout='8'><Pause length='8'/></Gather>")
        super().__init__(scenario, 20510, "", more, sip_more='digest = ["MD5"]\norigins = ["http://localhost:20512"]', workers=1)

    def start(self):
        super().start()
        self.url = f"wss://{self.host}/sip"
        self.page = self.sip_page("page", 1350)
        self.page.run(f"phone.openJsSip('{self.url}', 'sip:page@dialtone', '{USER_SECRET}')")
        self.page.wait("registered")

    def jssip_calls(self):
        """JsSIP calls an echo and hears itself, holds and goes on, and hangs up."""
        page = self.page
        page.run(f"phone.call('sip:{ECHO}@dialtone')")
        call = page.wait("confirmed")["call"]
        page.hears(call, 1350)
        page.run(f"void phone.calls[{call}].hold()")
        page.wait("hold")
        page.run(f"void phone.calls[{call}].unhold()")
        page.wait("unhold")
        page.hears(call, 1350)
        transport = next(one for one in page.run(f"phone.stats({call})") if one["type"] == "transport")
        self.scenario.equal(transport["dtlsState"], "connected", "DTLS")
        page.run(f"phone.calls[{call}].terminate()")
        page.wait("ended")
        ended = self.server.ended(lambda one: one["to"] == ECHO)
        self.scenario.equal((ended["from"], ended["status"]), ("sip:page@dialtone", "completed"), "the record")

    def jssip_is_called(self):
        """A telephone rings the page of a user: both hear each other, and the telephone hangs up."""
        page, rtp, desk = self.page, Rtp(), self.telephone()
        call = desk.invite(RING, sdp(rtp.host, rtp.port)).accepted()
        incoming = page.wait("incoming")
        self.scenario.equal(incoming["from"], "desk", "who calls")
        page.run(f"phone.answer({incoming['call']})")
        page.wait("confirmed")
        rtp.remote = call.answer.media()
        rtp.play(ulaw_encode(tone(660, 5)), wait=False)
        page.hears(incoming["call"], 660)
        wait_for(lambda: tone_level(rtp.heard()[-4000:], 1350) > 1500, 5, "the telephone to hear the page", every=0.2)
        page.run(f"phone.calls[{incoming['call']}].sendDTMF('7', {{ transportType: 'RFC2833' }})")
        wait_for(lambda: rtp.digits() == "7", 3, "the digit", every=0.1)
        call.bye()
        page.wait("ended")
        rtp.close(), desk.close()

    def jssip_transfers(self):
        """A telephone calls the page, which transfers it (REFER, RFC 3515): the page is told, and the telephone hears where it was sent."""
        page, rtp, desk, moved = self.page, Rtp(), self.telephone(), Document(20513, "<Response><Echo/></Response>")
        call = desk.invite(MOVES, sdp(rtp.host, rtp.port)).accepted()
        incoming = page.wait("incoming")["call"]
        page.run(f"phone.answer({incoming})")
        page.wait("confirmed")
        rtp.remote = call.answer.media()
        rtp.play(ulaw_encode(tone(620, 6)), wait=False)
        page.hears(incoming, 620)
        page.run(f"phone.refer({incoming}, 'sip:{ECHO}@dialtone')")
        page.wait("ended")
        # Its own tone comes back from where it was sent, and the page's does not.
        wait_for(lambda: tone_level(rtp.heard()[-4000:], 620) > 1500 and tone_level(rtp.heard()[-4000:], 1350) < 100, 5, "the telephone to hear itself", every=0.2)
        moved.wait(f"ReferTransferTarget=sip%3A%2B{ECHO[1:]}%40dialtone")
        call.bye()
        rtp.close(), desk.close()

    def sipjs(self):
        """SIP.js calls the page of JsSIP, and they hear each other; its keys come by INFO."""
        page, other = self.page, self.sip_page("other", 1450)
        other.run(f"phone.openSipJs('{self.url}', 'sip:other@dialtone', 'other', '{USER_SECRET}')")
        other.wait("registered")
        other.run("phone.user.call('sip:page@dialtone')")
        mine = other.wait("created")["call"]
        theirs = page.wait("incoming")["call"]
        page.run(f"phone.answer({theirs})")
        other.wait("confirmed")
        other.hears(mine, 1350)
        page.hears(theirs, 1450)
        other.run("phone.user.hold()")
        other.wait("hold")
        other.run("phone.user.unhold()")
        other.wait("unhold")
        page.hears(theirs, 1450)
        page.run(f"phone.calls[{theirs}].terminate()")
        other.wait("ended")
        other.run(f"phone.user.call('sip:{ASK}@dialtone')")
        other.wait("confirmed")
        for key in "48#":
            other.run(f"phone.user.sendDTMF('{key}')")
        other.wait("ended")

    def killed_edge(self):
        """The edge dies under a call: it goes on, and follows the page to its next WebSocket as soon as that is registered."""
        page = self.page
        call = page.run("phone.calls.length")
        page.run(f"phone.call('sip:{ECHO}@dialtone')")
        page.wait("confirmed", call=call)
        page.hears(call, 1350)
        os.kill(child(self.server, "edge"), signal.SIGKILL)
        page.wait("registered", seconds=10)
        page.hears(call, 1350)
        # The page has said nothing in the call since.
        (one,) = (one for one in self.server.calls() if one["status"] == "in-progress")
        url = f"http://127.0.0.1:20511/2010-04-01/Accounts/{ACCOUNT}/Calls/{one['sid']}.json"
        requests.post(url, {"Status": "completed"}, auth=(ACCOUNT, AUTH_TOKEN), timeout=5).raise_for_status()
        page.wait("ended", call=call)

    def refusals(self):
        """Without the subprotocol, from elsewhere, and with a wrong password."""
        for more, wanted in [("", 400), ("Sec-WebSocket-Protocol: sip\r\nOrigin: https://elsewhere.example\r\n", 403), ("Sec-WebSocket-Protocol: chat, sip\r\n", 101)]:
            with ssl._create_unverified_context().wrap_socket(socket.create_connection(("127.0.0.1", 20511)), server_hostname="localhost") as connection:
                connection.sendall((HANDSHAKE + more + "\r\n").encode())
                answer = connection.recv(4000).decode()
            self.scenario.equal(int(answer.split()[1]), wanted, f"the answer to {more!r}: {answer}")
            self.scenario.equal("sec-websocket-protocol: sip\r\n" in answer.lower(), wanted == 101, "the subprotocol")
        page = self.sip_page("stranger", 500)
        page.run(f"phone.openJsSip('{self.url}', 'sip:page@dialtone', 'wrong')")
        page.wait("registrationFailed")


def main():
    with Scenario(__file__) as scenario:
        sip = Sip(scenario)
        for part in (sip.start, sip.jssip_calls, sip.jssip_is_called, sip.jssip_transfers, sip.sipjs, sip.killed_edge, sip.refusals, sip.stop):
            scenario.step(part.__name__.replace("_", " "), part)
        scenario.summary = "pages with JsSIP and SIP.js call and are called"


main()
