"""Access to Kafka: TLS and SASL as the settings say, in the form that every client of aiokafka takes.

Certificates, keys and passwords may change while a process runs, so aiokafka is given functions in their place, which
``adapters.kafka.connection_patch`` calls for each connection.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Mapping
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import httpx2
from aiokafka.abc import AbstractTokenProvider

from adapters.kafka.connection_patch import patch_connections
from adapters.kafka.refusals import BadAccess, NoTokens
from domain.errors import Invalid
from runtime.kafka_settings import OAUTHBEARER, Kafka

_PREFIX = "MILLRACE_KAFKA__"
_TOKEN_S = 5.0
_USED_FOR = 0.8
"""Part of a token's life in which it is used: a connection that opens then lives on for a while."""


def access(kafka: Kafka) -> dict[str, Any]:
    """Return the options by which a client of aiokafka connects."""
    patch_connections()
    options: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap,
        "security_protocol": kafka.security_protocol,
    }
    if kafka.uses_tls:
        options["ssl_context"] = partial(tls_context, kafka)
    if kafka.uses_sasl:
        options["sasl_mechanism"] = kafka.sasl_mechanism
        if kafka.sasl_mechanism == OAUTHBEARER:
            options["sasl_oauth_token_provider"] = _tokens(kafka)
        else:
            options["sasl_plain_username"] = kafka.sasl_user
            options["sasl_plain_password"] = kafka.sasl_password.get_secret_value
    return options


def require_files(kafka: Kafka) -> None:
    """Raise Invalid when a file of the settings cannot be used: then no connection can be made."""
    try:
        if kafka.uses_tls:
            tls_context(kafka)
    except BadAccess as exc:
        raise Invalid(str(exc)) from exc


def tls_context(kafka: Kafka) -> ssl.SSLContext:
    """Return the context of TLS, from the files as they are now. Raises BadAccess."""
    files = {
        name: path
        for name, path in (
            ("CA_FILE", kafka.ca_file),
            ("CERTIFICATE_FILE", kafka.certificate_file),
            ("KEY_FILE", kafka.key_file),
        )
        if path
    }
    stamps = tuple((name, path, _stamp(name, path)) for name, path in files.items())
    return _context(stamps, kafka.key_password.get_secret_value())


def _stamp(name: str, path: str) -> tuple[int, int, int]:
    try:
        found = Path(path).stat()
    except OSError as exc:
        raise BadAccess(f"{_PREFIX}{name} must name a file that can be read: {path}") from exc
    return found.st_ino, found.st_size, found.st_mtime_ns


@lru_cache(maxsize=4)
def _context(stamps: tuple[tuple[str, str, tuple[int, int, int]], ...], key_password: str) -> ssl.SSLContext:
    files = {name: path for name, path, _ in stamps}
    authorities, certificate = files.get("CA_FILE"), files.get("CERTIFICATE_FILE")
    try:
        context = ssl.create_default_context(cafile=authorities)
    except OSError as exc:
        raise BadAccess(f"{_PREFIX}CA_FILE must name a PEM file with certificates: {authorities}") from exc
    if certificate is not None:
        try:
            # Always with a password, for OpenSSL would ask for one on the terminal.
            context.load_cert_chain(certificate, files.get("KEY_FILE"), password=key_password)
        except (OSError, ValueError) as exc:
            raise BadAccess(
                f"{_PREFIX}CERTIFICATE_FILE and KEY_FILE must name PEM files with a certificate and its key,"
                f" KEY_PASSWORD must open it: {certificate}"
            ) from exc
    return context


class Tokens(AbstractTokenProvider):  # type: ignore[misc]
    """Access tokens of OAuth 2.0 by client credentials (RFC 6749, 4.4), one at a time, each for most of its life.

    Shared by all clients of the process, those of other threads too.
    """

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._lock = threading.Lock()
        self._token, self._good_until = "", 0.0

    async def token(self) -> str:
        """Return a token that has not expired. Raises BadAccess."""
        return await asyncio.to_thread(self._fresh)

    def extensions(self) -> Mapping[str, str]:
        """Return what is sent beside the token."""
        return self._kafka.extensions

    def _fresh(self) -> str:
        with self._lock:
            if time.monotonic() >= self._good_until:
                asked = time.monotonic()
                self._token, life_s = self._fetch()
                self._good_until = asked + _USED_FOR * life_s
            return self._token

    def _fetch(self) -> tuple[str, float]:
        kafka = self._kafka
        form = {"grant_type": "client_credentials", **({"scope": kafka.oauth_scope} if kafka.oauth_scope else {})}
        client = kafka.oauth_client_id, kafka.oauth_client_secret.get_secret_value()
        try:
            answer = httpx2.post(kafka.oauth_token_url, data=form, auth=client, timeout=_TOKEN_S)
        except httpx2.HTTPError as exc:
            raise NoTokens(f"{_PREFIX}OAUTH_TOKEN_URL does not answer; check that it is right") from exc
        if answer.status_code in (400, 401, 403):
            raise BadAccess(
                f"the token endpoint of Kafka refuses the client ({answer.status_code}): {_PREFIX}OAUTH_CLIENT_ID,"
                " OAUTH_CLIENT_SECRET and OAUTH_SCOPE must be ones that it knows"
            )
        try:
            found = answer.raise_for_status().json()
            return str(found["access_token"]), float(found.get("expires_in", 0))
        except (httpx2.HTTPError, ValueError, KeyError, TypeError) as exc:
            raise BadAccess(f"{_PREFIX}OAUTH_TOKEN_URL must answer with a token; {answer.status_code} is none") from exc


@cache
def _tokens(kafka: Kafka) -> Tokens:
    return Tokens(kafka)
