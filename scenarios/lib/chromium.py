"""Chromium with pages that have the official voice SDK, driven from here."""

import json
import os
import pathlib
import subprocess
import threading

from .scenario import Failed, wait_for


class Browser:
    """One Chromium. `hosts` are rules by which names are found, as its `--host-resolver-rules` has them."""

    def __init__(self, scenario, port, hosts="MAP eventgw.localhost 127.0.0.1"):
        script = pathlib.Path(__file__).with_name("chromium.js")
        log = open(scenario.folder / "chromium.log", "ab")
        self.process = scenario.start(["node", script, str(port), hosts], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=os.environ, cwd=script.parent)
        scenario.on_failure(lambda: f"--- chromium.log\n{(scenario.folder / 'chromium.log').read_text(errors='replace')[-4000:]}")
        self.number, self.answers = 0, {}
        threading.Thread(target=self._read, daemon=True).start()
        self.version = wait_for(lambda: self.answers.pop(0, None), 20, "Chromium to start")["value"]

    def _read(self):
        for line in self.process.stdout:
            answer = json.loads(line)
            self.answers[answer["id"]] = answer

    def ask(self, page=None, code=None, what=None, seconds=15):
        """What the code in a page comes to."""
        self.number += 1
        number = self.number
        self.process.stdin.write(json.dumps({"id": number, "page": page, "code": code, "what": what}).encode() + b"\n")
        self.process.stdin.flush()
        answer = wait_for(lambda: self.answers.pop(number, None), seconds, f"Chromium to have done {code or what}")
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
