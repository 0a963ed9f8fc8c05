"""The unit, the container file and the manifest are right in form, and the server tells a service manager how it is."""

import base64
import os
import pathlib
import signal
import socket
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lib.scenario import Scenario
from lib.server import Server, base_config
from lib.sip import Message, Phone

DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy"
SIP, HTTP = 15860, 15840
CONFIG = base_config(f"127.0.0.1:{SIP}", f"127.0.0.1:{HTTP}", "15880-15899", workers=1)


class Deploy:
    def __init__(self, scenario):
        self.scenario = scenario

    def run(self, *argv):
        done = subprocess.run([str(part) for part in argv], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
        return done.returncode, done.stdout + done.stderr

    def unit(self):
        """systemd finds nothing wrong, once the program is where the unit looks for it."""
        text = (DEPLOY / "dialtone.service").read_text().replace("/usr/local/bin/dialtone", self.scenario.dialtone)
        unit = self.scenario.folder / "dialtone.service"
        unit.write_text(text)
        code, told = self.run("systemd-analyze", "verify", "--man=no", unit)
        own = [line for line in told.splitlines() if "dialtone" in line]
        self.scenario.equal((code, own), (0, []), "systemd-analyze verify")
        unit.write_text(text.replace("Type=notify", "Type=nonsense").replace("KillMode=mixed", "KilMode=mixed"))
        own = [line for line in self.run("systemd-analyze", "verify", "--man=no", unit)[1].splitlines() if "dialtone" in line]
        self.scenario.equal(len(own), 2, f"faults that it finds in a wrong one: {own}")

    def container(self):
        beside = pathlib.Path(sys.executable).parent
        code, told = self.run(beside / "hadolint", DEPLOY / "Containerfile")
        self.scenario.equal((code, told), (0, ""), "hadolint")

    def manifest(self):
        beside = pathlib.Path(sys.executable).parent
        code, told = self.run(beside / "yamllint", "-d", "{extends: default, rules: {line-length: {max: 140}}}", DEPLOY / "kubernetes.yaml")
        self.scenario.equal((code, told), (0, ""), "yamllint")
        code, told = self.run(beside / "kubernetes-validate", "--strict", DEPLOY / "kubernetes.yaml")
        self.scenario.equal(code, 0, f"kubernetes-validate: {told}")
        wrong = self.scenario.folder / "wrong.yaml"
        wrong.write_text((DEPLOY / "kubernetes.yaml").read_text().replace("livenessProbe", "lifenessProbe"))
        self.scenario.check(self.run(beside / "kubernetes-validate", "--strict", wrong)[0] != 0, "a wrong one is found")

    def notify(self):
        """The keeper says when calls are taken and when it stops."""
        path = self.scenario.folder / "notify"
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        manager.bind(str(path))
        manager.settimeout(10)
        server = Server(self.scenario, CONFIG).start(environment={"NOTIFY_SOCKET": str(path)})
        held = self.until(manager, b"READY=1")
        self.scenario.equal(sorted(held), [f"http://127.0.0.1:{HTTP}", f"tcp://127.0.0.1:{SIP}", f"udp://127.0.0.1:{SIP}"], "listeners that the manager holds")
        self.scenario.equal(server.get("/readyz")[0], 200, "and it is so")
        server.process.send_signal(signal.SIGTERM)
        self.scenario.equal(manager.recv(100), b"STOPPING=1", "the last word")
        self.scenario.equal(server.process.wait(10), 0, "exit code")
        self.scenario.end(server.process)
        self.given(held)

    def until(self, manager, last):
        """Listeners that come with what is told, by name, until the last word."""
        held = {}
        while True:
            told, descriptors, _, _ = socket.recv_fds(manager, 4096, 1)
            if told == last:
                return held
            store, name = told.decode().split("\n")
            self.scenario.equal(store, "FDSTORE=1", "what is told with a listener")
            name = name.removeprefix("FDNAME=")
            held[base64.urlsafe_b64decode(name + "=" * (-len(name) % 4)).decode()] = (name, descriptors[0])

    def given(self, held):
        """The next process has the listeners from the manager: what came in between is answered."""
        phone = Phone(("127.0.0.1", SIP), "+15556100001")
        asked = phone.build("OPTIONS", f"sip:dialtone@127.0.0.1:{SIP}")
        phone.transport.send(asked)
        names = ":".join(name for name, _ in held.values())
        descriptors = [descriptor for _, descriptor in held.values()]
        # As a service manager does it: from 3 on, in the process itself, whose pid is in the environment.
        script = 'export LISTEN_PID=$$; for n in $FDS; do eval "exec $((i = i + 1))<&$n"; done; exec "$@"'
        prefix = ["env", f"LISTEN_FDS={len(held)}", f"LISTEN_FDNAMES={names}", f"FDS={' '.join(str(one + 20) for one in range(len(held)))}", "i=2", "bash", "-c", script, "bash"]
        for at, descriptor in enumerate(descriptors):
            os.dup2(descriptor, at + 20, inheritable=True)
            os.close(descriptor)
        server = Server(self.scenario, CONFIG, name="next")
        server.start(prefix, pass_fds=[at + 20 for at in range(len(held))])
        answer = phone.transport.wait(lambda message: message.status == 200, 5, "the answer to what came in between")
        self.scenario.equal(answer.call_id, Message(asked.encode()).call_id, "what is answered")
        phone.close()


def main():
    with Scenario(__file__) as scenario:
        deploy = Deploy(scenario)
        for part in (deploy.unit, deploy.container, deploy.manifest, deploy.notify):
            scenario.step(part.__name__, part)
        scenario.summary = "unit, container file and manifest are right, and the service manager is told"


if __name__ == "__main__":
    main()
