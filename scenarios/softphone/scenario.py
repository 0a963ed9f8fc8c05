"""A softphone registers at `dialtone dev`, calls, presses a key, and hears what was sent."""

import json
import pathlib
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lib.baresip import Baresip
from lib.document import Document
from lib.rtp import correlation, noise, ulaw_decode
from lib.scenario import Scenario, wait_for
from lib.server import Server

SIP, HTTP, RTP, APP = "127.0.0.1:12060", "127.0.0.1:12040", "12100-12299", 12045
ENOUGH = 0.9
PROMPTS = pathlib.Path(__file__).resolve().parent.parent.parent / "src/speech/prompts"


def prompt(name):
    return ulaw_decode((PROMPTS / f"{name}.ulaw").read_bytes())


class Dev(Server):
    """`dialtone dev` in an empty folder."""

    def __init__(self, scenario):
        super().__init__(scenario, f'[http]\nlisten = "{HTTP}"\n', name="dev")
        self.config_file.unlink()
        began = time.monotonic()
        out = open(self.folder / "greeting", "wb")
        argv = [scenario.dialtone, "dev", "--sip", SIP, "--http", HTTP, "--rtp", RTP, "--app", f"http://127.0.0.1:{APP}/voice", "--json"]
        self.process = scenario.start(argv, cwd=self.folder, stdout=out, stderr=open(self.log_file, "wb"))
        wait_for(self._answers, 10, "the server to be ready")
        self.ready_after = time.monotonic() - began
        wait_for(lambda: (self.folder / "greeting").read_text().endswith("\n"), 2, "the greeting")
        self.greeting = json.loads((self.folder / "greeting").read_text())

    def calls(self, limit=1000):
        """Without --config: the folder is where `dev` runs."""
        code, text = self.run("calls", "--limit", str(limit), "--json")
        self.scenario.equal(code, 0, f"dialtone calls ({text[:200]})")
        return json.loads(text)["calls"]

    def call(self, sid):
        return json.loads(self.run("call", sid, "--json")[1])


