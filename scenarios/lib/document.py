"""A web application that does what it is told, well or badly."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .scenario import wait_for


class Document:
    """Serves one document, or what a function of the request handler does, at every path; keeps the bodies that came."""

    def __init__(self, port, answer):
        seen = self.seen = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                length = int(self.headers.get("Content-Length") or 0)
                self.form = self.rfile.read(length).decode()
                seen.append(f"{self.path} {self.form}")
                if callable(answer):
                    return answer(self)
                self.document(answer)

            do_GET = do_POST

            def document(self, text, content_type="text/xml", status=200):
                data = text if isinstance(text, bytes) else text.encode()
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

            def handle(self):
                try:
                    super().handle()
                except OSError:
                    pass

        class Application(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 512

        self.server = Application(("127.0.0.1", port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait(self, text, seconds=4):
        """Waits for a request that has this text."""
        return wait_for(lambda: next((one for one in list(self.seen) if text in one), None), seconds, f"a request with {text}")
