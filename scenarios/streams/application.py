"""An application that listens to calls by media streams, and answers: its documents are made by the official package, its WebSockets are `websockets`."""

import base64
import contextlib
import json
import threading
import time
import urllib.parse

from twilio.request_validator import RequestValidator
from twilio.twiml.voice_response import Connect, Start, Stop, Stream, VoiceResponse
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

from lib.document import Document
from lib.rtp import ulaw_decode
from lib.scenario import wait_for
from lib.server import AUTH_TOKEN


class Talk:
    """One connection: what came by it."""

    def __init__(self, socket):
        self.socket, self.messages, self.times, self.over = socket, [], [], threading.Event()
        self.path, self.headers = socket.request.path, socket.request.headers

    def of(self, event):
        return [message for message in list(self.messages) if message["event"] == event]

    @property
    def start(self):
        return wait_for(lambda: self.of("start"), 3, "the start of a stream")[0]["start"]

    def heard(self, track):
        """Samples that came on a track."""
        payloads = (message["media"]["payload"] for message in self.of("media") if message["media"]["track"] == track)
        return ulaw_decode(b"".join(base64.b64decode(payload) for payload in payloads))

    def send(self, event, **fields):
        sid = self.of("start")[0]["streamSid"]
        self.socket.send(json.dumps({"event": event, "streamSid": sid} | fields))

    def say(self, audio):
        self.send("media", media={"payload": base64.b64encode(audio).decode()})

    def mark(self, name):
        self.send("mark", mark={"name": name})

    def marked(self, name, seconds=4):
        """Waits for a mark; when it came."""
        found = lambda: [at for at, message in zip(list(self.times), list(self.messages)) if message["event"] == "mark" and message["mark"]["name"] == name]
        return wait_for(found, seconds, f"the mark {name}", every=0.01)[0]


class Application:
    """Documents and callbacks by HTTP, streams one port above. What a stream does is in its path."""

    def __init__(self, port):
        self.base, self.socket_base = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port + 1}"
        self.talks, self.at_once, self.most = [], 0, 0
        self.lock = threading.Lock()
        self.validator = RequestValidator(AUTH_TOKEN)
        self.unsigned = []
        self.web = Document(port, self.document)
        self.server = serve(self.talk, "127.0.0.1", port + 1, process_request=self.admit, max_size=None)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def document(self, request):
        form = dict(urllib.parse.parse_qsl(request.form))
        url, path = f"{self.base}{request.path}", request.path.split("?")[0]
        if not self.validator.validate(url, form, request.headers["X-Twilio-Signature"]):
            self.unsigned.append(url)
        response = VoiceResponse()
        if path == "/connect":
            connect = Connect(action="/after")
            stream = Stream(url=f"{self.socket_base}/{form['To'].removeprefix('+1555')}", name=form["CallSid"], status_callback=f"{self.base}/told")
            stream.parameter(name="from_number", value=form["From"])
            stream.parameter(name="quote", value='"a" & <b>')
            connect.append(stream)
            response.append(connect)
        elif path == "/listen":
            start = Start()
            start.append(Stream(url=f"{self.socket_base}/quiet", name="ear", track="both_tracks", status_callback=f"{self.base}/told"))
            response.append(start)
            response.play("dialtone:hold-music")
            stop = Stop()
            stop.stream(name="ear")
            response.append(stop)
            response.pause(length=20)
        elif path == "/wait":
            response.echo()
        request.document(str(response))

    def admit(self, connection, request):
        url = f"{self.socket_base}{request.path}"
        if not self.validator.validate(url, {}, request.headers.get("X-Twilio-Signature", "")):
            self.unsigned.append(url)
        if request.path.endswith("/refuse"):
            return connection.respond(403, "not today\n")
        return None

    def talk(self, socket):
        talk = Talk(socket)
        with self.lock:
            self.talks.append(talk)
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        does = getattr(self, "does_" + talk.path.strip("/").split("/")[0], self.does_quiet)
        try:
            for text in socket:
                talk.messages.append(json.loads(text))
                talk.times.append(time.monotonic())
                does(talk, talk.messages[-1])
        except ConnectionClosed:
            pass
        with self.lock:
            self.at_once -= 1
        talk.over.set()

    def does_quiet(self, talk, message):
        pass

    def does_echo(self, talk, message):
        if message["event"] == "media":
            # What comes is read to its end, though nothing is taken any more.
            with contextlib.suppress(ConnectionClosed):
                talk.send("media", media={"payload": message["media"]["payload"]})

    def newest(self, count, seconds=4):
        """The connection of that number, once there are so many."""
        return wait_for(lambda: len(self.talks) >= count and self.talks[count - 1], seconds, f"{count} connections")

    def told(self, stream, event, seconds=4):
        """Waits until the status callback has told that."""
        return self.web.wait(f"StreamSid={stream}&", seconds) and wait_for(
            lambda: any("/told" in one and f"StreamSid={stream}&" in one and f"StreamEvent={event}" in one for one in list(self.web.seen)), seconds, f"{event} of {stream}"
        )
