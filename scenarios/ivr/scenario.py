"""One telephone application in Flask and in Express: callers do the same with both, and both must behave the same."""

import concurrent.futures
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from control import Control
from lib.scenario import Scenario
from line import CALLERS, Line, write_sounds


def difference(mine, its):
    """Of two lists of requests: what is in one, and not in the other at its place."""
    for one, other in zip(mine, its):
        if one != other:
            return f"{one[0]}, {other[0]}: {[pair for pair in zip(flat(one), flat(other)) if pair[0] != pair[1]]}"
    return f"{[one[0] for one in mine]}, {[one[0] for one in its]}"


def flat(entry):
    path, params, *rest = entry
    return [path, *params, *rest]


def compare(scenario, one, other):
    """The same requests, with the same parameters, in the same order, and the same documents in answer."""
    compared = 0
    for name in CALLERS:
        (documents, callbacks), (their_documents, their_callbacks) = one.trace(name), other.trace(name)
        scenario.equal(sorted(callbacks), sorted(their_callbacks), f"where callbacks of {name} go")
        scenario.check(documents and callbacks, f"nothing of {name} is there")
        pairs = [(documents, their_documents), *((callbacks[path], their_callbacks[path]) for path in callbacks)]
        for mine, its in pairs:
            scenario.check(mine == its, f"{name} in {one.name} and in {other.name}: {difference(mine, its)}")
            compared += len(mine)
    return f"{compared} requests"


def main():
    with Scenario(__file__) as scenario:
        write_sounds(scenario.folder / "sounds")
        lines = [
            Line(scenario, "flask", [sys.executable, scenario.here / "app.py"], 11100),
            Line(scenario, "express", ["node", scenario.here / "app.js"], 11250),
        ]
        named = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
        lines = [line for line in lines if line.name in named] or lines
        only = set(named) - {line.name for line in lines}

        def all_of(parts, *arguments):
            """At once, each as a step."""
            title = lambda part: f"{part.__self__.name}: {part.__name__.replace('_', ' ')}"
            with concurrent.futures.ThreadPoolExecutor(len(parts)) as pool:
                list(pool.map(lambda part: scenario.step(title(part), part, *arguments), parts))

        all_of([line.start for line in lines])
        control = Control(lines[0], 11118)
        parts = [*control.parts(), *(part for parts in zip(*(line.parts() for line in lines)) for part in parts)]
        all_of([part for part in parts if not only or part.__name__ in only])
        all_of([control.books])
        all_of([line.books for line in lines], not only)
        if len(lines) == 2 and not only:
            scenario.step("compared", compare, scenario, *lines)
        calls, asked = (sum(line.count[place] for line in lines) for place in (0, 1))
        worst = min(line.worst for line in lines)
        names = " and ".join(line.name for line in lines)
        scenario.summary = f"{names} behave the same in {calls} calls with {asked} requests; correlation {worst:.3f} or more"


main()
