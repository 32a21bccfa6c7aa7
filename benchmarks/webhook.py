"""A webhook that takes the alerts of the trials by the real clock."""

import json
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Webhook:
    """Keeps what it was told, each with the path of its URL; until it listens nothing is at its port."""

    def __init__(self, on_alert=lambda _text: None):
        told = self.told = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"]
                told.append((self.path.strip("/"), text))
                on_alert(text)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self._server.server_bind()
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def listen(self, since=None, on_up=lambda: None):
        """Listen, in a thread of its own, at once or from a moment on."""

        def serve():
            while since and datetime.now(UTC) < since:
                time.sleep(1)
            self._server.server_activate()
            on_up()
            self._server.serve_forever()

        threading.Thread(target=serve, daemon=True).start()