class Phones:
    def __init__(self, scenario):
        self.scenario = scenario
        self.told = {}

    def start(self):
        self.dev = Dev(self.scenario)
        self.scenario.check(self.dev.ready_after < 2, f"ready only after {self.dev.ready_after:.2f} s")
        greeting = self.dev.greeting
        self.scenario.equal(greeting["sip"], SIP, "SIP address")
        self.scenario.equal(greeting["numbers"], {"+15550000001": "menu", "+15550000002": "echo"}, "demo numbers")
        secrets = {user["username"]: user["password"] for user in greeting["users"]}
        self.sent = noise(2.5, seed=3)
        quiet = [0] * 8000 * 60
        lead = [0] * 8000
        self.desk = Baresip(self.scenario, "desk", SIP, "desk", secrets["desk"], 12070, 12080, (12400, 12419), quiet)
        self.mobile = Baresip(self.scenario, "mobile", SIP, "mobile", secrets["mobile"], 12072, 12082, (12420, 12439), lead + self.sent + lead * 30)
        for phone in (self.desk, self.mobile):
            phone.says("200 OK")
        return f"ready in {self.dev.ready_after:.2f} s, two phones registered"

    def menu(self):
        self.desk.dial("+15550000001")
        self.mobile.dial("+15550000002")
        menu, pressed = prompt("demo-menu"), prompt("pressed-one")
        # After the prompt nothing is sent, and the phone writes its recording in blocks: the last one may be missing.
        lengths = []

        def is_over():
            lengths.append(len(self.desk.heard()))
            return len(set(lengths[-3:])) == 1 and correlation(menu, self.desk.heard()) >= ENOUGH

        wait_for(is_over, 10, "the menu's prompt", every=0.2)
        self.told["menu"] = correlation(menu, self.desk.heard())
        self.scenario.check(self.told["menu"] >= ENOUGH, f"the menu: correlation {self.told['menu']:.3f}")
        before = len(self.desk.heard())
        excerpt = pressed[: 8000 * 3]
        self.scenario.check(correlation(excerpt, self.desk.heard()) < 0.5, "the answer to key 1 was heard before it was pressed")
        self.desk.press("1")
        wait_for(lambda: correlation(excerpt, self.desk.heard()[before:]) >= ENOUGH, 6, "the prompt after key 1", every=0.25)
        # By now the recording has all of the menu.
        self.told["menu"] = correlation(menu, self.desk.heard())
        self.told["key 1"] = correlation(excerpt, self.desk.heard()[before:])
        return f"correlation {self.told['menu']:.3f} and, after key 1, {self.told['key 1']:.3f}"

    def echo(self):
        wait_for(lambda: correlation(self.sent, self.mobile.heard()) >= ENOUGH, 5, "the echo", every=0.25)
        self.told["echo"] = correlation(self.sent, self.mobile.heard())
        return f"correlation {self.told['echo']:.3f}"

    def check_can_fail(self):
        """The same comparison, where it must not hold."""
        heard, menu = self.desk.heard(), prompt("demo-menu")
        for name, wanted, recording in [
            ("silence instead of the recording", menu, [0] * len(heard)),
            ("noise instead of the recording", menu, noise(len(heard) / 8000, seed=9)),
            ("another prompt: goodbye", prompt("goodbye"), heard),
            ("another prompt: pressed-two", prompt("pressed-two"), heard),
            ("the menu in the recording of the echo", menu, self.mobile.heard()),
            ("the menu backwards", menu[::-1], heard),
        ]:
            found = correlation(wanted, recording)
            self.scenario.check(found < 0.5, f"{name} passes with {found:.3f}")
            self.told["worst impostor"] = max(self.told.get("worst impostor", 0), found)
        return f"worst impostor {self.told['worst impostor']:.3f}"

    def hang_up(self):
        self.dev.wait_metric(2, "dialtone_registrations")
        for phone in (self.desk, self.mobile):
            phone.command("/hangup\n")
        for user, number, verbs in (("desk", "+15550000001", {"gather"}), ("mobile", "+15550000002", {"echo"})):
            call = self.dev.ended(lambda call: call["via"] == user)
            self.scenario.equal((call["to"], call["status"], call["completed"]["ended_by"]), (number, "completed", "peer"), user)
            started = {event["verb"].lower() for event in call["events"] if event["type"] == "verb_started"}
            self.scenario.check(verbs <= started, f"verbs of {user}: {started}")
            media = call["completed"]["media"]
            self.scenario.check(media["packets_sent"] > 100 and media["packets_lost"] == 0, f"media of {user}: {media}")

    def transfer(self):
        """Desk transfers its caller by its own command: the caller hears what the application says next."""
        dial = "<Response><Dial referUrl='/next' action='/over'><Client>desk</Client></Dial></Response>"
        application = Document(APP, lambda request: request.document("<Response><Echo/></Response>" if request.path == "/next" else dial))
        before = len(self.mobile.heard())
        self.mobile.dial("+15557654321")
        self.desk.says("Incoming call from")
        self.desk.command("/accept\n")
        wait_for(lambda: any(call["to"] == "client:desk" and call["status"] == "in-progress" for call in self.dev.calls()), 5, "desk's leg")
        self.desk.command("/transfer sip:+15550000009@carrier.example\n")
        told = application.wait("/next ")
        self.scenario.check("ReferTransferTarget=sip%3A%2B15550000009%40carrier.example" in told and "Direction=inbound" in told, told)
        # The NOTIFY says that it is taken, and then desk is hung up.
        self.dev.ended(lambda call: call["to"] == "client:desk")
        wait_for(lambda: correlation(self.sent, self.mobile.heard()[before:]) >= ENOUGH, 8, "the caller's echo after the transfer", every=0.25)
        self.told["after the transfer"] = correlation(self.sent, self.mobile.heard()[before:])
        self.mobile.command("/hangup\n")
        caller = self.dev.ended(lambda call: "+15557654321" in call["to"])
        self.scenario.equal((caller["status"], caller["completed"]["ended_by"]), ("completed", "peer"), "the caller")
        self.scenario.check(not any(path.startswith("/over") for path in application.seen), f"the action was asked: {application.seen}")
        return f"correlation {self.told['after the transfer']:.3f}"

    def unregister(self):
        for phone in (self.desk, self.mobile):
            phone.process.send_signal(signal.SIGTERM)
            phone.process.wait(5)
        self.dev.wait_metric(0, "dialtone_registrations")
        self.scenario.equal(self.dev.stop(), 0, "exit code")


def main():
    with Scenario(__file__) as scenario:
        phones = Phones(scenario)
        for part in (phones.start, phones.menu, phones.echo, phones.check_can_fail, phones.hang_up, phones.transfer, phones.unregister):
            scenario.step(part.__name__.replace("_", " "), part)
        told = ", ".join(f"{name} {value:.3f}" for name, value in phones.told.items())
        scenario.summary = f"baresip registered, called and pressed a key; correlation: {told}"


main()
