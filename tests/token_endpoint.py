"""A token endpoint of OAuth 2.0, for brokers that take tokens without a signature."""

from __future__ import annotations

import base64
import json
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

SECRET = "s3cret of a client"


class TokenEndpoint:
    """A token endpoint that issues tokens without a signature, as the broker takes them when nothing is configured."""

    def __init__(self, life_s: int) -> None:
        self.life_s, self.issued = life_s, 0
        self.requests: list[tuple[str, str]] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers["content-length"])).decode()
                login = base64.b64decode(self.headers["authorization"].removeprefix("Basic ")).decode()
                endpoint.requests.append((login, form))
                self.answer(200 if login == f"app:{SECRET}" else 401)

            def answer(self, status: int) -> None:
                endpoint.issued += 1
                body = {"access_token": endpoint.token(), "token_type": "Bearer", "expires_in": endpoint.life_s}
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(body if status == 200 else {"error": "invalid_client"}).encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/token"

    def token(self) -> str:
        now = time.time()
        parts = ({"alg": "none"}, {"sub": "millrace-operator", "iat": now, "exp": now + self.life_s, "scope": "kafka"})
        return ".".join([*(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts), ""])
