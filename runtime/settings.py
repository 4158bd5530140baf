"""Settings of one process, read once from the environment: ``MILLRACE_KAFKA__BOOTSTRAP=…``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

Count: TypeAlias = Annotated[int, Field(ge=0)]
Rate: TypeAlias = Annotated[float, Field(ge=0)]


class Kafka(BaseModel):
    """``bootstrap``: ``host:port``, several with commas."""

    bootstrap: str = "127.0.0.1:9092"


class Postgres(BaseModel):
    """``dsn``: a libpq connection string or URL."""

    dsn: SecretStr = SecretStr("postgresql://127.0.0.1/millrace")


class RedisServer(BaseModel):
    """``url``: ``redis://[:password@]host:port/0``, or ``redis+cluster://[:password@]host:port,host:port``."""

    url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")


class Auth(BaseModel):
    """How tokens are checked: HS256 by ``secret`` (at least 32 bytes), or RS256 or ES256 by the keys at ``jwks_url``,
    which are fetched every ``jwks_ttl_s``. Revocations are looked up every ``revocations_every_s`` at the latest."""

    algorithm: Literal["HS256", "RS256", "ES256"] = "HS256"
    secret: SecretStr = SecretStr("")
    jwks_url: str = ""
    jwks_ttl_s: Annotated[float, Field(ge=1)] = 300
    issuer: str = "millrace"
    audience: str = "millrace"
    revocations_every_s: Annotated[float, Field(gt=0, le=25)] = 5


class Listen(BaseModel):
    """Where a server listens."""

    host: str = "127.0.0.1"
    port: int = 0


class RateLimits(BaseModel):
    """Per user; 0 turns a limit off."""

    messages_per_minute: int = 6000
    requests_per_minute: int = 12000


class Gateway(BaseModel):
    """``origins``: allowed ``Origin`` values, comma-separated; empty allows any page of this host only.

    Limits hold for one node; 0 turns one off. ``trusted_proxies``: addresses or networks, comma-separated, whose
    ``X-Forwarded-For`` is taken for the client's address. ``lagging_s``: how long a socket may be behind.
    """

    origins: str = ""
    lease_s: int = 30
    presence_max_members: int = 64
    heads_every_s: float = 2.0
    trusted_proxies: str = "127.0.0.1,::1"
    max_connections: Count = 20_000
    connections_per_user: Count = 50
    connections_per_address: Count = 500
    connects_per_s_user: Rate = 5.0
    connects_per_s_address: Rate = 50.0
    frames_per_s: Rate = 50.0
    joins_per_s: Rate = 20.0
    max_joined: Count = 200
    lagging_s: Rate = 120.0
    handshake_s: Rate = 5.0


class Audit(BaseModel):
    """The audit in the background; what is younger than ``older_than_s`` is not judged. 0 turns it off."""

    every_s: float = 300
    older_than_s: float = 30


class Settings(BaseSettings):
    """Everything that a process of ours can be told."""

    model_config = SettingsConfigDict(env_prefix="MILLRACE_", env_nested_delimiter="__", extra="ignore")

    node: str = "local"
    data_dir: Path = Path(".millrace")
    log_level: str = "info"
    kafka: Kafka = Field(default_factory=Kafka)
    pg: Postgres = Field(default_factory=Postgres)
    redis: RedisServer = Field(default_factory=RedisServer)
    auth: Auth = Field(default_factory=Auth)
    http: Listen = Field(default_factory=Listen)
    ws: Listen = Field(default_factory=Listen)
    ops: Listen = Field(default_factory=Listen)
    limits: RateLimits = Field(default_factory=RateLimits)
    gateway: Gateway = Field(default_factory=Gateway)
    audit: Audit = Field(default_factory=Audit)
