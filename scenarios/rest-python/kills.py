"""A server that is killed again and again while the program writes: what it has acknowledged is there, once."""

import random
import threading
import time

from twilio.base.exceptions import TwilioException

from lib.server import OF_LEGS

ROUNDS, LONG_ROUNDS = 5, 100


class Kills:
    def __init__(self, rest, url):
        self.rest, self.scenario, self.url = rest, rest.scenario, url
        self.random = random.Random(28)
        # What the server has said is so: applications by sid with their names, those deleted, and calls that are over.
        self.names, self.deleted, self.calls, self.unsure = {}, set(), set(), set()
        self.lock = threading.Lock()

    def threat_28(self):
        rounds = LONG_ROUNDS if self.scenario.long else ROUNDS
        for number in range(rounds):
            self.round(number)
        self.books()
        self.told = f"{rounds} kills: {len(self.names) + len(self.deleted)} writes and {len(self.calls)} calls kept"

    def round(self, number):
        over = threading.Event()
        writers = [threading.Thread(target=self.write, args=(over, f"{number}-{writer}")) for writer in range(3)]
        writers.append(threading.Thread(target=self.call, args=(over,)))
        for writer in writers:
            writer.start()
        time.sleep(self.random.uniform(0.05, 0.4))
        self.rest.server.kill()
        over.set()
        for writer in writers:
            writer.join()
        self.rest.server.start()
        present = {one.sid: one.friendly_name for one in self.rest.client.applications.list(page_size=1000)}
        lost = {sid for sid, name in self.names.items() if sid not in self.unsure and present.get(sid) != name}
        self.scenario.equal(lost, set(), f"writes lost in round {number}")
        self.scenario.equal(self.deleted & present.keys(), set(), f"deleted ones that came back in round {number}")
        # What was under way when the server died is either so or not; from here on it is known.
        for sid in self.unsure:
            if sid in present:
                self.names[sid] = present[sid]
            else:
                self.names.pop(sid, None)
                self.deleted.add(sid)
        self.unsure.clear()

    def write(self, over, name):
        """Makes, changes and deletes applications, and notes what is acknowledged."""
        client, count = self.rest.login(self.rest.client.username, self.rest.client.password), 0
        while not over.is_set():
            count += 1
            doing = None
            try:
                made = client.applications.create(friendly_name=f"{name}-{count}", voice_url=self.url).sid
                self.note(made, f"{name}-{count}")
                if count % 3 == 0:
                    doing = made
                    client.applications(made).update(friendly_name=f"{name}-{count} changed")
                    self.note(made, f"{name}-{count} changed")
                if count % 5 == 0:
                    doing = made
                    client.applications(made).delete()
                    with self.lock:
                        del self.names[made]
                        self.deleted.add(made)
            except (OSError, TwilioException):
                if doing:
                    with self.lock:
                        self.unsure.add(doing)

    def note(self, sid, name):
        with self.lock:
            self.names[sid] = name

    def call(self, over):
        """Makes calls that cannot be made, and notes those that are seen to be over."""
        client = self.rest.login(self.rest.client.username, self.rest.client.password)
        while not over.is_set():
            try:
                sid = client.calls.create(to="client:nobody", from_="me", twiml="<Response/>").sid
                if any(client.calls(sid).fetch().status == "failed" or time.sleep(0.01) for _ in range(30)):
                    self.calls.add(sid)
            except (OSError, TwilioException):
                pass

    def books(self):
        """Every call that was seen to be over has its record and its line; nothing has two."""
        self.rest.server.written(list(self.calls))
        rows = self.rest.server.rows
        self.scenario.equal(rows(f"SELECT count(*) - count(DISTINCT call) FROM ledger WHERE {OF_LEGS}"), [(0,)], "lines that are there twice")
        self.scenario.equal(rows(f"SELECT count(*) FROM ledger WHERE {OF_LEGS} AND call NOT IN (SELECT sid FROM calls)"), [(0,)], "lines without a call")
        self.scenario.equal(rows(f"SELECT count(*) FROM calls WHERE sid NOT IN (SELECT call FROM ledger WHERE {OF_LEGS})"), [(0,)], "calls without a line")
        self.scenario.equal(rows("PRAGMA integrity_check"), [("ok",)], "the database")
