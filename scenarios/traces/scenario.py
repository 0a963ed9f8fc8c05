"""Traces of calls, by way of a collector that is not ours: what it passes on is read by OpenTelemetry's own messages."""

import gzip
import pathlib
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import rotel
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from lib.document import Document
from lib.scenario import Scenario, wait_for
from lib.server import ACCOUNT, Server, base_config, number, trunk
from lib.sip import Phone, sdp

SIP, HTTP, RTP = ("127.0.0.1", 12910), "127.0.0.1:12911", "12930-12959"
APP, COLLECTOR, COLLECTOR_GRPC, BACKEND, CARRIER = 12900, 12901, 12902, 12903, 12904
SHOP, BROKEN, FORWARDED, KEY = "+15557000000", "+15557000001", "+15557000002", "key-of-the-collector-5a"
DOCUMENTS = {
    "/voice?token=of-the-app": "<Response><Pause/><Redirect>/next</Redirect></Response>",
    "/next": "<Response><Echo/></Response>",
    "/forward": "<Response><Dial><Number>+15557111111</Number></Dial></Response>",
}
TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-01")


class Backend:
    """Where the collector leaves what it has: the spans, by the name of their trace."""

    def __init__(self, port):
        traces, headers = self.traces, self.headers = {}, []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = ExportTraceServiceRequest.FromString(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
                headers.append(self.headers)
                for resource in request.resource_spans:
                    about = values(resource.resource.attributes)
                    for span in (span for scope in resource.scope_spans for span in scope.spans):
                        traces.setdefault(span.trace_id.hex(), []).append((span, about))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def trace(self, sid, spans):
        """The spans of a call by name, once there are so many; and what is said of the server."""
        name = sid.removeprefix("CA")
        wait_for(lambda: len(self.traces.get(name, [])) >= spans, 6, f"{spans} spans of {sid}")
        found = self.traces[name]
        return {span.name: span for span, _ in found}, found[0][1]


def values(attributes):
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in attributes}


