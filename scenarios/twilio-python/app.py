"""A customer's application, written with the official package as its documentation shows. Listens on the port of its first
argument; writes every request as one line of JSON to its second; its third is the auth token that it believes in."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from twilio.request_validator import RequestValidator
from twilio.twiml.voice_response import Dial, Gather, VoiceResponse

PORT, LOG, TOKEN = int(sys.argv[1]), open(sys.argv[2], "a", buffering=1), sys.argv[3]
VALIDATOR = RequestValidator(TOKEN)
WRITING = threading.Lock()


def voice(form, cookies):
    response = VoiceResponse()
    gather = Gather(num_digits=4, action="/digits?step=1&note=a+b", timeout=5)
    gather.say("Please enter the four digits.")
    response.append(gather)
    response.say("Nothing was entered.")
    return response


def digits(form, cookies):
    response = VoiceResponse()
    response.redirect("/again?from=digits&q=%C3%A9", method="GET")
    return response


def again(form, cookies):
    response = VoiceResponse()
    gather = Gather(finish_on_key="#", action="/account", method="GET", timeout=5)
    gather.say("And the account, then hash.")
    response.append(gather)
    return response


def account(form, cookies):
    response = VoiceResponse()
    dial = Dial(action="/dialled", timeout=10, answer_on_bridge=True)
    dial.client("bob", status_callback="/child?kind=client", status_callback_event="initiated ringing answered completed")
    response.append(dial)
    return response


def dialled(form, cookies):
    response = VoiceResponse()
    response.say("Goodbye.")
    response.hangup()
    return response


def fallback(form, cookies):
    response = VoiceResponse()
    response.say("Something is wrong.")
    response.hangup()
    return response


def nothing(form, cookies):
    return None


PAGES = {
    "/voice": voice, "/digits": digits, "/again": again, "/account": account, "/dialled": dialled, "/fallback": fallback,
    "/status": nothing, "/child": nothing,
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        form = dict(parse_qsl(self.rfile.read(length).decode(), keep_blank_values=True))
        url = f"http://127.0.0.1:{PORT}{self.path}"
        signature = self.headers.get("X-Twilio-Signature", "")
        valid = VALIDATOR.validate(url, form, signature)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        with WRITING:
            line = {
                "method": self.command, "path": parts.path, "query": query, "form": form, "valid": valid, "cookie": self.headers.get("Cookie", ""),
                "token": self.headers.get("I-Twilio-Idempotency-Token", ""), "agent": self.headers.get("User-Agent", ""),
                # The same request by somebody who does not know the token, and with one value changed.
                "forged": VALIDATOR.validate(url + "x", form, signature) or RequestValidator(TOKEN + "x").validate(url, form, signature)
                or VALIDATOR.validate(url, form | {"From": "+19990000000"}, signature),
            }
            LOG.write(json.dumps(line) + "\n")
        if not valid:
            return self.send(403, "forbidden", "text/plain")
        if parts.path == "/broken":
            return self.send(500, "out of order", "text/plain")
        if parts.path not in PAGES:
            return self.send(404, "not found", "text/plain")
        document = PAGES[parts.path](form | query, self.headers.get("Cookie", ""))
        if document is None:
            return self.send(204, "", "text/plain")
        self.send(200, str(document), "text/xml")

    do_GET = do_POST = answer

    def send(self, status, body, content_type):
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        if self.path.startswith("/voice"):
            self.send_header("Set-Cookie", "session=blue-17; Path=/")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
