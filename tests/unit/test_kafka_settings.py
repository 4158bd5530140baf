"""Settings of the connection to Kafka: what cannot hold together, and what every client is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from adapters.kafka.access import access, require_files
from domain.errors import Invalid
from runtime.kafka_settings import Kafka
from runtime.setting import FileSecret
from streams.faust_app import _credentials

SCRAM = {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512", "sasl_user": "app", "sasl_password": "pw"}
OAUTH = {
    "security_protocol": "SASL_SSL",
    "sasl_mechanism": "OAUTHBEARER",
    "oauth_token_url": "https://issuer.example/token",
    "oauth_client_id": "app",
    "oauth_client_secret": "pw",
}


def without(settings: dict[str, str], *names: str, **more: str) -> dict[str, str]:
    return {name: value for name, value in settings.items() if name not in names} | more


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"security_protocol": "SSL"},
        {"security_protocol": "SSL", "ca_file": "ca", "certificate_file": "c", "key_file": "k", "key_password": "pw"},
        SCRAM,
        without(SCRAM, security_protocol="SASL_PLAINTEXT", sasl_mechanism="PLAIN"),
        OAUTH,
        without(OAUTH, oauth_token_url="http://127.0.0.1:8080/token", oauth_scope="kafka", oauth_extensions="a=1,b=2"),
    ],
)
def test_settings_that_hold_together(settings: dict[str, str]):
    Kafka(**settings)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"ca_file": "ca"}, "SECURITY_PROTOCOL must be SSL or SASL_SSL with CA_FILE; it is PLAINTEXT"),
        (
            without(SCRAM, security_protocol="SASL_PLAINTEXT", certificate_file="c"),
            "SECURITY_PROTOCOL must be SSL or SASL_SSL with CERTIFICATE_FILE; it is SASL_PLAINTEXT",
        ),
        ({"security_protocol": "SSL", "key_file": "k"}, "CERTIFICATE_FILE must be set with KEY_FILE"),
        ({"security_protocol": "SSL", "key_password": "pw"}, "CERTIFICATE_FILE must be set with KEY_PASSWORD"),
        (
            without(SCRAM, "security_protocol"),
            "SECURITY_PROTOCOL must be SASL_SSL or SASL_PLAINTEXT with SASL_MECHANISM; it is PLAINTEXT",
        ),
        (
            {"security_protocol": "SSL", "sasl_password": "pw"},
            "SECURITY_PROTOCOL must be SASL_SSL or SASL_PLAINTEXT with SASL_PASSWORD; it is SSL",
        ),
        (without(SCRAM, "sasl_mechanism"), "SASL_MECHANISM must be set with SECURITY_PROTOCOL=SASL_SSL"),
        (without(SCRAM, "sasl_user"), "SASL_USER must be set with SASL_MECHANISM=SCRAM-SHA-512"),
        (without(SCRAM, "sasl_password"), "SASL_PASSWORD must be set with SASL_MECHANISM=SCRAM-SHA-512"),
        (without(SCRAM, oauth_scope="x"), "OAUTH_SCOPE must be left out with SASL_MECHANISM=SCRAM-SHA-512"),
        (without(OAUTH, sasl_user="app"), "SASL_USER must be left out with SASL_MECHANISM=OAUTHBEARER"),
        (without(OAUTH, "oauth_token_url"), "OAUTH_TOKEN_URL must be set with SASL_MECHANISM=OAUTHBEARER"),
        (
            without(OAUTH, oauth_token_url="http://issuer.example/"),
            "OAUTH_TOKEN_URL must be an https URL (http on this machine only)",
        ),
        (without(OAUTH, oauth_extensions="a"), "OAUTH_EXTENSIONS must be NAME=VALUE,NAME=VALUE"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_by_name(settings: dict[str, str], text: str):
    with pytest.raises(ValidationError) as refused:
        Kafka(**settings)
    [error] = refused.value.errors(include_input=False)
    assert error["msg"] == f"Value error, {text}"
    assert "pw" not in str(refused.value)


def test_settings_are_kept_for_the_commands_of_a_stack(tmp_path: Path):
    file = tmp_path / "password"
    file.write_text("from the file")
    kafka = Kafka(**without(SCRAM, bootstrap="kafka.example:9093", ca_file="ca.pem", sasl_password=FileSecret(file)))
    given = kafka.given
    assert given["sasl_password_file"] == str(file)
    assert given["ca_file"] == str(Path("ca.pem").absolute())
    assert "from the file" not in given.values()
    again = Kafka.of(given)
    assert again.sasl_password.get_secret_value() == "from the file"
    assert again.given == given
    assert Kafka.of(Kafka(**OAUTH).given) == Kafka(**OAUTH)
    assert Kafka().given == {}


def test_every_client_is_given_the_same_and_faust_too():
    kafka = Kafka(**SCRAM)
    options: dict[str, Any] = access(kafka)
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert (options["sasl_plain_username"], options["sasl_plain_password"]()) == ("app", "pw")
    credentials = _credentials(kafka)
    assert (credentials.protocol.value, credentials.mechanism.value) == ("SASL_SSL", "SCRAM-SHA-512")
    assert credentials.password() == "pw"
    assert "pw" not in repr(credentials)


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])
def test_faust_speaks_the_protocol_that_is_set(protocol: str):
    sasl = without(SCRAM, "security_protocol") if protocol.startswith("SASL") else {}
    credentials = _credentials(Kafka(security_protocol=protocol, **sasl))
    assert (credentials.protocol.value if credentials else "PLAINTEXT") == protocol


def test_tokens_are_the_same_for_all_clients_of_a_process():
    first, second = access(Kafka(**OAUTH)), access(Kafka(**OAUTH))
    assert first["sasl_oauth_token_provider"] is second["sasl_oauth_token_provider"]
    assert _credentials(Kafka(**OAUTH)).oauth_cb is first["sasl_oauth_token_provider"]


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({"ca_file": "missing"}, "MILLRACE_KAFKA__CA_FILE must name a file that can be read"),
        ({"ca_file": "text"}, "MILLRACE_KAFKA__CA_FILE must name a PEM file with certificates"),
        ({"certificate_file": "text"}, "MILLRACE_KAFKA__CERTIFICATE_FILE and KEY_FILE must name PEM files"),
        ({"certificate_file": "text", "key_file": "missing"}, "MILLRACE_KAFKA__KEY_FILE must name a file"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_at_the_start(files: dict[str, str], text: str, tmp_path: Path):
    (tmp_path / "text").write_text("no certificate")
    paths = {name: str(tmp_path / file) for name, file in files.items()}
    kafka = Kafka(security_protocol="SSL", **paths)
    with pytest.raises(Invalid, match=f"^{text}"):
        require_files(kafka)
