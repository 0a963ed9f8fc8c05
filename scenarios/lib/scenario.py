"""A scenario: checks, a folder of its own, and the programs that it started."""

import concurrent.futures
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback


class Failed(Exception):
    """A check that did not hold."""


def wait_for(condition, seconds=5.0, what="a condition", every=0.01):
    """Asks until the condition gives something true, and returns that."""
    until = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > until:
            raise Failed(f"waited {seconds:g} s for {what}")
        time.sleep(every)


class Scenario:
    """Use as a context: whatever happens, what was started ends, and the exit code tells."""

    def __init__(self, run_file):
        self.here = pathlib.Path(run_file).resolve().parent
        self.name = self.here.name
        self.long = "--long" in sys.argv[1:]
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"dialtone-{self.name}-"))
        self.dialtone = os.environ.get("DIALTONE") or str(self.here.parent.parent / "target/release/dialtone")
        self.checks = 0
        self.summary = "no summary"
        self._running = []
        self._on_failure = []
        self._at_end = []
        self._failed = []
        self._began = time.monotonic()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    def start(self, argv, log=None, **options):
        """Starts a program; it is ended with the scenario. `log` names a file of the folder for its output."""
        if log:
            out = open(self.folder / log, "ab")
            options = {"stdout": out, "stderr": out} | options
        options = {"stdin": subprocess.DEVNULL, "cwd": self.folder} | options
        process = subprocess.Popen([str(part) for part in argv], **options)
        self._running.append(process)
        return process

    def end(self, process, seconds=5):
        """Ends a program that was started here, and returns its exit code."""
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process in self._running:
            self._running.remove(process)
        return process.returncode

    def on_failure(self, tell):
        """`tell` gives text to show when the scenario fails."""
        self._on_failure.append(tell)

    def at_end(self, end):
        """`end` is called when everything that was started has ended."""
        self._at_end.insert(0, end)

    def check(self, holds, what):
        self.checks += 1
        if not holds:
            raise Failed(what)

    def equal(self, got, wanted, what):
        self.check(got == wanted, f"{what}: got {got!r}, wanted {wanted!r}")

    def step(self, name, function, *arguments):
        """Runs one part, says how long it took, and gives what it told. After a failure the other parts still run, unless it is called `start`."""
        began = time.monotonic()
        try:
            told = function(*arguments)
        except Exception as error:
            self._failed.append(f"{name}: {error}".splitlines()[0])
            print(f"  FAIL  {name}: {type(error).__name__}: {error}", flush=True)
            traceback.print_tb(error.__traceback__, file=sys.stdout)
            if name == "start":
                raise
            return None
        print(f"  ok    {name:<44} {time.monotonic() - began:5.2f} s  {told or ''}".rstrip(), flush=True)
        return told

    def steps(self, *parts, prefix=""):
        """Runs parts, each by its own name; what each told."""
        return [self.step(prefix + part.__name__.replace("_", " "), part) for part in parts]

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind not in (None, SystemExit):
            traceback.print_exception(kind, error, trace, file=sys.stdout)
            self._failed.append(f"{kind.__name__}: {error}".splitlines()[0])
        if self._failed:
            for tell in self._on_failure:
                print(tell())
        for process in list(reversed(self._running)):
            self.end(process)
        for end in self._at_end:
            end()
        if kind is SystemExit:
            print("interrupted")
            return False
        if self._failed:
            print(f"FAILED: {' / '.join(self._failed)}; files are kept in {self.folder}", flush=True)
            os._exit(1)
        if not os.environ.get("KEEP"):
            shutil.rmtree(self.folder, ignore_errors=True)
        print(f"{self.summary}; {self.checks} checks in {time.monotonic() - self._began:.1f} s", flush=True)
        return False


def allow_many_files():
    """As many open files as this user may have, for this process and those that it starts."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)


def tail(path, lines=25):
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return ""
    return f"--- {path.name}\n" + "\n".join(text.splitlines()[-lines:])


class AtOnce:
    """Parts that run at the same time: most of each is waiting that nothing more comes. `after`: when those have ended."""

    def __init__(self, pool, scenario, parts, after=None):
        self.scenario, self.after = scenario, after
        self.running = [(name, pool.submit(self.run, part)) for name, part in parts.items()]

    def run(self, part):
        if self.after:
            concurrent.futures.wait([running for _, running in self.after.running])
        began = time.monotonic()
        told = part()
        return f"{time.monotonic() - began:.1f} s of its own" + (f", {told}" if told else "")

    def tell(self):
        """Step by step, as they end."""
        for name, part in self.running:
            self.scenario.step(name, part.result)
