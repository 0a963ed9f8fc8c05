"""What calls and packets cost, beside Kamailio and rtpengine in the same run."""

import os
import pathlib
import platform
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lib.scenario import Scenario, allow_many_files, wait_for

from measure import Load
from peers import APP, Ours, Theirs, install
from profile_calls import is_of_this_compiler, names_found_in


class Table:
    """Rows of figures, ours and theirs, with the floor that ours must reach."""

    def __init__(self):
        self.rows, self.missed = [], []

    def add(self, name, ours, theirs=None, floor=None, ratio=None, digits=0):
        """`floor` is an absolute bound of ours, `ratio` one relative to theirs. Both are lists of repetitions, taken in turn.

        The ratio is the median of the pairs': a machine whose speed drifts is as fast for both of a pair.
        """
        mine = statistics.median(ours)
        relative = statistics.median(own / other for own, other in zip(ours, theirs)) if theirs else None
        bounds = []
        holds = True
        if floor is not None:
            bounds.append(f"at most {floor:g}")
            holds &= mine <= floor
        if ratio is not None:
            bounds.append(f"at most {ratio:g} x theirs")
            holds &= relative <= ratio
        if not holds:
            self.missed.append(f"{name}: {mine:.{digits}f}" + (f", {relative:.2f} x theirs" if ratio is not None else ""))
        show = lambda values: f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})" if values else "-"
        relation = f"{relative:.2f}" if relative else "-"
        print(f"  {name}: {show(ours)} | {show(theirs)} | {relation}", flush=True)
        self.rows.append((name, show(ours), show(theirs), relation, ", ".join(bounds) or "-", "yes" if holds else "NO"))

    def print(self):
        print("\n| measure | Dialtone | Kamailio + rtpengine | ratio | floor | reached |\n|---|---|---|---|---|---|")
        for row in self.rows:
            print("| " + " | ".join(row) + " |")
        print(flush=True)


