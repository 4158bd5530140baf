"""Errors of aiokafka as errors of this project: a refusal says in one line what is refused, and what to do."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka import errors as kafka

from domain.errors import AccessRefused, Unavailable

_log = structlog.get_logger()

_PREFIX = "MILLRACE_KAFKA__"
_NAME_DIFFERS = frozenset({62, 64})
"""Codes of OpenSSL: a host name, or an address, that is not the certificate's."""
_GRANT = "`millrace topics acls plan` shows what is missing"


class BadAccess(kafka.KafkaConnectionError):  # type: ignore[misc]
    """Files, or a token endpoint, that give no access. The text says what to do, and holds no secret."""

    def __str__(self) -> str:
        return str(self.args[0])


class NoTokens(BadAccess):
    """The token endpoint does not answer; later it may."""


@dataclass(slots=True)
class Attempts:
    """Why the latest attempt of this process to connect has failed; None when it has not, or when nothing is known."""

    trouble: Unavailable | None = None

    def note(self, trouble: Unavailable | None, server: str) -> None:
        """Note the outcome of an attempt; log what is not known yet, for a client of aiokafka tries on without end."""
        if trouble is not None and str(trouble) != str(self.trouble):
            _log.info("kafka_connection_failed", server=server, reason=str(trouble))
        self.trouble = trouble


ATTEMPTS = Attempts()


def unavailable(exc: BaseException, consequence: str = "", *, where: str = "Kafka") -> Unavailable:
    """Return the error for what a client raised. ``consequence`` is added to its text."""
    known = _right_missing(exc) or ATTEMPTS.trouble or Unavailable(f"{where} does not answer")
    return type(known)(f"{known}{'; ' if consequence else ''}{consequence}")


def refusal_of(exc: BaseException | None) -> AccessRefused | None:
    """Return what the broker refuses when that is why a client failed, else None."""
    known = (None if exc is None else _right_missing(exc)) or ATTEMPTS.trouble
    return known if isinstance(known, AccessRefused) else None


def _right_missing(exc: BaseException) -> AccessRefused | None:
    for cause in _causes(exc):
        for kind, right in _RIGHTS.items():
            if isinstance(cause, kind):
                return AccessRefused(f"Kafka does not allow this user to {right.format(_named(cause))}: {_GRANT}")
    return None


_RIGHTS: dict[type[kafka.KafkaError], str] = {
    kafka.TopicAuthorizationFailedError: "use the topic {}",
    kafka.GroupAuthorizationFailedError: "use the group {}",
    kafka.ClusterAuthorizationFailedError: "do that on the cluster, or to write to any topic",
    kafka.TransactionalIdAuthorizationFailed: "use the transactional id {}",
}


def _named(exc: BaseException) -> str:
    names = exc.args[0] if exc.args else "in question"
    return ", ".join(sorted(map(str, names))) if isinstance(names, (set, frozenset, list, tuple)) else str(names)


def _causes(exc: BaseException) -> Iterator[BaseException]:
    here: BaseException | None = exc
    while here is not None:
        yield here
        here = here.__cause__ or here.__context__


def connecting(exc: BaseException, connection: Any) -> Unavailable | None:
    """Return why there is no connection; None when the broker just does not answer."""
    where = f"Kafka at {connection.host}:{connection.port}"
    for cause in _causes(exc):
        if isinstance(cause, BadAccess):
            return Unavailable(str(cause)) if isinstance(cause, NoTokens) else AccessRefused(str(cause))
        if text := _of_certificate(cause, where) or _of_sasl(cause, where, connection):
            return AccessRefused(text)
    if isinstance(exc, (kafka.KafkaConnectionError, ssl.SSLError, ConnectionResetError)):
        protocol = connection._security_protocol  # the broker may also just be ending
        return Unavailable(
            f"{where} closes the connection: check that it runs, and that its listener's protocol is {protocol}"
            f" ({_PREFIX}SECURITY_PROTOCOL)"
        )
    return None


def _of_certificate(exc: BaseException, where: str) -> str | None:
    if isinstance(exc, ssl.SSLCertVerificationError):
        if exc.verify_code in _NAME_DIFFERS:
            return f"{where} has a certificate of another name: {_PREFIX}BOOTSTRAP must have one that is in it"
        return (
            f"{where} has a certificate that does not verify ({exc.verify_message}): {_PREFIX}CA_FILE must hold the"
            " authority that signed it"
        )
    if isinstance(exc, ssl.SSLError) and "CERTIFICATE" in (exc.reason or "") and "ALERT" in exc.reason:
        return f"{where} refuses the client certificate: {_PREFIX}CERTIFICATE_FILE must be one that it trusts"
    return None


def _of_sasl(exc: BaseException, where: str, connection: Any) -> str | None:
    mechanism, user = connection._sasl_mechanism, connection._sasl_plain_username
    if isinstance(exc, kafka.SaslAuthenticationFailed):
        if mechanism == "OAUTHBEARER":
            return f"{where} refuses the token: {_PREFIX}OAUTH_TOKEN_URL must be of the issuer that it trusts"
        return f"{where} refuses the user {user}: {_PREFIX}SASL_USER and SASL_PASSWORD must be ones that it knows"
    if isinstance(exc, kafka.UnsupportedSaslMechanismError):
        return f"{where} does not offer {mechanism}: {_PREFIX}SASL_MECHANISM must be one that it offers"
    if isinstance(exc, kafka.IllegalSaslStateError):
        return f"{where} wants no SASL: {_PREFIX}SECURITY_PROTOCOL must be that of its listener"
    return None
