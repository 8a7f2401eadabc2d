"""A cache that can be told to forget, on a free port of loopback: by PURGE, or by an API of its own."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Purgeable:
    """Keeps every path from its first GET on. `tells` = which headers its answers carry.

    `is_deaf`: it takes every purge and forgets nothing. `token` must come in `Api-Key`, unless it is "".
    """

    def __init__(self, tells: str = "x-cache", token: str = "", is_deaf: bool = False) -> None:
        self.kept: dict[str, float] = {}
        self.purges: list[tuple[str, str, bytes]] = []
        self.tells, self.token, self.is_deaf = tells, token, is_deaf
        self.body = b"hi\n"

    def __enter__(self) -> "Purgeable":
        cache = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                now = time.monotonic()
                is_hit = self.path in cache.kept
                age_s = now - cache.kept.setdefault(self.path, now)
                fields = {"Content-Type": "text/plain"}
                if cache.tells == "x-cache":
                    fields["X-Cache"] = "HIT" if is_hit else "MISS"
                if cache.tells == "age" and is_hit:
                    fields["Age"] = str(int(age_s * 20))  # ages twenty times as fast
                self.answer(200, fields)

            def do_PURGE(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                cache.purges.append((self.command, self.path, body))
                if cache.token and self.headers.get("Api-Key") != cache.token:
                    self.answer(403, {})
                    return
                if not cache.is_deaf:
                    cache.kept.pop(self.wanted(body), None)
                self.answer(200, {})

            do_POST = do_PURGE

            def wanted(self, body: bytes) -> str:
                asked = urlsplit(self.path)
                if body:
                    return urlsplit(json.loads(body)["files"][0]).path
                return urlsplit(parse_qs(asked.query)["url"][0]).path if asked.query else asked.path

            def answer(self, status: int, fields: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in (fields | {"Content-Length": str(len(cache.body))}).items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(cache.body)

            do_HEAD = do_GET

            def log_message(self, *_words: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