class Traces:
    def __init__(self, scenario):
        self.scenario, self.told = scenario, {}

    def start(self):
        self.app, self.backend = Document(APP, self.answer), Backend(BACKEND)
        self.start_collector()
        more = (
            trunk("phones", **{"from": ["127.0.0.1"]}, uri=f"sip:127.0.0.1:{CARRIER}")
            + number(SHOP, voice_url=f"http://127.0.0.1:{APP}/voice?token=of-the-app")
            + number(BROKEN, voice_url=f"http://127.0.0.1:{APP}/nowhere")
            + number(FORWARDED, voice_url=f"http://127.0.0.1:{APP}/forward")
            + f'\n[traces]\nendpoint = "http://127.0.0.1:{COLLECTOR}/v1/traces"\nheaders = {{ x-key = "{KEY}" }}\n'
        )
        self.server = Server(self.scenario, base_config(f"{SIP[0]}:{SIP[1]}", HTTP, RTP, more=more)).start()
        self.phone = Phone(SIP, "+15557100000")

    def start_collector(self):
        agent = pathlib.Path(rotel.__file__).parent / "rotel-agent"
        argv = [agent, "start", "--otlp-http-endpoint", f"127.0.0.1:{COLLECTOR}", "--otlp-grpc-endpoint", f"127.0.0.1:{COLLECTOR_GRPC}"]
        argv += ["--exporter", "otlp", "--otlp-exporter-protocol", "http", "--batch-timeout", "200ms"]
        argv += ["--otlp-exporter-endpoint", f"http://127.0.0.1:{BACKEND}"]
        self.collector = self.scenario.start(argv, log="collector.log")

    def answer(self, request):
        self.told[request.path.split("?")[0]] = request.headers.get("traceparent")
        found = DOCUMENTS.get(request.path)
        request.document(found or "nothing here", status=200 if found else 404)

    def call(self, called):
        """A call that is answered and hung up, or refused; its record."""
        call = self.phone.invite(called, sdp("127.0.0.1", 9))
        if call.final().status == 200:
            call.ack()
            if called == SHOP:
                self.app.wait("/next")
            call.bye()
        return self.server.ended(call.call_id)

    def whole(self):
        """A call of two documents: its trace is named as it is, and the application can add to it."""
        equal, check = self.scenario.equal, self.scenario.check
        call = self.call(SHOP)
        spans, server = self.backend.trace(call["sid"], 6)
        root = spans["call inbound"]
        equal((server["service.name"], root.kind, root.status.code), ("dialtone", Span.SPAN_KIND_SERVER, Status.STATUS_CODE_UNSET), "the root")
        check(all(span.parent_span_id == root.span_id for span in spans.values() if span is not root), "a span that is not the call's")
        check({"call inbound", "sip INVITE", "twiml Pause", "twiml Echo", "webhook document", "webhook redirect"} <= set(spans), sorted(spans))
        about = values(root.attributes)
        equal((about["dialtone.call_sid"], about["dialtone.account_sid"], about["dialtone.to"]), (call["sid"], ACCOUNT, SHOP), "what is said of the call")
        check(root.start_time_unix_nano <= spans["sip INVITE"].start_time_unix_nano < spans["sip INVITE"].end_time_unix_nano <= root.end_time_unix_nano, "times")
        for path, name in (("/voice", "webhook document"), ("/next", "webhook redirect")):
            trace, span = TRACEPARENT.fullmatch(self.told[path]).groups()
            equal((trace, span), (call["sid"].removeprefix("CA"), spans[name].span_id.hex()), f"what {path} was told")
            check("of-the-app" not in values(spans[name].attributes)["url.full"], "a secret of the application")
        return f"{len(spans)} spans of {call['sid']}"

    def failed(self):
        """An application that is not there: the span says which error."""
        call = self.call(BROKEN)
        spans, _ = self.backend.trace(call["sid"], 3)
        self.scenario.equal(spans["call inbound"].status.code, Status.STATUS_CODE_ERROR, "the call")
        self.scenario.equal(values(spans["webhook document"].attributes)["error.type"], "11200", "the request")

    def linked(self):
        """A `<Dial>`: the call that it makes has a trace of its own, which names the other."""
        carrier = Phone(SIP, "carrier", local=("127.0.0.1", CARRIER))
        call = self.phone.invite(FORWARDED, sdp("127.0.0.1", 9))
        callee = carrier.wait_invite()
        callee.accept(sdp("127.0.0.1", 11))
        call.accepted()
        call.bye()
        first = self.server.ended(call.call_id)
        wait_for(lambda: not self.server.live(), 4, "both calls to end")
        second = next(one for one in self.server.calls() if one["parent"] == first["sid"])
        parent, child = self.backend.trace(first["sid"], 3)[0], self.backend.trace(second["sid"], 2)[0]
        (link,) = child["call outbound-dial"].links
        self.scenario.equal((link.trace_id.hex(), link.span_id), (first["sid"].removeprefix("CA"), parent["call inbound"].span_id), "the link")

    def without(self):
        """The collector is away: calls go on, and what it missed it has when it is back."""
        self.scenario.end(self.collector)
        call = self.call(SHOP)
        self.scenario.equal(call["status"], "completed", "a call")
        back = Backend(COLLECTOR)
        back.trace(call["sid"], 6)
        said = back.headers[0]
        self.scenario.equal((said["x-key"], said["Content-Type"]), (KEY, "application/x-protobuf"), "what the collector is told besides")
        self.scenario.check(self.server.metric("dialtone_traces_total", outcome="ok") >= 4, "traces that were sent")
        log = self.server.log_file.read_text()
        self.scenario.check(KEY not in log, "the collector's key is in the log")
        # What ends with the server is sent too.
        last = self.phone.invite(SHOP, sdp("127.0.0.1", 9)).accepted()
        sid = self.server.live()[0]["sid"]
        last.bye()
        self.scenario.equal(self.server.stop(), 0, "exit code")
        back.trace(sid, 4)
        return f"{len(back.traces)} traces"


def main():
    with Scenario(__file__) as scenario:
        traces = Traces(scenario)
        scenario.steps(traces.start, traces.whole, traces.failed, traces.linked, traces.without)
        scenario.summary = f"{len(traces.backend.traces)} calls have their trace"


if __name__ == "__main__":
    main()
