"""Who can be reached: one truth, by whatever way it is asked or told."""

import concurrent.futures
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from alone import OneServer
from many import ManyPhones
from three import ThreeEdges
from together import TwoEdges

from lib.scenario import AtOnce, Scenario, allow_many_files

# Clients of each kind that are registered at the edge that is lost.
CLIENTS, MANY_CLIENTS = 25, 500


def main():
    allow_many_files()
    with Scenario(__file__) as scenario, concurrent.futures.ThreadPoolExecutor(40) as pool:
        one, two = OneServer(scenario), TwoEdges(scenario, MANY_CLIENTS if scenario.long else CLIENTS)
        # The edges, and their stores, take their time to start.
        edges = AtOnce(pool, scenario, {"start": two.start})
        scenario.step("start", one.start)
        alone = {
            "PR-01 PR-02 refused": one.refused,
            "PR-01 many devices": one.many_devices,
            "PR-02 a token expires": one.expires,
            "PR-02 a token's key is deleted": one.revoked,
            "PR-03 two devices": one.two_devices,
            "PR-04 takes no calls": one.closed,
            "PR-05 gone": one.gone,
            "PR-06 comes back": one.comes_back,
            "PR-06 comes again": one.comes_again,
            "PR-08 rings": one.rings,
            "PR-08 nobody rings": one.not_rung_at_all,
            "PR-09 no call waiting": one.no_call_waiting,
            "PR-09 one of two": one.one_of_two,
            "PR-10 accounts apart": one.apart,
            "PR-11 listens late": one.late,
            "PR-12 watched": one.watched,
            "PR-12 subscriptions": one.subscriptions,
            "PR-12 PR-13 a softphone": one.softphone,
            "PR-13 published": one.published,
            "PR-14 comes and goes": one.storm,
            "PR-15 never there": one.never,
            "PR-15 odd names": one.odd_names,
            "removed by REST": one.removed,
        }
        if scenario.long:
            alone |= {"PR-05 silent": one.silent, "PR-05 PR-12 PR-13 expires": one.over}
        alone = AtOnce(pool, scenario, alone)
        counted = AtOnce(pool, scenario, {"counted": one.counted}, after=alone)
        edges.tell()
        together = {
            "PR-07 known at both": two.known_at_both,
            "PR-07 removed at the other": two.removed,
            "PR-07 moves": two.moves,
            "PR-07 a connection is lost": two.connection_lost,
        }
        AtOnce(pool, scenario, together).tell()
        lost = scenario.step("PR-07 an edge is lost", two.lost)
        scenario.step("PR-07 a call goes on", two.talks_on)
        scenario.step("PR-07 an edge comes home", two.comes_home)
        alone.tell()
        counted.tell()
        if scenario.long:
            scenario.step("killed", one.killed)
            many = ManyPhones(scenario)
            scenario.step("start of a large server", many.start)
            scenario.step("a hundred thousand", many.registered)
            three = ThreeEdges(scenario)
            scenario.step("start of three edges", three.start)
            scenario.step("told soon", three.told_soon)
        scenario.summary = f"one truth by REST, stream and SIP; {lost}"


if __name__ == "__main__":
    main()
