"""The unit, the container file and the manifest are right in form, and the server tells a service manager how it is."""

import pathlib
import signal
import socket
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lib.scenario import Scenario
from lib.server import Server, base_config

DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy"
CONFIG = base_config("127.0.0.1:15860", "127.0.0.1:15840", "15880-15899", workers=1)


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
        self.scenario.equal(manager.recv(100), b"READY=1", "the first word")
        self.scenario.equal(server.get("/readyz")[0], 200, "and it is so")
        server.process.send_signal(signal.SIGTERM)
        self.scenario.equal(manager.recv(100), b"STOPPING=1", "the last word")
        self.scenario.equal(server.process.wait(10), 0, "exit code")
        self.scenario.end(server.process)


def main():
    with Scenario(__file__) as scenario:
        deploy = Deploy(scenario)
        for part in (deploy.unit, deploy.container, deploy.manifest, deploy.notify):
            scenario.step(part.__name__, part)
        scenario.summary = "unit, container file and manifest are right, and the service manager is told"


if __name__ == "__main__":
    main()
