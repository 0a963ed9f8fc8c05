"""A customer's application: documents that record, and a list of what it was asked and told."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import requests
from twilio.request_validator import RequestValidator
from twilio.twiml.voice_response import Dial, Start, VoiceResponse

from lib.scenario import wait_for

TOLD = {"recording_status_callback": "/recording", "recording_status_callback_event": "in-progress completed absent"}


def record(query):
    """The attributes are those of the query; whoever said nothing is sent on to `/next`."""
    response = VoiceResponse()
    response.record(action="/recorded", finish_on_key="#", **TOLD, **query)
    response.redirect("/next")
    return response


def record_by_get(query):
    response = VoiceResponse()
    told = TOLD | {"recording_status_callback": "/recording?by=get", "recording_status_callback_method": "GET"}
    response.record(action="/recorded", method="GET", finish_on_key="#", trim="do-not-trim", **told)
    return response


def dial(query):
    response = VoiceResponse()
    dial = Dial(action="/dialled", record="record-from-answer-dual", trim="do-not-trim", **TOLD)
    dial.client("bob")
    response.append(dial)
    return response


def started(query):
    response, start = VoiceResponse(), Start()
    start.recording(channels="dual", trim="do-not-trim", **TOLD)
    response.append(start)
    response.say("This call is being recorded, as you hear.")
    response.pause(length=30)
    return response


def wait(query):
    response = VoiceResponse()
    response.pause(length=30)
    return response


def hang_up(query):
    response = VoiceResponse()
    response.hangup()
    return response


PAGES = {
    "/record": record, "/record-by-get": record_by_get, "/recorded": hang_up, "/next": hang_up, "/dial": dial, "/dialled": hang_up,
    "/started": started, "/wait": wait, "/recording": None,
}


class Application(ThreadingHTTPServer):
    """Answers signed requests at `url`, and keeps all that came. What `/recorded` is told of it downloads before it answers."""

    daemon_threads = True

    def __init__(self, port, login):
        self.url, self.login, self.requests = f"http://127.0.0.1:{port}", login, []
        self.validator = RequestValidator(login[1])
        super().__init__(("127.0.0.1", port), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def download(self, url):
        """What is there, and how often it was asked for: it may be a moment after the action that a recording is served."""
        for tries in range(1, 21):
            response = requests.get(url, auth=self.login, timeout=5)
            if response.status_code == 200:
                break
            time.sleep(0.05)
        return response, tries

    def to(self, path, **wanted):
        """What came to a path with these parameters, in order."""
        found = [form for at, form in list(self.requests) if at == path]
        return [form for form in found if all(form["params"].get(name) == value for name, value in wanted.items())]

    def wait(self, path, seconds=5, **wanted):
        """The first of them."""
        return wait_for(lambda: self.to(path, **wanted), seconds, f"a request for {path} with {wanted}")[0]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        app, parts = self.server, urlsplit(self.path)
        form = dict(parse_qsl(self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode(), keep_blank_values=True))
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        signature = self.headers.get("X-Twilio-Signature", "")
        asked = {
            "method": self.command, "params": query | form, "valid": app.validator.validate(app.url + self.path, form, signature),
            "token": self.headers.get("I-Twilio-Idempotency-Token", ""),
            "forged": app.validator.validate(app.url + self.path + "x", form, signature),
        }
        if parts.path == "/recorded":
            asked["download"], asked["tries"] = app.download(asked["params"]["RecordingUrl"])
        app.requests.append((parts.path, asked))
        page = PAGES.get(parts.path, hang_up)
        document = str(page(query)).encode() if page else b""
        self.send_response(200 if document else 204)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(document)))
        self.end_headers()
        self.wfile.write(document)

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass
