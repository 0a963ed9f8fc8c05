"""Writes .cargo/calls.profdata anew: which ways calls take through the program, as counted by one that was built to count them.

    python scenarios/load/profile_calls.py

Needs what the load scenario needs, and `llvm-profdata` of the compiler's LLVM (`apt install llvm-22`, or `rustup component add llvm-tools`).
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lib.scenario import Scenario, allow_many_files

from measure import Load
from peers import APP, Ours

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PROFILE, CONFIG = ROOT / ".cargo" / "calls.profdata", ROOT / ".cargo" / "config.toml"
MADE_BY = re.compile(r"(?<=^# Made by rustc )\S+(?=\.$)", re.M)
# What the compiler calls a function, with the hash of what it was made from.
NAME = re.compile(rb"_ZN[\w.$]+17h[0-9a-f]{16}E")


def told(*argv, **options):
    return subprocess.run([str(part) for part in argv], check=True, capture_output=True, text=True, **options).stdout


def rustc_version():
    return told("rustc", "--version").split()[1]


def is_of_this_compiler():
    return MADE_BY.search(CONFIG.read_text())[0] == rustc_version()


def names_found_in(binary):
    """Of how many functions the profile says something, and how many of them the program has. What was put into its callers has gone from both alike."""
    named = set(NAME.findall(PROFILE.read_bytes()))
    return len(named), len(named & set(NAME.findall(told("nm", binary).encode())))


def counting_program(into):
    """A release build that writes what it counts to a folder, in a target folder of its own."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "profile"
    subprocess.run(["cargo", "build", "--release", "--locked", "--target-dir", target], check=True, cwd=ROOT, env=os.environ | {"PROFILE_INTO": str(into)})
    return str(target / "release" / "dialtone")


def run_calls(scenario):
    """What the load scenario measures: bridged calls above all, and each kind of the others."""
    load = Load(scenario)
    scenario.start([sys.executable, scenario.here / "app.py", APP], log="app.log")
    ours = Ours(scenario)
    for user, rate, seconds, keys in (("bridge", 100, 20, {"callee": True}), ("answer", 100, 5, {}), ("ivr", 50, 8, {"flow": "hung_up"})):
        scenario.equal(load.signalling(ours, user, rate, seconds, **keys)["failed"], 0, f"failed calls of {user}")
    scenario.equal(load.relay(ours, "bridge", 20, 2)["silent"], 0, "flows that heard nothing")
    scenario.equal(ours.stop(), 0, "exit code")


def profdata_tool():
    about = told("rustc", "-vV")
    host, llvm = re.search(r"^host: (\S+)", about, re.M)[1], re.search(r"^LLVM version: (\d+)", about, re.M)[1]
    of_rustup = pathlib.Path(told("rustc", "--print", "sysroot").strip()) / "lib/rustlib" / host / "bin" / "llvm-profdata"
    return of_rustup if of_rustup.exists() else shutil.which(f"llvm-profdata-{llvm}") or sys.exit(f"there is no llvm-profdata of LLVM {llvm}: `apt install llvm-{llvm}` has one")


def main():
    with Scenario(__file__) as scenario:
        allow_many_files()
        merge, counts = profdata_tool(), scenario.folder / "counts"
        scenario.dialtone = counting_program(counts)
        run_calls(scenario)
        # Sparse: of what no call came by nothing is said, and it is built as it would be without.
        told(merge, "merge", "--sparse", "-o", PROFILE, *counts.glob("*.profraw"))
        CONFIG.write_text(MADE_BY.sub(rustc_version(), CONFIG.read_text()))
        named, found = names_found_in(scenario.dialtone)
        # Cargo does not see that its compiler is given another file.
        scenario.summary = f"{named} functions in {PROFILE.name}, {found} of them in the program that counted; `cargo clean --release` has everything built by it"


if __name__ == "__main__":
    main()
