"""A customer's application: a document for each caller and each page, noises as files, and a list of what it was asked and told."""

import io
import threading
import time
import wave
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import numpy
from twilio.request_validator import RequestValidator
from twilio.twiml.voice_response import Dial, Gather, VoiceResponse

from lib.rtp import noise
from lib.scenario import wait_for

EVENTS = "start end join leave mute hold modify speaker announcement"
# What can be heard at /play/NAME: noises of a second.
NOISES = {name: noise(1.0, seed) for seed, name in enumerate(["wait", "hold", "news", "word", "whisper", "after", "pressed"], 1)}


def join(name, **attributes):
    """A member of a conference that tells of all its steps; afterwards its document goes on at /after."""
    response, dial = VoiceResponse(), Dial(action="/after")
    dial.conference(name, status_callback="/told", status_callback_event=EVENTS, **attributes)
    response.append(dial)
    return response


def enqueue(name, **attributes):
    response = VoiceResponse()
    response.enqueue(name, action="/dequeued", **attributes)
    return response


def take(name, timeout=30, **attributes):
    response, dial = VoiceResponse(), Dial(action="/taken", timeout=timeout)
    dial.queue(name, **attributes)
    response.append(dial)
    return response


def play(*names):
    response = VoiceResponse()
    for name in names:
        response.play(f"/noise/{name}.wav")
    return response


def goes_on(query):
    """Heard by those whose room is behind them."""
    response = play("after")
    response.pause(length=30)
    return response


def leaving(query):
    response = play("wait")
    response.leave()
    return response


def hanging(query):
    response = play("wait")
    response.hangup()
    return response


def menu(query):
    response, gather = VoiceResponse(), Gather(num_digits=1, action="/pressed", timeout=20)
    gather.play("/noise/wait.wav", loop=0)
    response.append(gather)
    return response


def pressed(query):
    """For one who waits still: once, and then in silence."""
    response = play("pressed")
    response.pause(length=30)
    return response


PAGES = {"/after": goes_on, "/dequeued": goes_on, "/taken": goes_on, "/elsewhere": goes_on, "/leaving": leaving, "/hanging": hanging, "/menu": menu, "/pressed": pressed}


def wav(samples):
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, 8000, 0, "NONE", ""))
        writer.writeframes(numpy.asarray(samples).clip(-32768, 32767).astype("<i2").tobytes())
    return file.getvalue()


class Application(ThreadingHTTPServer):
    """Answers at `url`; `documents` has what each caller, by its number, is to do."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port, token):
        self.url, self.requests, self.documents = f"http://127.0.0.1:{port}", [], {}
        # The queues whose sids came, and whether REST knew them at that moment.
        self.known, self.client = {}, None
        self.validator = RequestValidator(token)
        super().__init__(("127.0.0.1", port), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def page(self, path, query, params):
        """The type and the body of an answer; no body is 204, no type 500."""
        folder, _, name = path[1:].partition("/")
        if path == "/voice":
            return "text/xml", str(self.documents[params["From"]]).encode()
        if path in PAGES:
            return "text/xml", str(PAGES[path](query)).encode()
        if folder == "play":
            return "text/xml", str(play(name)).encode()
        if folder == "noise":
            return "audio/wav", wav(NOISES[name.removesuffix(".wav")])
        return (None if path == "/broken" else "text/plain"), b""

    def to(self, path, **wanted):
        """The parameters of what came to a path with these, in order."""
        found = [one["params"] for one in list(self.requests) if one["path"] == path]
        return [params for params in found if all(params.get(name) == value for name, value in wanted.items())]

    def wait(self, path, seconds=5, **wanted):
        """The first of them."""
        return wait_for(lambda: self.to(path, **wanted), seconds, f"a request for {path} with {wanted}")[0]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        app, parts = self.server, urlsplit(self.path)
        pairs = parse_qsl(self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode(), keep_blank_values=True)
        asked = parse_qsl(parts.query, keep_blank_values=True)
        signature, form = self.headers.get("X-Twilio-Signature", ""), dict(pairs)
        counts = Counter(name for name, _ in pairs + asked)
        params = dict(asked) | form
        if app.client and "QueueSid" in params and params["QueueSid"] not in app.known:
            app.known[params["QueueSid"]] = any(one.sid == params["QueueSid"] for one in app.client.queues.list())
        content_type, body = app.page(parts.path, dict(asked), params)
        app.requests.append({
            "path": parts.path, "method": self.command, "params": params, "at": time.monotonic(),
            "valid": app.validator.validate(app.url + self.path, form, signature),
            "forged": app.validator.validate(app.url + self.path + "x", form, signature),
            "twice": sorted(name for name, count in counts.items() if count > 1),
        })
        self.send_response(500 if content_type is None else 200 if body else 204)
        self.send_header("Content-Type", content_type or "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

    def handle(self):
        try:
            super().handle()
        except OSError:
            pass

    def log_message(self, *_):
        pass
