"""A real browser with pages that have the official voice SDK, driven from here."""

import json
import os
import pathlib
import subprocess
import threading

from .scenario import Failed, wait_for


class Browser:
    """One Chromium, or one Firefox. `hosts` are rules by which names are found, as Chromium's `--host-resolver-rules` has them; Firefox finds `*.localhost` by itself."""

    def __init__(self, scenario, port, hosts="MAP eventgw.localhost 127.0.0.1", engine="chromium"):
        script, environment = pathlib.Path(__file__).with_name(f"{engine}.js"), dict(os.environ)
        if engine == "firefox":
            environment |= self._sound(scenario)
        log_file = scenario.folder / f"{engine}.log"
        log = open(log_file, "ab")
        self.process = scenario.start(["node", script, str(port), hosts], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment, cwd=script.parent)
        scenario.on_failure(lambda: f"--- {log_file.name}\n{log_file.read_text(errors='replace')[-4000:]}")
        self.number, self.answers, self.asking = 0, {}, threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()
        self.version = wait_for(lambda: self.answers.pop(0, None), 30, f"{engine} to start")["value"]

    def _sound(self, scenario):
        """A sound server that plays into nothing: without one Firefox has no clock for sound. What of the environment leads to it, and to a home of its own."""
        home = scenario.folder / "home"
        home.mkdir()
        socket = home / "pulse.socket"
        environment = {"HOME": str(home), "XDG_RUNTIME_DIR": str(home)}
        modules = ["-L", "module-null-sink sink_name=null", "-L", f"module-native-protocol-unix socket={socket} auth-anonymous=1"]
        scenario.start(["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--disable-shm=yes", *modules], log="pulseaudio.log", env=os.environ | environment)
        wait_for(socket.exists, 10, "the sound server")
        return environment | {"PULSE_SERVER": f"unix:{socket}"}

    def _read(self):
        for line in self.process.stdout:
            answer = json.loads(line)
            self.answers[answer["id"]] = answer

    def ask(self, page=None, code=None, what=None, seconds=15):
        """What the code in a page comes to."""
        with self.asking:
            self.number += 1
            number = self.number
            self.process.stdin.write(json.dumps({"id": number, "page": page, "code": code, "what": what}).encode() + b"\n")
            self.process.stdin.flush()
        answer = wait_for(lambda: self.answers.pop(number, None), seconds, f"the browser to have done {code or what}")
        if "error" in answer:
            raise Failed(f"in the page {page}, {code}: {answer['error']}")
        return answer["value"]

    def page(self, name, hertz=440):
        page = Page(self, name)
        page.run(f"tone.frequency.value = {hertz}")
        return page

    def asked(self):
        """Every address that a page has asked for."""
        return self.ask(what="asked")

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)


class Page:
    """A page: a phone of the SDK."""

    def __init__(self, browser, name):
        self.browser, self.name, self.seen = browser, name, 0

    def run(self, code, **options):
        return self.browser.ask(self.name, code, **options)

    def open(self, token, **options):
        self.run(f"phone.open({json.dumps(token)}, {json.dumps(options)})")
        self.seen = self.run("phone.events.length")

    def close(self):
        self.browser.ask(self.name, what="close")

    def events(self, name=None):
        return [event for event in self.run("phone.events") if name in (None, event["name"])]

    def wait(self, name, seconds=8, **detail):
        """The next event of that name that was not waited for yet."""
        def find():
            events = self.run("phone.events")
            for at in range(self.seen, len(events)):
                if events[at]["name"] == name and detail.items() <= events[at].items():
                    self.seen = at + 1
                    return events[at]
            return None

        try:
            return wait_for(find, seconds, f"{name} of {self.name}", every=0.05)
        except Failed as failed:
            raise Failed(f"{failed}; it has had {self.run('phone.events')}") from None

    def register(self):
        self.run("phone.device.register()")
        self.wait("registered")

    def connect(self, params=None, **options):
        """Calls; the number of the call in the page."""
        return self.run(f"phone.connect({json.dumps(params or {})}, {json.dumps(options)})")

    def state(self, call):
        return self.run(f"phone.state({call})")

    def hears(self, call, hertz, seconds=6, at_least=0.1):
        """Waits until it hears that tone."""
        heard = {}

        def is_heard():
            heard.update(self.run(f"phone.heard({call})"))
            return abs(heard["hertz"] - hertz) < 15 and heard["level"] > at_least

        try:
            wait_for(is_heard, seconds, "a tone")
        except Failed:
            raise Failed(f"{self.name} does not hear {hertz} Hz, but {heard}; {self.run(f'phone.stats({call})')}") from None
        return heard
