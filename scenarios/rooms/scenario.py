"""Telephones in conferences and queues: an application and its REST program put them there, and what each hears is compared with what the others said."""

import concurrent.futures
import io
import pathlib
import sys
import wave

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import numpy
import requests
from twilio.rest import Client

from application import Application
from conferences import Conferences
from ears import ENOUGH, IMPOSTOR, Ears
from lib.rtp import best_match, ulaw_decode
from lib.scenario import Scenario, wait_for
from lib.server import ACCOUNT, AUTH_TOKEN, Server, base_config, number, trunk, user
from queues import Queues
from telephones import Telephones

HTTP, APP, SIP, TRUNK = "127.0.0.1:10700", 10705, ("127.0.0.1", 10710), "127.0.0.2"
OTHER, OTHER_TOKEN = "AC" + "f" * 32, "of-the-other"
NUMBER = "+15554000"
USERS = {"quin": "secret-of-quin", "rosa": "secret-of-rosa"}
CONFIG = base_config(
    f"{SIP[0]}:{SIP[1]}",
    HTTP,
    "10720-10999",
    more=number(NUMBER, voice_url=f"http://127.0.0.1:{APP}/voice")
    + "".join(user(name, password) for name, password in USERS.items())
    + trunk("carrier", **{"from": [f"{TRUNK}/32"]})
    + f'\n[[account]]\nsid = "{OTHER}"\nauth_token = "{OTHER_TOKEN}"\n',
)


class Rooms:
    """What all parts share."""

    number = NUMBER

    def __init__(self, scenario):
        self.scenario, self.ears = scenario, Ears(scenario)

    def start(self):
        self.app = Application(APP, AUTH_TOKEN)
        self.server = Server(self.scenario, CONFIG).start()
        self.client, self.other = self.login(ACCOUNT, AUTH_TOKEN), self.login(OTHER, OTHER_TOKEN)
        self.app.client = self.client
        self.telephones = Telephones(SIP, TRUNK, NUMBER, self.app)
        self.users = {name: self.telephones.register(name, password) for name, password in USERS.items()}
        # What is played where nothing else is wanted: its beginning.
        music = self.scenario.here.parent.parent / "src/speech/prompts/hold-music.ulaw"
        self.music = ulaw_decode(music.read_bytes()[800:6400])

    @staticmethod
    def login(sid, token):
        client = Client(sid, token)
        client.api.base_url = f"http://{HTTP}"
        return client

    def download(self, url):
        """The samples of a recording of one channel."""
        response = requests.get(url, auth=(ACCOUNT, AUTH_TOKEN), timeout=5)
        self.scenario.equal(response.status_code, 200, "a download")
        with wave.open(io.BytesIO(response.content)) as file:
            self.scenario.equal((file.getnchannels(), file.getframerate(), file.getsampwidth()), (1, 8000, 2), "form of the recording")
            return numpy.frombuffer(file.readframes(file.getnframes()), "<i2").astype(float)

    def recorded(self, audio, words, is_kept, what):
        # Without the edges: a pause may end a moment later than its answer came.
        found = best_match(words.samples[400:-400], audio)[0]
        self.ears.comparisons += 1
        if is_kept:
            self.scenario.check(found >= ENOUGH, f"{what} is not recorded: correlation {found:.3f}")
            self.ears.worst = min(self.ears.worst, found)
        else:
            self.scenario.check(found < IMPOSTOR, f"{what} is recorded: correlation {found:.3f}")
            self.ears.best_impostor = max(self.ears.best_impostor, found)

    def validated(self):
        """Every request is signed, names no parameter twice, and is not what the validator takes when it is changed."""
        asked = self.app.requests
        signed = [one for one in asked if not one["path"].startswith("/noise/")]
        self.scenario.equal([(one["path"], one["params"]) for one in signed if not one["valid"]], [], "requests with a wrong signature")
        self.scenario.equal([one["path"] for one in asked if one["forged"]], [], "requests that are valid when they are changed")
        self.scenario.equal(sorted({(one["path"], *one["twice"]) for one in asked if one["twice"]}), [], "parameters that come twice")
        return f"{len(signed)} requests"

    def books(self):
        """Nothing is left: no call, no media, no conference."""
        self.telephones.close()
        wait_for(lambda: not self.server.live(), 5, "all calls to be over", every=0.1)
        self.server.wait_metric(0, "dialtone_media_sessions")
        self.scenario.equal([one.sid for one in self.client.conferences.list() if one.status != "completed"], [], "conferences that are not over")

    def stop(self):
        self.scenario.equal(self.server.stop(), 0, "exit code")


def main():
    with Scenario(__file__) as scenario:
        rooms = Rooms(scenario)
        scenario.step("start", rooms.start)
        conferences = Conferences(rooms)
        queues = Queues(rooms, conferences.refused)
        parts = [
            queues.served, conferences.voices, conferences.created, conferences.held, conferences.announced, conferences.begins_and_ends, conferences.coached,
            queues.managed, queues.patient, queues.given_up, queues.gone_meanwhile, queues.left, queues.full, queues.asked,
        ]
        step = lambda part: scenario.step(part.__name__.replace("_", " "), part)
        only = [part for part in parts if part.__name__ in sys.argv[1:]]
        with concurrent.futures.ThreadPoolExecutor(len(parts)) as pool:
            list(pool.map(step, only or parts))
        after = [conferences.told_all, conferences.listed, queues.emptied]
        for part in (rooms.books, *([] if only else after), rooms.validated, rooms.stop):
            step(part)
        ears = rooms.ears
        heard = f"correlation {ears.worst:.3f} or more, and {ears.best_impostor:.3f} or less where not"
        scenario.summary = f"who is to be heard is heard: {heard}, in {ears.comparisons} comparisons; {ears.again} said again"


main()
