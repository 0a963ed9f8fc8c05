"""Stands between the server and a program, passes everything on as it is, and keeps what was asked and answered."""

import http.client
import re
import threading
import time
import xml.etree.ElementTree
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import requests
from twilio.request_validator import RequestValidator

from lib.scenario import wait_for
from lib.server import ACCOUNT, AUTH_TOKEN

# A call goes this way; what REST says must be as far as what a request said, or farther.
RANKS = {"queued": 0, "initiated": 0, "ringing": 1, "in-progress": 2}
LAST = 3
# What is another in each call.
VARIES = {
    "Timestamp", "RecordingStartTime", "SipCallId", "DialSipCallId", "CallDuration", "DialCallDuration", "Duration", "RecordingDuration", "RecordingUrl", "QueueTime",
    "AvgQueueTime", "QueuePosition", "CurrentQueueSize",
}
SID = re.compile(r"\b([A-Z]{2})[0-9a-f]{32}\b")


class Recorder(ThreadingHTTPServer):
    """Listens at `port`, where the program believes to be, and forwards to `target`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port, target, http):
        self.url, self.target, self.http = f"http://127.0.0.1:{port}", target, http
        self.requests, self.validator = [], RequestValidator(AUTH_TOKEN)
        super().__init__(("127.0.0.1", port), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def status(self, sid):
        """What REST says of a call."""
        answer = requests.get(f"http://{self.http}/2010-04-01/Accounts/{ACCOUNT}/Calls/{sid}.json", auth=(ACCOUNT, AUTH_TOKEN), timeout=5)
        return answer.json().get("status")

    def forward(self, handler, body):
        """Status, headers and body of the program's answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.target, timeout=10)
        try:
            connection.putrequest(handler.command, handler.path, skip_host=True, skip_accept_encoding=True)
            for name, value in handler.headers.items():
                if name.lower() != "connection":
                    connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            connection.close()

    def to(self, path, **wanted):
        """The parameters of what came to a path with these, in order."""
        found = [one["params"] for one in list(self.requests) if one["path"] == path]
        return [params for params in found if all(params.get(name) == value for name, value in wanted.items())]

    def wait(self, path, seconds=6, **wanted):
        """The first of them."""
        return wait_for(lambda: self.to(path, **wanted), seconds, f"a request for {path} with {wanted}", every=0.03)[0]

    def trace(self, calls):
        """What was asked of these calls, without what is another each time: documents in order, and callbacks in order of each path.

        What is asked several times while somebody waits counts once."""
        documents, callbacks = [], {}
        for one in list(self.requests):
            if one["params"].get("CallSid") not in calls:
                continue
            params = {name: self.plain(name, value) for name, value in one["params"].items()}
            entry = (one["path"], tuple(sorted(params.items())), one["cookie"], one["status"], one["document"])
            if one["document"]:
                if entry not in documents or not one["path"].endswith("/wait"):
                    documents.append(entry)
            else:
                callbacks.setdefault(one["path"], []).append(entry)
        return documents, callbacks

    def plain(self, name, value):
        return "*" if name in VARIES else SID.sub(r"\1*", value.replace(self.url, "http://program"))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        recorder, parts = self.server, urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pairs, asked = parse_qsl(body.decode(), keep_blank_values=True), parse_qsl(parts.query, keep_blank_values=True)
        form = dict(pairs)
        counts = Counter(name for name, _ in pairs + asked)
        one = {
            "path": parts.path, "params": dict(asked) | form, "at": time.monotonic(), "cookie": self.headers.get("Cookie", ""),
            "valid": recorder.validator.validate(recorder.url + self.path, form, self.headers.get("X-Twilio-Signature", "")),
            "twice": sorted(name for name, count in counts.items() if count > 1), "status": 0, "document": "",
        }
        said, sid = form.get("CallStatus"), form.get("CallSid")
        if said:
            one["rest"] = recorder.status(sid)
        # In the order in which they come.
        if not parts.path.startswith("/sounds/"):
            recorder.requests.append(one)
        one["status"], headers, answer = recorder.forward(self, body)
        if answer.startswith(b"<?xml"):
            one["document"] = xml.etree.ElementTree.canonicalize(answer.decode()).replace(recorder.url, "http://program")
        self.send_response(one["status"])
        for name, value in headers:
            if name.lower() not in ("connection", "content-length", "transfer-encoding", "date", "server", "keep-alive"):
                self.send_header(name, value)
        if one["status"] not in (204, 304):
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_HEAD = answer

    def handle(self):
        try:
            super().handle()
        except OSError:
            pass

    def log_message(self, *_):
        pass


def agrees(one):
    """Whether REST is as far as the request: where that is the last word, both say the same."""
    said, rest = one["params"]["CallStatus"], one["rest"]
    return rest == said if said not in RANKS else RANKS.get(rest, LAST) >= RANKS[said]
