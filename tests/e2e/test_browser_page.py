"""A chat page in a real browser, on another origin than the servers: it uploads, shows files and chats."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from stack.ports import allot
from stack.running import RunningStack
from tests.clients.engines import CLIENT, Browser, open_browser
from tests.e2e.conftest import Person
from tests.fault.conftest import Beside, beside
from tests.recordings import HEIGHT, PICTURE, WIDTH, recording

__all__ = ["beside"]
FILES = Path(CLIENT).with_name("page.js")


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = b"<!doctype html><title>chat</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def pages() -> Iterator[str]:
    """Serve an empty page; yield its origin."""
    port = allot(["page"], {}, {})["page"]
    with ThreadingHTTPServer(("127.0.0.1", port), _Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.shutdown()


def png() -> bytes:
    out = io.BytesIO()
    PICTURE.save(out, "PNG")
    return out.getvalue()


async def open_page(browser: Browser, http_url: str, ws_url: str, person: Person, room: str) -> None:
    """Load the client's code into the page, and connect."""
    fields = {"httpUrl": http_url, "wsUrl": ws_url, "token": person.token, "conversationId": room}
    await browser.evaluate(
        f"{CLIENT.read_text()}\n{FILES.read_text()}\n"
        f"globalThis.client = new ChatClient({json.dumps(fields)});"
        f"globalThis.files = new FilePage({json.dumps(fields)}); null"
    )
    await browser.evaluate("client.connect()")


async def upload(browser: Browser, name: str, kind: str, content: bytes) -> str:
    arguments = ", ".join(map(json.dumps, (name, kind, base64.b64encode(content).decode())))
    return str(await browser.evaluate(f"files.upload({arguments})"))


async def test_a_page_on_another_origin_uploads_shows_and_chats(
    stack: RunningStack, beside: Beside, person, tmp_path: Path
):
    alice, bob = person("alice"), person("bob")
    room = alice.create(bob.user)
    with pages() as origin, pages() as stranger:
        env = {"MILLRACE_GATEWAY__ORIGINS": origin, "MILLRACE_MEDIA__SIGNING_KEY": "k" * 32}
        ingest, gateway = await asyncio.gather(beside("ingest", env=env), beside("gateway", env=env))
        async with open_browser(origin, tmp_path) as browser:
            await open_page(browser, ingest.http_url, gateway.ws_url, alice, room)
            for tag, type_, name, kind, content in (
                ("img", "image", "Prüfung 写真.png", "image/png", png()),
                ("video", "video", "clip.webm", "video/webm", recording("webm", "libvpx-vp9", "libopus")),
            ):
                media = await upload(browser, name, kind, content)
                sent = await browser.evaluate(
                    f"files.send({json.dumps(room)}, {json.dumps(type_)}, {json.dumps(media)})"
                )
                [attachment] = bob.http.get(f"/messages/{sent['messageId']}").json()["attachments"]
                assert (attachment["name"], attachment["size"]) == (name, len(content))
                assert await browser.evaluate(f"files.show({json.dumps(tag)}, {json.dumps(media)})") == [WIDTH, HEIGHT]
            await browser.evaluate("client.send('written in the page')")
            bob.send(room, "an answer")

            async def shown() -> bool:
                state = await browser.evaluate("client.state()")
                return [text for _, _, text in state["shown"]][-2:] == ["written in the page", "an answer"]

            async with asyncio.timeout(30):
                while not await shown():  # noqa: ASYNC110
                    await asyncio.sleep(0.1)

            await browser.visit(f"{stranger}/")
            await open_page(browser, ingest.http_url, gateway.ws_url, alice, room)
            refused = await browser.evaluate("files.call('GET', '/conversations').then(() => 'read', () => 'refused')")
            assert refused == "refused"
