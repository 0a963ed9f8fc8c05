"""Running SIPp flows."""

import os

from .scenario import Failed


class Sipp:
    """One SIPp process. `wait` gives its Call-IDs, or fails with what SIPp says."""

    def __init__(self, scenario, flow, remote, local=("127.0.0.2", 5060), user="service", calls=1, media_port=6000, options=()):
        self.scenario, self.name = scenario, flow.stem if hasattr(flow, "stem") else flow
        self.folder = scenario.folder / f"sipp-{self.name}-{local[1]}"
        self.folder.mkdir(exist_ok=True)
        argv = [
            "sipp", remote, "-sf", flow, "-s", user, "-i", local[0], "-p", local[1], "-m", calls, "-mi", local[0], "-mp", media_port,
            "-nostdin", "-trace_err", "-error_file", "errors", "-trace_msg", "-message_file", "messages", "-timeout", "25", "-timeout_error",
            "-recv_timeout", "12000", "-cid_str", f"%u-{self.name}-%p@%s", *options,
        ]
        environment = os.environ | {"TERM": "dumb"}
        self.process = scenario.start(argv, log=f"sipp-{self.name}.out", cwd=self.folder, env=environment)

    def wait(self, seconds=30):
        """Waits for success."""
        code = self.process.wait(seconds)
        self.scenario.end(self.process)
        if code:
            raise Failed(f"SIPp's {self.name} ended with {code}\n{self._read('errors')}\n{self._read('messages')[-6000:]}")
        self.scenario.checks += 1
        return self

    def _read(self, name):
        path = self.folder / name
        return path.read_text(errors="replace") if path.exists() else ""

    def messages(self):
        """The trace of everything that SIPp sent and received."""
        return self._read("messages")

    def call_ids(self):
        """The Call-IDs of its calls, in order."""
        found = dict.fromkeys(line.split(":", 1)[1].strip() for line in self.messages().splitlines() if line.lower().startswith("call-id:"))
        return list(found)
