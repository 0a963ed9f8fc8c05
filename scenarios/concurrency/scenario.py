"""An account has no more calls, requests and participants at once than it may, at one edge or at several, whatever befalls them."""

import concurrent.futures
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from accounts import MANY
from alone import OneServer
from together import FourEdges, TwoEdges

from lib.scenario import Scenario


def short(scenario):
    one, two = OneServer(scenario), TwoEdges(scenario)
    scenario.steps(one.start, one.refused, one.given_back_once, one.other_limit)
    # The others, and their stores, take their time to start: they do so while the one mostly waits.
    others = concurrent.futures.ThreadPoolExecutor(1).submit(two.start)
    scenario.steps(one.delayed, one.preempted, one.meeting, one.lines, one.requests, one.flood)
    scenario.step("start", others.result)
    scenario.steps(two.both, two.taken_back, two.delayed, prefix="edges: ")
    # The gauges of the one had their time meanwhile.
    scenario.steps(one.measured, one.stop)
    scenario.steps(two.lost, two.forgotten, two.stop, two.database, prefix="edges: ")
    scenario.summary = "calls, participants and requests at one server and at several: never one too many, and no place lost"


def long(scenario):
    minutes = float(sys.argv[sys.argv.index("--minutes") + 1]) if "--minutes" in sys.argv else 10
    four = FourEdges(scenario, minutes)
    scenario.step("start", four.start)
    four.befall()
    scenario.step("quiet", four.quiet)
    scenario.step("nothing is left", four.nothing_is_left)
    four.table()
    scenario.summary = f"{four.most} calls at once, at most, of {MANY}; {four.crowd.outcomes['admitted']} admitted, {four.troubles} rounds of trouble"


def main():
    with Scenario(__file__) as scenario:
        (long if scenario.long else short)(scenario)


if __name__ == "__main__":
    main()
