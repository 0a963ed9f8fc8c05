"""Pages with the unmodified official voice SDK in a real Firefox."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lib.calls import Calls
from lib.scenario import Scenario


def main():
    with Scenario(__file__) as scenario:
        calls = Calls(scenario, 20700, "firefox")
        scenario.steps(calls.start, calls.echo, calls.called, calls.each_other, calls.opus, calls.stop)
        scenario.summary = f"pages of {calls.browser.version} and telephones hear each other"


main()
