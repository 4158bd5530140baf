"""Settings of the connection to Kafka: the same for every client of every process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr, model_validator

from runtime.setting import FileSecret, Secret, setting
from runtime.variables import FILE

Protocol: TypeAlias = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism: TypeAlias = Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]

OAUTHBEARER: Final = "OAUTHBEARER"
_TLS = ("ca_file", "certificate_file", "key_file", "key_password")
_USER = ("sasl_user", "sasl_password")
_OAUTH = ("oauth_token_url", "oauth_client_id", "oauth_client_secret")
_OAUTH_MORE = ("oauth_scope", "oauth_extensions")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Kafka(BaseModel):
    """Kafka, by its brokers, and how to connect to it: see [connecting.md](connecting.md#kafka)."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    bootstrap: str = setting("127.0.0.1:9092", "`host:port` of one or more brokers, separated by commas.")
    security_protocol: Protocol = setting("PLAINTEXT", "Protocol of the brokers' listener.")
    ca_file: str = setting(
        "", "PEM file of the authorities that sign the brokers' certificates; empty trusts those of the system."
    )
    certificate_file: str = setting("", "PEM file of the client certificate, where the brokers ask for one.")
    key_file: str = setting("", "PEM file of its key; empty when `CERTIFICATE_FILE` holds it.")
    key_password: Secret = setting(SecretStr(""), "Password of an encrypted key.")
    sasl_mechanism: Mechanism = setting("", "Mechanism of `SASL_SSL` and `SASL_PLAINTEXT`.")
    sasl_user: str = setting("", "User for PLAIN and SCRAM.")
    sasl_password: Secret = setting(SecretStr(""), "Its password.")
    oauth_token_url: str = setting(
        "", "Token endpoint for OAUTHBEARER (client credentials); https, or http on this machine."
    )
    oauth_client_id: str = setting("", "Client id there.")
    oauth_client_secret: Secret = setting(SecretStr(""), "Its secret.")
    oauth_scope: str = setting("", "Scopes to ask for, separated by spaces.")
    oauth_extensions: str = setting(
        "", "SASL extensions as `NAME=VALUE,NAME=VALUE`: Confluent Cloud wants `logicalCluster` and `identityPoolId`."
    )

    @property
    def uses_tls(self) -> bool:
        """Return whether connections are encrypted."""
        return self.security_protocol in ("SSL", "SASL_SSL")

    @property
    def uses_sasl(self) -> bool:
        """Return whether clients show who they are by SASL."""
        return self.security_protocol in ("SASL_PLAINTEXT", "SASL_SSL")

    @property
    def extensions(self) -> dict[str, str]:
        """Return the SASL extensions by name. Raises ValueError."""
        pairs = [part.strip().partition("=") for part in self.oauth_extensions.split(",") if part.strip()]
        if not all(name and sign for name, sign, _ in pairs):
            raise ValueError
        return {name.strip(): value.strip() for name, _, value in pairs}

    @property
    def given(self) -> dict[str, str]:
        """Return what differs from the defaults, by the names of variables in lower case: a secret, or its file."""
        return dict(self._given())

    def _given(self) -> Iterator[tuple[str, str]]:
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, FileSecret):
                yield f"{name}{FILE.lower()}", str(value.file.absolute())
            elif value != field.default:
                text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
                yield name, str(Path(text).absolute()) if name.endswith(FILE.lower()) else text

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Kafka:
        """Return the settings that ``given`` shows. Raises OSError, UnicodeDecodeError."""
        fields: dict[str, Any] = dict(given)
        for name in [name for name in fields if name not in cls.model_fields]:
            fields[name.removesuffix(FILE.lower())] = FileSecret(Path(fields.pop(name)))
        return cls(**fields)

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Kafka:
        for trouble in contradictions(self):
            raise ValueError(trouble)
        return self


def contradictions(kafka: Kafka) -> Iterator[str]:
    """Yield what cannot hold together; each text begins with the name of a setting. Pure."""
    if not kafka.uses_tls:
        for name in _given(kafka, _TLS):
            yield f"SECURITY_PROTOCOL must be SSL or SASL_SSL with {name}; it is {kafka.security_protocol}"
    if not kafka.certificate_file:
        for name in _given(kafka, ("key_file", "key_password")):
            yield f"CERTIFICATE_FILE must be set with {name}"
    yield from _of_sasl(kafka) if kafka.uses_sasl else _of_no_sasl(kafka)


def _of_no_sasl(kafka: Kafka) -> Iterator[str]:
    for name in _given(kafka, ("sasl_mechanism", *_USER, *_OAUTH, *_OAUTH_MORE)):
        yield f"SECURITY_PROTOCOL must be SASL_SSL or SASL_PLAINTEXT with {name}; it is {kafka.security_protocol}"


def _of_sasl(kafka: Kafka) -> Iterator[str]:
    mechanism = kafka.sasl_mechanism
    if not mechanism:
        yield f"SASL_MECHANISM must be set with SECURITY_PROTOCOL={kafka.security_protocol}"
    needed, others = (_OAUTH, _USER) if mechanism == OAUTHBEARER else (_USER, (*_OAUTH, *_OAUTH_MORE))
    for name in _missing(kafka, needed):
        yield f"{name} must be set with SASL_MECHANISM={mechanism}"
    for name in _given(kafka, others):
        yield f"{name} must be left out with SASL_MECHANISM={mechanism}"
    if mechanism == OAUTHBEARER:
        yield from _of_oauth(kafka)


def _of_oauth(kafka: Kafka) -> Iterator[str]:
    parts = urlsplit(kafka.oauth_token_url)
    if not (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)) or not parts.hostname:
        yield "OAUTH_TOKEN_URL must be an https URL (http on this machine only)"
    try:
        _ = kafka.extensions
    except ValueError:
        yield "OAUTH_EXTENSIONS must be NAME=VALUE,NAME=VALUE"


def _given(kafka: Kafka, names: tuple[str, ...]) -> list[str]:
    return [name.upper() for name in names if _value(kafka, name)]


def _missing(kafka: Kafka, names: tuple[str, ...]) -> list[str]:
    return [name.upper() for name in names if not _value(kafka, name)]


def _value(kafka: Kafka, name: str) -> str:
    value: str | SecretStr = getattr(kafka, name)
    return value.get_secret_value() if isinstance(value, SecretStr) else value
