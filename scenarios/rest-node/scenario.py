"""A program of the official Node package makes and changes calls over the REST API."""

import json
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lib.rtp import Rtp
from lib.scenario import Scenario
from lib.server import ACCOUNT, AUTH_TOKEN, Server, base_config, number, user
from lib.sip import Phone, sdp

SIP, HTTP, MINE = ("127.0.0.1", 10360), "127.0.0.1:10340", "+15552000"
CONFIG = base_config(f"{SIP[0]}:{SIP[1]}", HTTP, "10400-10499", more=number(MINE, "<Echo/>") + user("bob", "secret-of-bob"))


class Rest:
    def __init__(self, scenario):
        self.scenario = scenario

    def program(self):
        equal = self.scenario.equal
        server = Server(self.scenario, CONFIG).start()
        bob, rtp = Phone(SIP, "bob", "secret-of-bob"), Rtp()
        equal(bob.register().status, 200, "REGISTER of bob")
        command = ["node", self.scenario.here / "program.js", f"http://{HTTP}", ACCOUNT, AUTH_TOKEN, MINE]
        program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
        incoming = bob.wait_invite()
        incoming.accept(sdp("127.0.0.1", rtp.port))
        incoming.wait_bye()
        output, _ = program.communicate(timeout=15)
        equal(program.returncode, 0, "exit code of the program")
        seen = {line.pop("what"): line for line in map(json.loads, output.splitlines())}
        created = seen["created"]
        self.scenario.check(created["sid"].startswith("CA") and len(created["sid"]) == 34, f"sid {created['sid']}")
        equal((created["status"], created["direction"], created["dated"]), ("queued", "outbound-api", True), "what create gives")
        equal([seen[what]["status"] for what in ("answered", "redirected", "ended")], ["in-progress", "in-progress", "completed"], "status by status")
        equal([seen[what]["code"] for what in ("ended again", "unknown", "without To")], [21220, 20404, 21201], "error numbers")
        equal(seen["listed"], {"inOrder": True, "capped": 13}, "lists")
        equal((seen["notified"]["code"], seen["numbers"]["numbers"]), ("13223", [MINE]), "notification and numbers")
        equal(seen["application"], {"sid": "AP", "method": "GET", "url": "http://app.test/"}, "an application")
        equal(seen["number"], {"number": "+15552001", "voice": True, "app": True}, "a number")
        equal([seen[what]["code"] for what in ("number again", "suspended", "key of a key")], [21422, 20005, 20006], "more error numbers")
        equal((seen["account"], seen["key"]), ({"calls": 0, "status": "active"}, {"calls": 1}), "an account, a key")
        equal((seen["domain"], seen["trunk"]), ({"type": "CREDENTIAL_LIST"}, {"urls": 3, "dated": True}), "a domain, a trunk")
        equal((seen["alerts"], seen["usage"]), ({"code": "13223"}, {"unit": "minutes", "counted": "string"}), "alerts, usage")
        for part in (bob, rtp):
            part.close()
        equal(server.stop(), 0, "exit code of the server")
        return f"{len(seen)} answers"


def main():
    with Scenario(__file__) as scenario:
        scenario.step("program", Rest(scenario).program)
        scenario.summary = "the official Node package is served"


main()
