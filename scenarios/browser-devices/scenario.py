"""What happens to browsers: several devices of one identity, connections that break, networks that change, workers that die, tokens that are wrong."""

import concurrent.futures
import json
import os
import pathlib
import signal
import socket
import sys
import threading
import time
from urllib.parse import parse_qsl

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import many
import requests
from twilio.request_validator import RequestValidator

from lib.browsers import USER_SECRET, Browsers, application, tone
from lib.document import Document
from lib.edges import child
from lib.rtp import Rtp, tone_level, ulaw_encode
from lib.scenario import AtOnce, Scenario, wait_for
from lib.server import ACCOUNT, AUTH_TOKEN, number, user
from lib.sip import sdp

ECHO, DESK, NINA = ("AP" + digit * 32 for digit in "123")
OTHER = "AC" + "7" * 32
# A line without a connection has given its calls up by then.
GIVEN_UP = 12
# A connection of HTTP that says nothing is closed by then.
IDLE = 23
PORT = "/candidate:1 1 udp \\d+ \\S+ (\\d+)/.exec(phone.calls[0]._mediaHandler.version.pc.remoteDescription.sdp)[1]"


class Devices(Browsers):
    def __init__(self, scenario):
        more = application(ECHO, "<Echo/>") + application(DESK, "<Dial timeout='10'><Client>desk</Client></Dial>") + application(NINA, "<Dial timeout='10'><Client>nina</Client></Dial>") + user("desk", USER_SECRET) + number("+15550009999", "<Echo/>")
        super().__init__(scenario, 20460, ECHO, more, workers=1)

    def start(self):
        super().start()
        self.register_telephone()

    def register_telephone(self):
        """Once the server is whole."""
        wait_for(lambda: self.server.workers("active") and self.server.workers("standby"), 5, "a worker and a standby")
        self.desk = self.telephone()

    def several_devices(self):
        """A telephone and two browsers of one identity ring at once, each offered what it speaks; the first that answers has the call."""
        equal, alice = self.scenario.equal, self.page("alice3", 950, application=DESK)
        desks = [self.page(f"desk{number}", 1500 + 100 * number, identity="desk") for number in (1, 2)]
        [page.register() for page in desks]
        for answers in ("browser", "telephone"):
            call = alice.connect()
            incoming = self.desk.wait_invite()
            incoming.respond(180)
            ringing = [page.wait("incoming")["call"] for page in desks]
            offer = incoming.invite.body.decode()
            self.scenario.check(" RTP/AVP " in offer and "ice-ufrag" not in offer, f"what the telephone is offered: {offer}")
            if answers == "browser":
                desks[1].run(f"phone.calls[{ringing[1]}].accept()")
                alice.wait("accept")
                desks[0].wait("cancel")
                self.scenario.check("completed elsewhere" in incoming.wait_cancel().header("reason"), "why the telephone stops ringing")
                desks[1].hears(ringing[1], 950)
                alice.hears(call, 1700)
                # Its connection breaks, and nobody takes the call for that of the other device, which had the same one ringing.
                desks[1].run("phone.device._stream.transport._socket.close()")
                desks[1].wait("reconnected", call=ringing[1])
                if self.scenario.long:
                    time.sleep(GIVEN_UP)
                    desks[1].wait("registered")
                desks[1].hears(ringing[1], 950)
            else:
                rtp = Rtp()
                rtp.remote = incoming.invite.media()
                incoming.accept(sdp(rtp.host, rtp.port))
                [page.wait("cancel") for page in desks]
                rtp.play(ulaw_encode(tone(770, 5)), wait=False)
                alice.hears(call, 770)
                wait_for(lambda: tone_level(rtp.heard()[-4000:], 950) > 1500, 5, "the telephone to hear the browser", every=0.2)
                rtp.close()
            sid = alice.state(call)["sid"]
            alice.run(f"phone.calls[{call}].disconnect()")
            alice.wait("disconnect")
            if answers == "telephone":
                incoming.wait_bye()
            child = self.server.ended(lambda one: one.get("parent") == sid)
            equal(child["status"], "completed", "the one call to all devices")
        [page.run("phone.device.destroy()") for page in desks]

    def comes_back(self):
        """The connection breaks: the call goes on, and another connection takes it up. Then the network changes: ICE begins anew."""
        page = self.page("alice5", 1150)
        call = page.connect()
        page.wait("accept")
        page.hears(call, 1150)
        page.run("phone.device._stream.transport._socket.close()")
        page.wait("reconnected", call=call)
        page.hears(call, 1150)
        ufrag = "/ice-ufrag:(\\S+)/.exec(phone.calls[0]._mediaHandler.version.pc.remoteDescription.sdp)[1]"
        before = page.run(ufrag)
        page.run(f"phone.calls[{call}]._mediaHandler.iceRestart()")
        wait_for(lambda: page.run(ufrag) != before, 5, "another name of ours")
        page.hears(call, 1150)
        sid = page.state(call)["sid"]
        page.run(f"phone.calls[{call}].disconnect()")
        self.server.ended(lambda one: one["sid"] == sid)
        # The old connection is found to be gone only when there is a new one: that one has the call, and is told of its end.
        call = page.connect()
        page.wait("accept")
        page.run("window.old = phone.device._stream.transport._socket; window.close_ = WebSocket.prototype.close; WebSocket.prototype.close = () => {}")
        page.run("phone.device._stream.transport._closeSocket()")
        page.wait("reconnected", call=call)
        page.run("WebSocket.prototype.close = close_; old.close()")
        time.sleep(0.5)
        page.hears(call, 1150)
        sid = page.state(call)["sid"]
        url = f"http://127.0.0.1:20461/2010-04-01/Accounts/{ACCOUNT}/Calls/{sid}.json"
        requests.post(url, {"Status": "completed"}, auth=(ACCOUNT, AUTH_TOKEN), timeout=5).raise_for_status()
        page.wait("disconnect", call=call)

    def killed_worker(self):
        """The worker dies under a browser's call: the next one has its port, its keys and its numbers, and the page notices nothing."""
        page = self.page("frank", 1250)
        call = page.connect()
        page.wait("accept")
        page.hears(call, 1250)
        before = page.run(f"phone.stats({call})")
        os.kill(self.server.workers("active")[0]["pid"], signal.SIGKILL)
        more = lambda: page.run(f"phone.stats({call})")["in"]["packets"] > before["in"]["packets"] + 100
        wait_for(more, 6, "packets of the next worker", every=0.2)
        page.hears(call, 1250)
        after = page.run(f"phone.stats({call})")
        self.scenario.equal((after["transport"]["ice"], after["transport"]["dtls"]), ("connected", "connected"), "the transport")
        self.scenario.equal([event for event in page.events() if event["name"] in ("error", "call-error", "reconnecting")], [], "what the page has noticed")
        lost = after["in"]["lost"] - before["in"]["lost"]
        self.scenario.check(lost <= 5, f"{lost} packets lost")
        page.run(f"phone.calls[{call}].disconnect()")
        return f"{lost} packets lost"

    def made_account(self):
        """A page of an account that the account has made is rung by a document of the account itself, which has no such client; its call goes on by another connection."""
        at = "http://127.0.0.1:20461/2010-04-01/Accounts"
        ask = lambda path, form, login: requests.post(f"{at}{path}", form, auth=login, timeout=5).json()
        made = ask(".json", {"FriendlyName": "a customer"}, (ACCOUNT, AUTH_TOKEN))
        key = ask(f"/{made['sid']}/Keys.json", {"FriendlyName": "pages"}, (made["sid"], made["auth_token"]))
        nina = self.page("nina", 1250, account=made["sid"], key=key["sid"], secret=key["secret"])
        nina.register()
        alice = self.page("alice7", 950, application=NINA)
        call = alice.connect()
        incoming = nina.wait("incoming")["call"]
        self.scenario.equal(nina.state(incoming)["parameters"]["From"], "client:alice7", "who calls")
        nina.run(f"phone.calls[{incoming}].accept()")
        alice.wait("accept")
        alice.hears(call, 1250)
        nina.run("phone.device._stream.transport._socket.close()")
        nina.wait("reconnected", call=incoming)
        nina.hears(incoming, 950)
        alice.run(f"phone.calls[{call}].disconnect()")
        nina.wait("disconnect", call=incoming)
        nina.run("phone.device.destroy()")

    def messages(self):
        """What a page says in a call reaches who has subscribed to it, signed and in order; what the application says reaches the page, once; and what cannot be taken is told."""
        equal, page, told = self.scenario.equal, self.page("lena", 1150), []

        def take(request):
            params = dict(parse_qsl(request.form, keep_blank_values=True))
            told.append((params, RequestValidator(AUTH_TOKEN).validate(self.application.url + request.path, params, request.headers["X-Twilio-Signature"])))
            request.document("")

        self.application = Document(20467, take)
        self.application.url = "http://127.0.0.1:20467"
        call = page.connect()
        page.wait("accept")
        sid = page.state(call)["sid"]
        at = f"http://127.0.0.1:20461/2010-04-01/Accounts/{ACCOUNT}/Calls/{sid}"
        ask = lambda method, path, of=at, **form: requests.request(method, f"{of}/{path}", data=form, auth=(ACCOUNT, AUTH_TOKEN), timeout=5)
        made = ask("POST", "UserDefinedMessageSubscriptions.json", Callback=self.application.url + "/said")
        equal((made.status_code, made.json()["sid"][:2], made.json()["call_sid"]), (201, "ZY", sid), "a subscription")
        say = lambda content, kind="user-defined-message": page.run(f"phone.calls[{call}].sendMessage({json.dumps({'content': content, 'messageType': kind, 'contentType': 'application/json'})})")
        first = say({"mood": "good & bad", "n": 1})
        page.wait("message-sent")
        second = say({"n": 2})
        wait_for(lambda: len(told) == 2, 3, "two messages")
        for number, (wanted, (params, is_signed)) in enumerate(zip((first, second), told)):
            equal((params["Sid"], params["CallSid"], params["AccountSid"], params["SequenceNumber"], params["ContentType"]), (wanted, sid, ACCOUNT, str(number), "application/json"), "what is told")
            equal(is_signed, True, "its signature")
        equal(json.loads(told[0][0]["Content"]), {"mood": "good & bad", "n": 1}, "what the page has said")
        for _ in range(2):
            made = ask("POST", "UserDefinedMessages.json", Content='{"from": "the application"}', IdempotencyKey="one")
            equal((made.status_code, made.json()["sid"][:2]), (201, "KX"), "a message")
        ask("POST", "UserDefinedMessages.json", Content='["two"]')
        page.wait("message", content=["two"])
        heard = [event["content"] for event in page.events("message")]
        equal(heard, [{"from": "the application"}, ["two"]], "what the page has heard")
        equal(ask("POST", "UserDefinedMessages.json", Content="{no json").status_code, 400, "what is no JSON")
        for content, kind, code in (({}, "another-kind", 31210), ({"long": "x" * 9000}, "user-defined-message", 31212)):
            say(content, kind)
            equal(page.wait("call-error")["code"], code, "an error of the SDK")
        # Whoever has no use for them is sent none.
        rtp = Rtp()
        phone = self.desk.invite("+15550009999", sdp(rtp.host, rtp.port)).accepted()
        other = wait_for(lambda: next((one["sid"] for one in self.server.live() if one["sid"] != sid), None), 3, "the telephone's call")
        refused = ask("POST", "UserDefinedMessages.json", of=at.replace(sid, other), Content="{}")
        equal(refused.status_code, 400, f"a message to a telephone: {refused.text}")
        phone.bye()
        rtp.close()
        equal(ask("DELETE", f"UserDefinedMessageSubscriptions/{'ZY' + '0' * 32}.json").status_code, 404, "another subscription")
        subscriptions = ask("POST", "UserDefinedMessageSubscriptions.json", Callback=self.application.url + "/more").json()["sid"]
        equal(ask("DELETE", f"UserDefinedMessageSubscriptions/{subscriptions}.json").status_code, 204, "the end of it")
        say({"n": 3})
        wait_for(lambda: len(told) == 3, 3, "a third message")
        page.run(f"phone.calls[{call}].disconnect()")
        self.server.ended(lambda one: one["sid"] == sid)
        equal(ask("POST", "UserDefinedMessages.json", Content="{}").status_code, 400, "a message to a call that is over")
        equal(len(told), 3, "messages in all")

    def tokens(self):
        """What is wrong with a token is told by the SDK's own errors."""
        cases = {
            "signature": (self.token("eve", secret="another"), 20101),
            "key": (self.token("eve", key="SK" + "6" * 32), 20101),
            "expired": (self.token("eve", ttl=-5), 20104),
            "account": (self.token("eve", account=OTHER), 20101),
        }
        page = self.browser.page("eve", 500)
        for name, (made, code) in cases.items():
            page.open(made, chunderw=self.host)
            page.run("void phone.device.register().catch(() => {})")
            self.scenario.equal(page.wait("error")["code"], code, name)
            page.run("phone.device.destroy()")
        page.open(self.token("mute", incoming=False), chunderw=self.host)
        page.run("void phone.device.register().catch(() => {})")
        page.wait("error")
        page.run("phone.device.destroy()")
        page.open(self.token("lost", application="AP" + "9" * 32), chunderw=self.host, enableImprovedSignalingErrorPrecision=True)
        page.connect()
        self.scenario.equal(page.wait("call-error")["code"], 31404, "no such application")

    def sprayed(self):
        """50 calls are set up while a stranger sprays the browsers' port with DTLS and with checks that prove nothing; and how long each takes until something is heard."""
        page, times, sent = self.page("grace", 1550), [], 0
        call = page.connect()
        page.wait("accept")
        port = page.run(PORT)
        page.run(f"phone.calls[{call}].disconnect()")
        stop, hello = threading.Event(), bytes([22, 254, 253] + [0] * 8 + [0, 60, 1] + [7] * 59)
        check = bytes([0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42]) + bytes(12)

        def spray():
            nonlocal sent
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.settimeout(0)
                while not stop.is_set():
                    for datagram in (hello, check, os.urandom(200)):
                        stranger.sendto(datagram, ("127.0.0.1", int(port)))
                        sent += 1
                    try:
                        self.answered = stranger.recv(2000)
                    except OSError:
                        pass
                    time.sleep(0.001)

        self.answered, thread = None, threading.Thread(target=spray, daemon=True)
        thread.start()
        for _ in range(50):
            times.append(page.run("phone.timed()"))
        stop.set()
        thread.join(2)
        self.scenario.equal(self.answered, None, "what the stranger was answered")
        self.scenario.check(all(times), f"calls without sound: {times}")
        return f"{sent} datagrams of a stranger; heard after {sorted(times)[25]:.0f} ms (p50), {max(times):.0f} ms at most"

    def talking(self):
        """What each call between a page and a telephone takes of memory, at the edge and at its worker, once the page's other connections are closed."""
        plain, opus = self.weight("pcmu"), self.weight("opus")
        self.scenario.check(opus[1] - plain[1] > 50, f"{opus[1]:.0f} kB for the codec of Opus: it was not at work")
        # What the pages' other connections give back to the edge meanwhile is not the calls'.
        edge = max(0, plain[0], opus[0])
        past, through = edge + plain[1], edge + opus[1]
        self.scenario.check(10 < past < 250 and through < 250, f"{past:.0f} and {through:.0f} kB for a call")
        return f"a call takes {past:.0f} kB ({edge:.0f} at the edge), one that goes through the codec of Opus {through:.0f} kB"

    def weight(self, codec):
        """Kilobytes of a call at the edge, and at its worker, of a server whose memory nothing has used before."""
        self.server.stop()
        self.server.start()
        self.register_telephone()
        pids = [child(self.server, "edge"), *(worker["pid"] for worker in self.server.workers("active"))]
        memory = lambda: [many.memory_and_cpu([pid])[0] for pid in pids]
        pages = [self.page(f"{codec}{at}", 400 + 40 * at, application=DESK, codecs=(codec,)) for at in range(9)]
        for at, page in enumerate(pages):
            if at == 1:
                time.sleep(IDLE)
                before = memory()
            call, rtp = page.connect(), Rtp()
            incoming = self.desk.wait_invite()
            rtp.remote = incoming.invite.media()
            incoming.accept(sdp(rtp.host, rtp.port))
            rtp.play(ulaw_encode(tone(700, 60)), wait=False)
            page.wait("accept")
        time.sleep(IDLE)
        after = memory()
        pages[-1].hears(call, 700)
        for page in pages:
            page.run("phone.calls[0].disconnect()")
        wait_for(lambda: not self.server.live(), 5, "the calls to end")
        # A browser has so many outputs of sound at once.
        [page.close() for page in pages]
        return [(now - then) / (len(pages) - 1) / 1024 for then, now in zip(before, after)]

    def quiet(self):
        """Registered browsers that say nothing."""
        registered = lambda: int(self.server.metric("dialtone_presence_identities", status="available")) - 1
        kilobytes, share = many.measure(20461, self.token, [child(self.server, "edge")], registered)
        self.scenario.check(kilobytes < 40 and share < 0.02, f"{kilobytes:.1f} kB each, and {share:.1%} of a processor")
        return f"{many.COUNT} browsers: {kilobytes:.1f} kB each, {share:.2%} of a processor"


def main():
    with Scenario(__file__) as scenario, concurrent.futures.ThreadPoolExecutor(4) as pool:
        devices = Devices(scenario)
        named = lambda *parts: {part.__name__.replace("_", " "): part for part in parts}
        one_by_one = lambda *parts: [scenario.step(name, part) for name, part in named(*parts).items()]
        one_by_one(devices.start, devices.several_devices, devices.killed_worker)
        AtOnce(pool, scenario, named(devices.comes_back, devices.made_account, devices.tokens)).tell()
        one_by_one(devices.messages, *([devices.sprayed, devices.talking, devices.quiet] if scenario.long else []), devices.stop)
        scenario.summary = "the first device that answers has the call; it outlives its connection, its network and its worker"


main()
