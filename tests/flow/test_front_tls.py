"""The fronts with TLS, as the comments in their files say."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from websockets.asyncio.client import connect

from adapters.auth import issue
from stack.ports import allot
from tests.flow.stand import standing
from tests.fronts import KINDS

from .conftest import SECRET


def certificate(folder: Path) -> Path:
    """Of this host, signed by itself, with its key in the same file."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "here")])
    began = datetime.now(UTC) - timedelta(hours=1)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(began).not_valid_after(began + timedelta(days=1))
    here = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    pem = made.add_extension(here, critical=False).sign(key, SHA256()).public_bytes(Encoding.PEM)
    file = folder / "here.pem"
    file.write_bytes(pem + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return file


def uncommented(kind: str, port: int, pem: Path) -> dict[str, str]:
    """What the comments of the file say to do for TLS."""
    if kind == "haproxy":
        return {
            "# bind :443 ssl crt /etc/haproxy/certs/ ": f"bind 127.0.0.1:{port} ssl crt {pem} ",
            "# http-request redirect": "http-request redirect",
            "# http-response set-header Strict": "http-response set-header Strict",
            "httponly attr": "httponly secure attr",
        }
    return {
        "# listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "# ssl_certificate     /etc/nginx/certs/chat.pem": f"ssl_certificate {pem}",
        "# ssl_certificate_key /etc/nginx/certs/chat.key": f"ssl_certificate_key {pem}",
        "# ssl_protocols": "ssl_protocols",
        "# ssl_session_tickets": "ssl_session_tickets",
        "# add_header Strict": "add_header Strict",
    }


@pytest.mark.parametrize("kind", KINDS)
async def test_with_tls_as_the_comments_say(kind: str, tmp_path: Path, world: Any):
    pem, port = certificate(tmp_path), allot(["tls"], {}, {})["tls"]
    trust = ssl.create_default_context(cafile=str(pem))
    async with standing(kind, tmp_path, world.port, changes=uncommented(kind, port, pem)) as stand:
        headers = {"Authorization": f"Bearer {issue(SECRET, 'bob', ttl_s=60)}"}
        url = f"wss://127.0.0.1:{port}/ws"
        async with connect(url, additional_headers=headers, ssl=trust, proxy=None) as socket:
            assert orjson.loads(await socket.recv())["type"] == "connected"
        async with httpx2.AsyncClient(verify=trust, trust_env=False) as http:
            answer = await http.get(f"https://127.0.0.1:{port}/conversations")
        assert (answer.status_code, "max-age" in answer.headers["strict-transport-security"]) == (200, True)
        assert "x-forwarded-proto: https\r" in stand.heard[-1].lower()
        if kind == "haproxy":
            assert (await stand.http.get("/conversations")).status_code == 308
