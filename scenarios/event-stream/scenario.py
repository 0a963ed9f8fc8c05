"""What happens in an account, as it happens: streams of events, sinks, and the proof that nothing is missing."""

import concurrent.futures
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from alone import OneServer
from many import ManyStreams
from together import TwoEdges

from lib.scenario import Scenario, allow_many_files

# Listeners that never read, in the short form and in the long one.
STUCK, MANY_STUCK = 50, 1_000


def short(scenario):
    one, two, step = OneServer(scenario), TwoEdges(scenario), scenario.step
    edges = concurrent.futures.ThreadPoolExecutor(1)
    step("start", one.start)
    step("EV-02 refused", one.refused)
    step("EV-01 tokens of both packages", one.tokens)
    # The edges, and their stores, take their time to start.
    started = edges.submit(two.start)
    step("EV-04 accounts apart", one.crowd)
    step("EV-05 EV-06 in order, and resumed", one.resumed)
    step("EV-05 what else is told", one.kinds)
    step("EV-12 verified", one.verified)
    step("EV-07 listeners that never read", one.stuck, STUCK)
    step("EV-07 much at once", one.at_once)
    # From here on most is waited for, at both.
    heard, suspended, sent, lost, stopped = (edges.submit(part) for part in (two.at_once, two.suspended, two.sink, two.lost, two.stop))
    step("EV-08 killed amid calls", one.killed_amid)
    step("EV-10 a sink", one.has_sink)
    step("EV-10 a sink that is not well", one.sink_unwell)
    step("EV-08 killed", one.killed)
    step("EV-05 listened late", one.listened_late)
    step("EV-10 idempotency tokens", one.tokens_mean_one_thing)
    step("EV-10 what is refused", one.sink_refuses)
    step("EV-03 ended", one.ended)
    step("stop", one.stop)
    step("start", started.result)
    step("EV-09 heard at the other edge", heard.result)
    step("EV-03 suspended at the other edge", suspended.result)
    step("EV-10 a sink of two edges", sent.result)
    step("EV-09 an edge is lost", lost.result)
    step("stop", stopped.result)
    scenario.summary = f"the first frame after {one.first * 1000:.0f} ms; each account its own events, all of them, once and in order, whatever dies"


def long(scenario):
    many, step = ManyStreams(scenario), scenario.step
    step("start", many.start)
    step("EV-07 listeners that never read", many.stuck, MANY_STUCK)
    step("EV-08 killed again and again", many.killed_often)
    step("EV-04 many streams", many.streams)
    step("stop", many.stop)
    many.table()
    scenario.summary = many.said


def main():
    allow_many_files()
    with Scenario(__file__) as scenario:
        (long if scenario.long else short)(scenario)


if __name__ == "__main__":
    main()
