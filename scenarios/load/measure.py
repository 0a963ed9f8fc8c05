"""What is measured, of any peer that speaks SIP at an address."""

import csv
import socket
import statistics
import subprocess
import time

from lib.scenario import Failed, wait_for
from lib.sip import IncomingCall, Message, Phone, ack_of_failure, sdp

from peers import CALLEE, CALLER, is_bound


class Load:
    def __init__(self, scenario):
        self.scenario = scenario
        self.flows = scenario.here / "flows"
        self.rtpload = scenario.folder / "rtpload"
        subprocess.run(["gcc", "-O2", "-o", self.rtpload, scenario.here / "rtpload.c"], check=True)

    def callee(self):
        """Whoever is called: answers at once. To be ended by the scenario."""
        folder = self.scenario.folder / f"callee-{time.monotonic_ns()}"
        folder.mkdir()
        argv = ["sipp", "-sf", self.flows / "callee.xml", "-i", "127.0.0.1", "-p", CALLEE, "-mi", "127.0.0.1", "-mp", "16200", "-nostdin", "-buff_size", "4194304"]
        process = self.scenario.start(argv, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: is_bound(CALLEE), 5, "the callee to listen")
        return process

    def caller(self, peer, user, rate, calls, pause_ms=0, flow="caller"):
        """Starts calls at a rate; `result` tells how it went."""
        folder = self.scenario.folder / f"caller-{time.monotonic_ns()}"
        folder.mkdir()
        argv = [
            "sipp", f"{peer.address[0]}:{peer.address[1]}", "-sf", self.flows / f"{flow}.xml", "-s", user, "-i", "127.0.0.1", "-p", CALLER, "-mi", "127.0.0.1",
            "-mp", "16210", "-r", rate, "-m", calls, "-l", calls + 10, "-d", pause_ms, "-nostdin", "-trace_stat", "-fd", "1", "-stf", "stat.csv",
            "-trace_err", "-error_file", "errors", "-buff_size", "4194304", "-timeout", f"{int(calls / rate + pause_ms / 1000 + 40)}s",
        ]
        process = self.scenario.start(argv, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        process.folder = folder
        return process

    def result(self, process, calls):
        """Waits for the end: calls that failed, and messages that were sent again."""
        code = process.wait()
        self.scenario.end(process)
        rows = list(csv.DictReader((process.folder / "stat.csv").open(), delimiter=";"))
        good, failed, again = (int(rows[-1][name]) for name in ("SuccessfulCall(C)", "FailedCall(C)", "Retransmissions(C)"))
        errors = process.folder / "errors"
        if code or failed or good != calls:
            print((errors.read_text(errors="replace")[:1500] if errors.exists() else ""), flush=True)
        return {"good": good, "failed": calls - good, "again": again}

    def signalling(self, peer, user, rate, seconds, flow="caller", callee=False):
        """CPU of the peer for each call, microseconds."""
        far = self.callee() if callee else None
        calls = rate * seconds
        before = peer.cpu_us()
        told = self.result(self.caller(peer, user, rate, calls, flow=flow), calls)
        told["us"] = (peer.cpu_us() - before) / calls
        if far:
            self.scenario.end(far)
        return told

    def hold(self, peer, user, calls, rate, seconds):
        """Memory and idle CPU of held calls: kB of the whole peer, microseconds a second of each call."""
        far = self.callee()
        ramp = calls / rate
        caller = self.caller(peer, user, rate, calls, pause_ms=int((ramp + seconds + 6) * 1000))

        def live():
            try:
                rows = list(csv.DictReader((caller.folder / "stat.csv").open(), delimiter=";"))
                return rows and int(rows[-1]["CurrentCall"]) == calls
            except (OSError, KeyError, TypeError, ValueError):
                return False

        wait_for(live, ramp + 6, f"{calls} calls to be held", every=0.1)
        # Until everybody has been told that nothing is heard.
        time.sleep(3)
        held = peer.memory_kb()
        cpu, began = peer.cpu_us(), time.monotonic()
        time.sleep(seconds)
        idle = (peer.cpu_us() - cpu) / (time.monotonic() - began) / calls
        told = self.result(caller, calls)
        self.scenario.end(far)
        return told | {"kb": held, "idle_us": idle}

    def latency(self, peer, user, calls):
        """INVITE to 200, milliseconds: one call at a time, by one thread that does nothing else."""
        far = self.callee()
        phone = Phone(peer.address, "load", local=("127.0.0.1", CALLER))
        phone.transport.close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
            line.bind(("127.0.0.1", CALLER))
            line.settimeout(5)
            took = [self._one_call(line, phone, peer, user) for _ in range(calls)]
        self.scenario.end(far)
        return statistics.median(took)

    def _one_call(self, line, phone, peer, user):
        invite = Message(phone.build("INVITE", f"sip:{user}@{peer.address[0]}:{peer.address[1]}", body=sdp("127.0.0.1", 16210)).encode())
        text = f"{invite.start}\r\n" + "\r\n".join(f"{name}: {value}" for name, value in invite.fields) + "\r\n\r\n" + invite.body.decode()
        began = time.perf_counter()
        line.sendto(text.encode(), peer.address)
        while True:
            data = line.recv(65536)
            if data.startswith(b"SIP/2.0 1"):
                continue
            took = time.perf_counter() - began
            break
        answer = Message(data)
        if answer.status != 200:
            line.sendto(ack_of_failure(invite, answer).encode(), peer.address)
            raise Failed(f"a call was refused: {answer.start}")
        routes = [f"Route: {route}" for route in reversed(answer.headers("record-route"))]
        for method, cseq in (("ACK", 1), ("BYE", 2)):
            part = phone.build(method, answer.contact_uri(), invite.call_id, cseq, answer.header("to"), invite.header("from"), routes)
            line.sendto(part.encode(), peer.address)
        while Message(line.recv(65536)).method != "BYE":
            pass
        return took * 1000

    def relay(self, peer, user, calls, seconds):
        """CPU of the peer for each RTP packet that comes out, microseconds; packets lost, and flows that heard nothing."""
        caller = Phone(peer.address, "load", local=("127.0.0.1", CALLER))
        callee = Phone(peer.address, "callee", local=("127.0.0.1", CALLEE))
        legs, flows = [], []
        try:
            for index in range(calls):
                near, far = 31000 + 4 * index, 31002 + 4 * index
                call = caller.invite(user, sdp("127.0.0.1", near, payloads=(0,)))
                incoming = callee.wait_invite()
                incoming.respond(200, sdp("127.0.0.1", far, payloads=(0,)))
                legs.append((call.accepted(), incoming))
                flows += [(near, *call.answer.media()), (far, *incoming.invite.media())]
            sent, received, cpu, rest = self._generate(peer, flows, seconds)
        finally:
            for call, incoming in legs:
                caller.transport.send(call.make("BYE"))
                incoming.wait_bye()
            caller.close()
            callee.close()
        all_sent, all_received, silent = rest
        return {"us": cpu / max(received, 1), "pps": received / seconds, "lost": all_sent - all_received, "sent": all_sent, "silent": silent}

    def _generate(self, peer, flows, seconds):
        generator = self.scenario.start([self.rtpload, seconds], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        generator.stdin.write("".join(f"{local} {ip} {port}\n" for local, ip, port in flows))
        generator.stdin.close()

        def line(word):
            text = generator.stdout.readline()
            if not text.startswith(word):
                raise Failed(f"the generator says {text!r} instead of {word!r}")
            return list(map(int, text.split()[1:]))

        line("begin")
        before = peer.cpu_us()
        sent, received = line("end")
        cpu = peer.cpu_us() - before
        rest = line("total")
        self.scenario.end(generator)
        return sent, received, cpu, rest
