"""A broker as companies run it: TLS, SASL and an authorizer, beside a plain listener for the tests themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.kafka_settings import Kafka as Settings
from stack.ports import allot
from stack.probes import answers
from stack.progress import Progress
from stack.servers.data_dir import DataDir
from stack.servers.kafka import Kafka
from stack.supervisor import Supervisor
from tests.certificates import Authority

_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"
_OAUTH = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;"
PASSWORD = "pass-w0rd of a user"
SUPERUSER = "admin"


@dataclass(frozen=True, slots=True)
class SecuredBroker(Kafka):
    """The broker of the stack, with three listeners: plain, SASL over TLS, and TLS with client certificates.

    ``users``: passwords of SCRAM and PLAIN. Whoever comes over the plain listener, and ``admin``, may do everything.
    """

    sasl_port: int = 0
    mutual_port: int = 0
    users: Mapping[str, str] = field(default_factory=dict)
    store: Path = Path()
    trusted: Path = Path()

    def properties(self, storage: str) -> str:
        """Return the configuration: topics are made by asking for them, as with Kafka's defaults."""
        return f"{Kafka.properties(self, storage)}auto.create.topics.enable=true\n"

    def _users(self) -> Sequence[str]:
        return [
            word
            for name, password in self.users.items()
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
            for word in ("--add-scram", f'{mechanism}=[name="{name}",password="{password}"]')
        ]

    def _listeners(self) -> dict[str, str]:
        ports = {"SASL": self.sasl_port, "MUTUAL": self.mutual_port}
        own = Kafka._listeners(self)
        more = ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())
        plain = " ".join(f'user_{name}="{password}"' for name, password in self.users.items())
        return {
            **own,
            "listeners": f"{own['listeners']},{more}",
            "advertised.listeners": f"{own['advertised.listeners']},{more}",
            "listener.security.protocol.map": f"{own['listener.security.protocol.map']},SASL:SASL_SSL,MUTUAL:SSL",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:ANONYMOUS;User:{SUPERUSER}",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.store),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.trusted),
            "sasl.enabled.mechanisms": "SCRAM-SHA-256,SCRAM-SHA-512,PLAIN,OAUTHBEARER",
            "listener.name.sasl.scram-sha-256.sasl.jaas.config": _SCRAM,
            "listener.name.sasl.scram-sha-512.sasl.jaas.config": _SCRAM,
            "listener.name.sasl.plain.sasl.jaas.config": f"{_PLAIN} {plain};",
            "listener.name.sasl.oauthbearer.sasl.jaas.config": _OAUTH,
            "listener.name.mutual.ssl.client.auth": "required",
            "listener.name.mutual.ssl.principal.mapping.rules": "RULE:^CN=(.*?)$/$1/",
        }


@dataclass(frozen=True)
class Secured:
    """A running broker. ``plain`` connects as a superuser; the other ways are in the methods."""

    broker: SecuredBroker
    authority: Authority

    @property
    def plain(self) -> Settings:
        """The listener without TLS, where everybody may do everything."""
        return Settings(bootstrap=self.broker.bootstrap)

    def as_user(self, user: str, **other: Any) -> Settings:
        """Return the settings of a user, by SCRAM over TLS; ``other`` replaces some of them."""
        given = {
            "bootstrap": f"127.0.0.1:{self.broker.sasl_port}",
            "security_protocol": "SASL_SSL",
            "ca_file": str(self.authority.file),
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_user": user,
            "sasl_password": PASSWORD,
        }
        return Settings(**{name: value for name, value in {**given, **other}.items() if value is not None})

    def by_certificate(self, client: tuple[Path, Path], **other: Any) -> Settings:
        """Return the settings of a client with a certificate of its own."""
        given = {
            "bootstrap": f"127.0.0.1:{self.broker.mutual_port}",
            "security_protocol": "SSL",
            "ca_file": str(self.authority.file),
            "certificate_file": str(client[0]),
            "key_file": str(client[1]),
        }
        return Settings(**{**given, **other})


def environment_of(kafka: Settings) -> dict[str, str]:
    """Return the variables of a process that connects so."""
    return {f"MILLRACE_KAFKA__{name.upper()}": value for name, value in kafka.given.items()}


@asynccontextmanager
async def secured_broker(folder: Path, users: Sequence[str]) -> AsyncIterator[Secured]:
    """Run a secured broker in a folder, under the supervisor of the stack."""
    data = DataDir(folder)
    data.prepare()
    authority = Authority(folder)
    certificate, key = authority.certify("broker")
    store = folder / "broker-store.pem"
    store.write_bytes(key.read_bytes() + certificate.read_bytes())
    ports = allot(["kafka", "controller", "sasl", "mutual"], {}, {})
    with Progress() as progress:
        broker = SecuredBroker(
            data,
            ports["kafka"],
            ports["controller"],
            progress,
            sasl_port=ports["sasl"],
            mutual_port=ports["mutual"],
            users=dict.fromkeys((SUPERUSER, *users), PASSWORD),
            store=store,
            trusted=authority.file,
        )
        supervisor = Supervisor(lambda: None, progress, lambda: False)
        try:
            await supervisor.start([await broker.prepare()])
            assert await answers(ports["sasl"])
            yield Secured(broker, authority)
        finally:
            await supervisor.stop()
