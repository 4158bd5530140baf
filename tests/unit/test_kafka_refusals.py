"""Errors of aiokafka in the words of this project: a missing right, a refused connection, a broker that is away."""

from __future__ import annotations

import ssl
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import errors as kafka

from adapters.kafka.refusals import ATTEMPTS, BadAccess, NoTokens, connecting, unavailable
from domain.errors import AccessRefused, Unavailable

CONNECTION = SimpleNamespace(
    host="kafka.example",
    port=9093,
    _security_protocol="SASL_SSL",
    _sasl_mechanism="SCRAM-SHA-512",
    _sasl_plain_username="app",
    _sasl_plain_password="s3cret",
)


@pytest.fixture(autouse=True)
def no_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ATTEMPTS, "trouble", None)


def unverified(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, message
    return error


def alert(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, "alert")
    error.reason = reason
    return error


def caused(outer: BaseException, inner: BaseException) -> BaseException:
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("exc", "kind", "text"),
    [
        (unverified(20, "unable to get local issuer certificate"), AccessRefused, "(unable to get local issuer"),
        (unverified(10, "certificate has expired"), AccessRefused, "(certificate has expired)"),
        (unverified(62, "Hostname mismatch"), AccessRefused, "a certificate of another name"),
        (unverified(64, "IP address mismatch"), AccessRefused, "a certificate of another name"),
        (
            caused(kafka.KafkaConnectionError("closed"), alert("TLSV13_ALERT_CERTIFICATE_REQUIRED")),
            AccessRefused,
            "refuses the client certificate",
        ),
        (alert("WRONG_VERSION_NUMBER"), Unavailable, "closes the connection"),
        (kafka.SaslAuthenticationFailed("s3cret"), AccessRefused, "refuses the user app"),
        (kafka.UnsupportedSaslMechanismError(), AccessRefused, "does not offer SCRAM-SHA-512"),
        (kafka.IllegalSaslStateError(), AccessRefused, "wants no SASL"),
        (kafka.KafkaConnectionError("closed"), Unavailable, "closes the connection"),
        (ConnectionResetError(), Unavailable, "closes the connection"),
    ],
)
def test_a_connection_that_is_refused(exc: BaseException, kind: type[Unavailable], text: str):
    trouble = connecting(exc, CONNECTION)
    assert type(trouble) is kind
    assert str(trouble).startswith("Kafka at kafka.example:9093 ")
    assert text in str(trouble)
    assert "s3cret" not in str(trouble)


def test_what_the_files_and_the_token_endpoint_say():
    refused = connecting(BadAccess("MILLRACE_KAFKA__CA_FILE must be"), CONNECTION)
    assert (type(refused), str(refused)) == (AccessRefused, "MILLRACE_KAFKA__CA_FILE must be")
    assert type(connecting(NoTokens("it does not answer"), CONNECTION)) is Unavailable


@pytest.mark.parametrize("exc", [ConnectionRefusedError(), TimeoutError(), OSError("no route")])
def test_a_broker_that_is_away_is_not_blamed(exc: BaseException):
    assert connecting(exc, CONNECTION) is None
    assert type(unavailable(exc)) is Unavailable
    assert str(unavailable(exc, "nothing was written")) == "Kafka does not answer; nothing was written"


@pytest.mark.parametrize(
    ("exc", "text"),
    [
        (kafka.TopicAuthorizationFailedError("message.sent"), "use the topic message.sent"),
        (kafka.TopicAuthorizationFailedError({"b", "a"}), "use the topic a, b"),
        (kafka.GroupAuthorizationFailedError("status"), "use the group status"),
        (kafka.ClusterAuthorizationFailedError(), "do that on the cluster"),
        (caused(kafka.KafkaError("in the sender"), kafka.ClusterAuthorizationFailedError()), "do that on the cluster"),
    ],
)
def test_a_right_that_is_missing(exc: BaseException, text: str):
    error: Any = unavailable(exc)
    assert type(error) is AccessRefused
    assert str(error).startswith(f"Kafka does not allow this user to {text}")
    assert str(error).endswith("`millrace topics acls plan` shows what is missing")


def test_the_latest_attempt_to_connect_explains_an_error_of_a_client(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ATTEMPTS, "trouble", AccessRefused("Kafka refuses the user app"))
    error = unavailable(kafka.KafkaConnectionError("Unable to bootstrap"), "the append was not acknowledged")
    assert type(error) is AccessRefused
    assert str(error) == "Kafka refuses the user app; the append was not acknowledged"
