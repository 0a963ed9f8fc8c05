"""Two edges of a cluster, each with workers of its own, on a database and a Redis that they share."""

import pathlib
import subprocess
import time

from .scenario import wait_for
from .server import Server, base_config

TESTS = pathlib.Path(__file__).resolve().parent.parent.parent / "tests"


class Edge(Server):
    """One of the edges: a machine of its own, as far as processes go."""

    def __init__(self, scenario, name, base, stores, more, token=None, join=None, host="127.0.0.1", workers=1, prefix=(), span=150, sip_more=""):
        self.sip, self.cluster, self.prefix = (host, base), f"{host}:{base + 1}", prefix
        config = base_config(f"{host}:{base}", f"{host}:{base + 2}", f"{base + 20}-{base + span - 11}", more=more, drain=1, workers=workers, sip_more=sip_more)
        config = config.replace("[media]", f'[media]\naddress = "{host}"')
        config = config.replace('url = "sqlite://data/dialtone.db"', f'url = "{stores.postgres}"\nhot = "{stores.redis}"\nfolder = "data"')
        config += f'\n[cluster]\nlisten = "{self.cluster}"\n' + ("" if join else 'dir = "cluster"\n')
        super().__init__(scenario, config, name)
        self.arguments = ["--name", name] + (["--role", "edge", "--join", join] if join else [])
        self.token = {"DIALTONE_JOIN_TOKEN": token} if token else {}

    def start(self):
        return super().start(self.prefix, self.token, self.arguments)


class Stores:
    """A PostgreSQL and a Redis, which end with the scenario."""

    def __init__(self, scenario):
        # PostgreSQL has a user of its own.
        scenario.folder.chmod(0o755)
        self.folders = {name: scenario.folder / name for name in ("postgres", "redis")}
        self.postgres, self.redis = (self.start(name) for name in self.folders)
        for name in self.folders:
            scenario.at_end(lambda name=name: self.run(name, "stop"))

    def start(self, name):
        return self.run(name, "start")

    def run(self, name, what, *more):
        return subprocess.run([TESTS / name, what, self.folders[name], *more], check=True, capture_output=True, text=True).stdout.strip()


def two_edges(scenario, base, more, span=150):
    """Both edges, each with so many ports from its base on, when each has the workers of both; and their stores."""
    stores = Stores(scenario)
    left = Edge(scenario, "left", base, stores, more, span=span)
    code, told = left.run("cluster", "init", "--dir", "cluster")
    scenario.equal(code, 0, told)
    code, token = left.run("cluster", "join-token", "--dir", "cluster")
    scenario.equal(code, 0, token)
    left.start()
    right = Edge(scenario, "right", base + span, stores, more, token.strip(), left.cluster, span=span).start()
    for edge in (left, right):
        wait_for(lambda: len(edge.workers("active")) == 2 and len(edge.workers("standby")) == 2, 6, "the workers of both machines")
    return left, right, stores


def child(edge, part):
    """The process of an edge's keeper that is that part; `None` while there is none."""
    for pid in open(f"/proc/{edge.process.pid}/task/{edge.process.pid}/children").read().split():
        try:
            if open(f"/proc/{pid}/environ").read().split("DIALTONE_PROCESS=")[1].startswith(part):
                return int(pid)
        except (OSError, IndexError):
            continue
    return None


def listen_on(callers, seconds):
    """Answers further offers for a while: who is told of another edge may be told of another worker a moment later."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for caller in callers:
            caller.reinvited(0.005)
