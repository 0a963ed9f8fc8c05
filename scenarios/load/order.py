"""Writes src/hot.ld anew: which functions of the release binary run during calls, those of the shard's thread and the most frequent first.

    DIALTONE=target/release/dialtone python scenarios/load/order.py

Needs `perf` (linux-perf) and `nm` (binutils), and may sample other processes: root, or kernel.perf_event_paranoid = 0.
"""

import bisect
import collections
import pathlib
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lib.scenario import Scenario, allow_many_files

from measure import Load
from peers import APP, Ours

HERE = pathlib.Path(__file__).resolve().parent
SCRIPT = HERE.parent.parent / "src" / "hot.ld"
# A generic function is one name for all its instances: where there are more of them than this, most are cold.
MAX_INSTANCES = 12
# What the compiler adds to a name to tell instances apart; it changes with every dependency.
HASH = re.compile(r"17h[0-9a-f]{16}E.*$")

HEAD = """/* The functions that calls run through, those of the shard's thread and the most frequent first: the linker puts them together, so
   that a wake-up finds its code in few pages. Made by scenarios/load/order.py, from samples of bridged calls, calls with an HTTP
   application and relayed RTP. A name that is not there any more does no harm. */
SECTIONS
{
  .text.hot : ALIGN(4096)
  {
"""
TAIL = """  }
}
INSERT BEFORE .text;
"""


def functions(binary):
    """Start, length and linker's name of each."""
    lines = subprocess.run(["nm", "-S", binary], check=True, capture_output=True, text=True).stdout.splitlines()
    fields = (line.split() for line in lines)
    return sorted((int(each[0], 16), int(each[1], 16), each[3]) for each in fields if len(each) == 4 and each[2] in "tTwW")


def sampled(scenario, binary):
    """Where in the binary its threads were seen while calls ran: whether it was the shard's, and an address."""
    load = Load(scenario)
    scenario.start([sys.executable, HERE / "app.py", APP], log="app.log")
    ours = Ours(scenario)
    data = scenario.folder / "perf.data"
    perf = scenario.start(["perf", "record", "-q", "-e", "cpu-clock", "-F", "15000", "-p", ours.server.process.pid, "-o", data], log="perf.log")
    time.sleep(1)
    load.signalling(ours, "bridge", 250, 16, callee=True)
    load.relay(ours, "bridge", 200, 3)
    load.signalling(ours, "ivr", 100, 6, flow="hung_up")
    perf.send_signal(signal.SIGINT)
    perf.wait()
    scenario.end(perf)
    ours.stop()
    script = lambda *what: subprocess.run(["perf", "script", "-i", data, *what], check=True, capture_output=True, text=True).stdout
    # [START(LENGTH) @ OFFSET ...]: r-xp BINARY
    mapped = re.search(r"\[(0x\w+)\((0x\w+)\) @ (0x\w+|0) [^\]]*\]: r-xp " + re.escape(str(binary)), script("--show-mmap-events", "-F", "comm"))
    start, _, offset = (int(number, 16) for number in mapped.groups())
    segments = subprocess.run(["readelf", "-lW", binary], check=True, capture_output=True, text=True).stdout
    loaded = next(line.split() for line in segments.splitlines() if "LOAD" in line and " R E " in line)
    shift = int(loaded[2], 16) - int(loaded[1], 16)
    fields = (line.split() for line in script("-F", "comm,ip").splitlines())
    return [(each[0] == "shard", int(each[-1], 16) - start + offset + shift) for each in fields if each]


def patterns(all_functions, samples):
    """Globs of the names that were seen, in the order that they are to have."""
    starts = [start for start, _, _ in all_functions]
    instances = collections.Counter(HASH.sub("17h*", name) for _, _, name in all_functions)
    seen = collections.Counter()
    for is_shard, address in samples:
        at = bisect.bisect_right(starts, address) - 1
        if at >= 0 and address < all_functions[at][0] + all_functions[at][1]:
            seen[HASH.sub("17h*", all_functions[at][2])] += len(samples) if is_shard else 1
    return [name for name, _ in seen.most_common() if instances[name] <= MAX_INSTANCES]


def main():
    with Scenario(__file__) as scenario:
        allow_many_files()
        names = patterns(functions(scenario.dialtone), sampled(scenario, scenario.dialtone))
        scenario.check(len(names) > 300, f"{len(names)} functions are no call")
        SCRIPT.write_text(HEAD + "".join(f"    *(.text.{name})\n" for name in names) + TAIL)
        scenario.summary = f"{len(names)} functions in {SCRIPT.name}"


main()
