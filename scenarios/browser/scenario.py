"""Pages with the unmodified official voice SDK in a real Chromium."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lib.calls import Calls
from lib.scenario import Scenario


def main():
    with Scenario(__file__) as scenario:
        calls = Calls(scenario, 20400, "chromium")
        scenario.steps(calls.start, calls.echo, calls.called, calls.each_other, calls.refusals, calls.room, calls.queued, calls.opus, calls.measured, calls.preflight, calls.stop)
        scenario.summary = f"pages of Chromium {calls.browser.version}, telephones and a conference hear each other"


main()