class Runs:
    def __init__(self, scenario):
        self.scenario = scenario
        self.load = Load(scenario)
        self.failed = 0
        scenario.start([sys.executable, scenario.here / "app.py", APP], log="app.log")
        self.ours = Ours(scenario)

    def signalling(self, peer, user, rate, seconds, **keys):
        told = self.load.signalling(peer, user, rate, seconds, **keys)
        self.must_not_fail(peer, f"{user} at {rate}/s", told)
        return told["us"]

    def must_not_fail(self, peer, what, told):
        if peer is self.ours:
            self.scenario.equal(told["failed"], 0, f"failed calls of {what}")
        elif told["failed"]:
            print(f"  note: {told['failed']} calls of {peer.name} failed ({what})", flush=True)

    def relay(self, peer, user, calls, seconds):
        told = self.load.relay(peer, user, calls, seconds)
        print(f"  {peer.name}: {told}", flush=True)
        if peer is self.ours:
            self.scenario.equal(told["silent"], 0, "flows that heard nothing")
            self.scenario.check(told["lost"] <= told["sent"] * 0.005, f"{told['lost']} of {told['sent']} packets lost")
        return told["us"]

    def nothing_left(self):
        wait_for(lambda: self.ours.left() == (0, 0), 12, "no live calls and no media ports", every=0.1)
        self.ours.server.wait_metric(0, "dialtone_media_sessions")
        self.scenario.checks += 1

    def records(self, calls, number):
        """Every call has one record, and none of them failed."""
        count = "SELECT count(*), count(DISTINCT sip_call_id), sum(status = 'completed') FROM calls WHERE to_address = ?"
        wait_for(lambda: self.ours.server.rows(count, number)[0][0] >= calls, 20, "every CDR", every=0.2)
        self.scenario.equal(self.ours.server.rows(count, number)[0], (calls, calls, calls), f"CDRs of {number}: all, distinct, completed")

    def answer_to_effect_ms(self):
        return 1000 * self.ours.server.at_most(0.99, "dialtone_document_effect_delay_seconds")

    # --- the short form

    def sanity(self):
        told = {}
        told["answer"] = self.signalling(self.ours, "answer", 50, 2)
        told["bridge"] = self.signalling(self.ours, "bridge", 50, 2, callee=True)
        told["ivr"] = self.signalling(self.ours, "ivr", 50, 2, flow="hung_up")
        told["relay"] = self.relay(self.ours, "bridge", 10, 2)
        told["answer to effect p99 ms"] = self.answer_to_effect_ms()
        told["p50 ms"] = self.load.latency(self.ours, "bridge", 30)
        self.nothing_left()
        self.records(100, "answer")
        self.records(100, "ivr")
        return ", ".join(f"{name} {value:.1f}" for name, value in told.items())

    def profile(self):
        """The profile that the program was built with is of this program: other versions of what it is made of give all its functions other names."""
        named, found = names_found_in(self.scenario.dialtone)
        told = f"{found} of its {named} functions are in the program"
        if not is_of_this_compiler():
            return f"of another compiler: {told}"
        self.scenario.check(found > named / 2, f"only {told}: scenarios/load/profile_calls.py writes it anew")
        return told

    # --- the long form

    def compare(self, repetitions=3):
        install()
        os.environ["PATH"] += ":/usr/sbin"
        theirs, table = Theirs(self.scenario), Table()

        def pairs(measure, times=repetitions):
            told = {self.ours: [], theirs: []}
            for turn in range(times):
                # Neither is always the first of its pair.
                for peer in (self.ours, theirs) if turn % 2 == 0 else (theirs, self.ours):
                    told[peer].append(measure(peer))
            return told[self.ours], told[theirs]

        media = lambda peer: "bridge" if peer is self.ours else "media"
        warm = lambda peer: (self.load.signalling(peer, "answer", 50, 2), self.load.signalling(peer, media(peer), 50, 2, callee=True))
        idle_kb = {peer: peer.memory_kb() for peer in (self.ours, theirs)}
        held = {self.ours: [], theirs: []}
        for _ in range(repetitions):
            for peer in held:
                told = self.load.hold(peer, media(peer), 1000, 100, 10)
                self.must_not_fail(peer, "held calls", told)
                held[peer].append(told)
            self.nothing_left()
        # Memory that was taken once is used again: only the first calls of a process tell what they need.
        memory = [[(held[peer][0]["kb"] - idle_kb[peer]) / 1024] for peer in held]
        table.add("1,000 held bridged calls beyond the idle process, MB", *memory, floor=30, digits=1)
        table.add("held bridged call, idle CPU us/s", *[[told["idle_us"] for told in held[peer]] for peer in held], floor=5, digits=2)
        for peer in idle_kb:
            warm(peer)

        table.add("answered call, CPU us", *pairs(lambda peer: self.signalling(peer, "answer", 100, 6)), floor=400)
        # What a floor depends on that the noise of three would decide is measured more often.
        bridged = lambda user, rate: pairs(lambda peer: self.signalling(peer, user(peer), rate, 6, callee=True), times=11)
        plain = lambda peer: "bridge"
        table.add("bridged call at 400/s, CPU us (theirs: proxied without media)", *bridged(plain, 400), ratio=1.0)
        table.add("bridged call at 100/s, CPU us (theirs: proxied without media)", *bridged(plain, 100), ratio=1.0)
        table.add("bridged call at 100/s, CPU us (theirs: with media)", *pairs(lambda peer: self.signalling(peer, media(peer), 100, 6, callee=True)))
        table.add("IVR call with one HTTP fetch, CPU us", [self.signalling(self.ours, "ivr", 100, 6, flow="hung_up") for _ in range(repetitions)], floor=1000)
        self.nothing_left()
        table.add("application's answer to its effect on the wire, p99 ms: at most", [self.answer_to_effect_ms()], floor=5, digits=1)
        table.add("relayed RTP packet at 200 calls, CPU us", *pairs(lambda peer: self.relay(peer, media(peer), 200, 6)), ratio=1.0, digits=2)
        table.add("bridged INVITE to 200, p50 ms", *pairs(lambda peer: self.load.latency(peer, media(peer), 300)), floor=2, digits=2)
        self.nothing_left()

        seconds, rate = 60, 200
        before = self.ours.server.rows("SELECT count(*) FROM calls WHERE to_address = 'ivr'")[0][0]
        told = self.load.signalling(self.ours, "ivr", rate, seconds, flow="hung_up")
        self.nothing_left()
        wait_for(lambda: self.ours.server.rows("SELECT count(*) FROM calls WHERE to_address = 'ivr'")[0][0] >= before + rate * seconds, 20, "every CDR", every=0.2)
        table.add(f"IVR calls at {rate}/s for {seconds} s: failed", [told["failed"]], floor=0)
        table.add("... left: live calls and media ports", [sum(self.ours.left())], floor=0)
        table.add("... CPU us a call", [told["us"]])
        table.print()
        print(f"{platform.machine()}, {os.cpu_count()} processors, Linux {platform.release()}; medians (lowest-highest) of three, of bridged calls of eleven, in turn; the ratio is the median of the pairs', all at one nice value, loopback")
        theirs.stop()
        self.scenario.equal(table.missed, [], "figures that miss their floor")
        return f"{len(table.rows)} figures, every floor reached"

    def stop(self):
        self.scenario.check("panicked" not in self.ours.server.log(), "a panic is in the log")
        self.scenario.equal(self.ours.stop(), 0, "exit code")


def go_first():
    """Servers and callers alike go before all else that the machine does: what is in their way is not of their cost."""
    try:
        os.nice(-5)
    except PermissionError:
        print("  note: without root all run at the usual priority, and are in the way of what else runs", flush=True)


def main():
    allow_many_files()
    with Scenario(__file__) as scenario:
        if scenario.long:
            go_first()
        runs = Runs(scenario)
        scenario.step("profile", runs.profile)
        scenario.step("comparison" if scenario.long else "sanity", runs.compare if scenario.long else runs.sanity)
        scenario.step("stop", runs.stop)
        scenario.summary = "compared with Kamailio and rtpengine: see the table" if scenario.long else "small loads: 0 failed, 0 left"


main()
