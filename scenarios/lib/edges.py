"""Edges of a cluster, each with workers of its own, on a database and a Redis that they share."""

import pathlib
import subprocess
import time

from .scenario import wait_for
from .server import Server, base_config

TESTS = pathlib.Path(__file__).resolve().parent.parent.parent / "tests"


class Edge(Server):
    """One of the edges: a machine of its own, as far as processes go."""

    def __init__(self, scenario, name, base, stores, more, token=None, join=None, host="127.0.0.1", workers=1, prefix=(), span=150, sip_more="", cluster_more="", http_more=""):
        self.sip, self.cluster, self.prefix = (host, base), f"{host}:{base + 1}", prefix
        config = base_config(f"{host}:{base}", f"{host}:{base + 2}", f"{base + 20}-{base + span - 11}", more=more, drain=1, workers=workers, sip_more=sip_more, http_more=http_more)
        config = config.replace("[media]", f'[media]\naddress = "{host}"')
        config = config.replace('url = "sqlite://data/dialtone.db"', f'url = "{stores.postgres}"\nhot = "{stores.redis}"\nfolder = "data"')
        config += f'\n[cluster]\nlisten = "{self.cluster}"\n' + ("" if join else 'dir = "cluster"\n') + cluster_more
        super().__init__(scenario, config, name)
        self.arguments = ["--name", name] + (["--role", "edge", "--join", join] if join else [])
        self.token = {"DIALTONE_JOIN_TOKEN": token} if token else {}

    def start(self):
        return super().start(self.prefix, self.token, self.arguments)


class Stores:
    """A PostgreSQL and a Redis, which end with the scenario. Those of another cluster of it need another name."""

    def __init__(self, scenario, name="stores"):
        # PostgreSQL has a user of its own.
        scenario.folder.chmod(0o755)
        self.folders = {store: scenario.folder / f"{name}-{store}" for store in ("postgres", "redis")}
        self.postgres, self.redis = (self.start(name) for name in self.folders)
        for name in self.folders:
            scenario.at_end(lambda name=name: self.run(name, "stop"))

    def start(self, name):
        return self.run(name, "start")

    def run(self, name, what, *more):
        return subprocess.run([TESTS / name, what, self.folders[name], *more], check=True, capture_output=True, text=True).stdout.strip()


def edges(scenario, base, more, names=("left", "right"), span=150, **options):
    """Edges of these names, each with so many ports from its base on, when each has the workers of all; and their stores."""
    stores = Stores(scenario, "-".join(names))
    edge = lambda at, *how: Edge(scenario, names[at], base + at * span, stores, more, *how, span=span, **options)
    first = edge(0)
    code, told = first.run("cluster", "init", "--dir", "cluster")
    scenario.equal(code, 0, told)
    code, token = first.run("cluster", "join-token", "--dir", "cluster")
    scenario.equal(code, 0, token)
    first.start()
    made = [first, *(edge(at, token.strip(), first.cluster).start() for at in range(1, len(names)))]
    for one in made:
        wait_for(lambda: len(one.workers("active")) == len(one.workers("standby")) == len(names), 5 * len(names), "the workers of all machines", every=0.1)
    return made, stores


def two_edges(scenario, base, more, span=150, **options):
    """The same of two."""
    (left, right), stores = edges(scenario, base, more, span=span, **options)
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
