"""Settings of a process, read once from the environment: ``MILLRACE_KAFKA__BOOTSTRAP=…``."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from runtime.environment import SecretFiles
from runtime.kafka_settings import Kafka
from runtime.media_settings import Media
from runtime.retention import Retention
from runtime.server_settings import Postgres, RedisServer
from runtime.setting import Count, Positive, Rate, Secret, setting
from runtime.variables import DELIMITER, PREFIX


def factors_of(text: str) -> dict[str, float]:
    """Parse ``USER=FACTOR,USER=FACTOR``. Raises ValueError."""
    pairs = (part.rpartition("=") for part in map(str.strip, text.split(",")) if part)
    with suppress(ValueError):
        factors = {user.strip(): float(factor) for user, _, factor in pairs}
        if all(user and 0 <= factor < float("inf") for user, factor in factors.items()):
            return factors
    raise ValueError("must be USER=FACTOR,USER=FACTOR with factors from 0")


def _checked_factors(text: str) -> str:
    factors_of(text)
    return text


def listed(text: str) -> list[str]:
    """Return the parts of a list that commas separate."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _named(text: str) -> str:
    if not listed(text):
        raise ValueError("must not be empty")
    return text


Names: TypeAlias = Annotated[str, AfterValidator(_named)]
Name: TypeAlias = Annotated[str, Field(min_length=1)]


class Auth(BaseModel):
    """Checks of tokens. See *Identity* in [operating.md](operating.md#identity)."""

    algorithm: Literal["HS256", "RS256", "ES256"] = setting(
        "HS256", "Signature algorithm: HS256 checks with `SECRET`, the others with the keys at `JWKS_URL`."
    )
    secret: Secret = setting(
        SecretStr(""), "Shared secret for HS256, at least 32 bytes. `millrace up` makes one for its own processes."
    )
    jwks_url: str = setting("", "Key set of the issuer for RS256 and ES256; https, or http on this machine.")
    jwks_ttl_s: Annotated[float, Field(ge=1)] = setting(300.0, "Interval at which the key set is fetched again.", "s")
    issuer: str = setting("millrace", "Required value of the claim `iss`.")
    audience: Names = setting(
        "millrace", "Accepted values of the claim `aud`, separated by commas; a token must have one of them."
    )
    audience_claim: Name = setting("aud", "Claim that names the audience: `client_id` for access tokens of Cognito.")
    user_claim: Name = setting(
        "sub", "Claim that names the user: `oid` for Entra, should several applications share users."
    )
    id_claim: Names = setting(
        "jti,uti",
        "Claims that name the token, separated by commas; the first one present counts. A token without any is named by"
        " a hash, which the security log shows.",
    )
    revocation_poll_interval_s: Annotated[float, Field(gt=0, le=25)] = setting(
        5.0, "Interval at which revoked tokens are read from PostgreSQL, should Redis carry no hint of them.", "s"
    )


class Policies(BaseModel):
    """What users may do to others. See *Policy* in [policy.md](policy.md)."""

    kind: str = setting(
        "company",
        "`company`: members are added at once; `public`: only acquaintances are, others are invited; or"
        " `module:factory`, a policy of your own.",
    )
    older_history: bool = setting(
        True, "Whether new members read what was said before they joined; for `company` and `public`."
    )
    open_invitations: Count = setting(100, "Open invitations of one user to others; 0 sets no bound.", "invitations")
    timeout_s: Annotated[float, Field(gt=0, le=2)] = setting(
        1.0, "Time for an answer of a policy of your own; beyond it the call is answered 503.", "s"
    )


class Listen(BaseModel):
    """Address on which a server listens."""

    host: str = setting("127.0.0.1", "Address to listen on.")
    port: Count = setting(0, "Port to listen on; 0 takes a free one.")


class HttpServer(Listen):
    """HTTP server of ingest. Its limits hold for the node alone; 0 turns a limit of a number off."""

    max_connections: Count = setting(
        4000, "Connections of the node; beyond them, those without a call are closed for new ones.", "connections"
    )
    connections_per_address: Count = setting(500, "Connections of one IPv4 address or IPv6 /64.", "connections")
    calls_per_user: Count = setting(
        8, "Calls of one user at a time, and transfers of files; as many again wait up to 1 s.", "calls"
    )
    messages_per_user: Count = setting(64, "The same for `POST /messages`.", "calls")
    request_timeout_s: Positive = setting(
        10.0, "Time for the head of a request, and for a body to bring its next 20 KiB.", "s"
    )
    keep_alive_s: Positive = setting(75.0, "Time for which a connection is kept after an answer.", "s")
    slow_client_timeout_s: Positive = setting(
        20.0, "Time in which a client must take 16 KiB of an answer that waits for it.", "s"
    )


class RateLimits(BaseModel):
    """Limits of ingest for each user, over all nodes; a rate of 0 turns one off.

    As many calls as the burst says may come at once, and no more than a minute's worth.
    """

    messages_per_minute: Rate = setting(600.0, "New messages of one user.", "1/min")
    messages_burst: Count = setting(50, "The same, at once.", "calls")
    requests_per_minute: Rate = setting(1800.0, "Calls of one user that have no limit of their own.", "1/min")
    requests_burst: Count = setting(120, "The same, at once.", "calls")
    conversations_per_minute: Rate = setting(60.0, "New conversations of one user.", "1/min")
    conversations_burst: Count = setting(30, "The same, at once.", "calls")
    members_per_minute: Rate = setting(
        600.0, "Members that one user adds or removes, those of new conversations too.", "1/min"
    )
    members_burst: Count = setting(600, "The same, at once.", "calls")
    uploads_per_minute: Rate = setting(60.0, "Uploads that one user begins.", "1/min")
    uploads_burst: Count = setting(30, "The same, at once.", "calls")
    search_per_minute: Rate = setting(120.0, "Searches of one user.", "1/min")
    search_burst: Count = setting(120, "The same, at once.", "calls")
    tickets_per_minute: Rate = setting(60.0, "Tickets for sockets of one user.", "1/min")
    tickets_burst: Count = setting(20, "The same, at once.", "calls")
    receipts_per_minute: Rate = setting(300.0, "Receipts of one user over HTTP.", "1/min")
    receipts_burst: Count = setting(100, "The same, at once.", "calls")
    strangers_per_minute: Rate = setting(
        300.0, "Calls without a valid token from one IPv4 address or IPv6 /64, on each node.", "1/min"
    )
    strangers_burst: Count = setting(100, "The same, at once.", "calls")
    factors: Annotated[str, AfterValidator(_checked_factors)] = setting(
        "",
        "Users with other limits, as `USER=FACTOR,USER=FACTOR`: `importer=20` raises all limits of the user `importer`"
        " twentyfold, 0 turns them off, and the user `*` stands for all who are not named.",
    )


class Gateway(BaseModel):
    """Settings of a gateway node. Its limits hold for the node alone; 0 turns a limit off."""

    origins: str = setting(
        "",
        "Allowed `Origin` values of pages, separated by commas; empty allows pages of the gateway's own host only."
        " Ingest uses them too, for CORS.",
    )
    lease_s: int = setting(
        30, "Lease of a connection in Redis; without renewal for so long, the connection counts as gone.", "s"
    )
    presence_max_members: int = setting(
        64, "Largest conversation whose members get presence; 0 turns presence off.", "members"
    )
    gap_check_interval_s: float = setting(
        2.0,
        "Interval at which live conversations are compared with PostgreSQL, so that a lost last message is found;"
        " bounds the delay while Redis is away.",
        "s",
    )
    trusted_proxies: str = setting(
        "127.0.0.1,::1",
        "Addresses or networks, separated by commas, whose `X-Forwarded-For` names the client; ingest uses them too.",
    )
    max_connections: Count = setting(20_000, "Connections of the node.", "connections")
    connections_per_user: Count = setting(50, "Connections of one user.", "connections")
    connections_per_address: Count = setting(500, "Connections of one IPv4 address or IPv6 /64.", "connections")
    connects_per_s_user: Rate = setting(5.0, "New connections of one user; ten seconds' worth may come at once.", "1/s")
    connects_per_s_address: Rate = setting(
        50.0, "New connections of one address; ten seconds' worth may come at once.", "1/s"
    )
    frames_per_s: Rate = setting(50.0, "Messages on one socket; four seconds' worth may come at once.", "1/s")
    joins_per_s: Rate = setting(20.0, "`join_conversation` frames on one socket.", "1/s")
    max_subscriptions: Count = setting(200, "Conversations that one socket has joined at a time.", "conversations")
    slow_client_timeout_s: Rate = setting(
        120.0, "Time for which a client may be behind before its socket is closed (4408).", "s"
    )
    replay_bytes_per_s: Rate = setting(
        4.0 * 1024 * 1024,
        "Bytes of the store that are replayed to the sockets of one user; beyond it replays wait.",
        "1/s",
    )
    replay_burst_bytes: Rate = setting(64.0 * 1024 * 1024, "Bytes of these that may come at once.", "bytes")
    handshake_timeout_s: Rate = setting(5.0, "Time for the WebSocket handshake; 0 waits without end.", "s")
    compiled_send: bool = setting(
        True, "Whether frames of a room are sent by the compiled loop, where `make setup` could build it."
    )


class Notifications(BaseModel):
    """Notifications of members whom a message does not reach."""

    after_s: Rate = setting(
        6.0,
        "Time in which a device of a member who looks connected must acknowledge a message; then the member is"
        " notified. Who has no connection is notified at once.",
        "s",
    )
    receipts_max_wait_s: Rate = setting(
        120.0,
        "Longest time for which that decision waits for receipts that the status stage has not processed yet, once"
        " Kafka answers.",
        "s",
    )
    each_max_members: Count = setting(
        64,
        "Largest conversation whose members are notified of each message. In a larger one a member has at most one"
        " notification that is neither seen nor delivered.",
        "members",
    )


class Audit(BaseModel):
    """The audit in the background."""

    interval_s: float = setting(300.0, "Pause between two audits; 0 turns them off.", "s")
    grace_s: float = setting(30.0, "Age below which a message is not judged yet.", "s")


class Settings(BaseSettings):
    """Settings of a process."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter=DELIMITER, extra="ignore", hide_input_in_errors=True
    )

    node: str = setting("local", "Name of the process in logs and in Redis; unique for each gateway.")
    data_dir: Path = setting(Path(".millrace"), "Folder for uploads and for the state of a stack on one machine.")
    log_level: str = setting("info", "`debug`, `info`, `warning` or `error`.")
    devices_per_member: Annotated[int, Field(ge=1)] = setting(
        32,
        "Devices of a member in a conversation whose watermarks are kept; the one that has been silent for longest is"
        " forgotten. The same for ingests and for workers of `status`.",
        "devices",
    )
    kafka: Kafka = Field(default_factory=Kafka)
    pg: Postgres = Field(default_factory=Postgres)
    redis: RedisServer = Field(default_factory=RedisServer)
    auth: Auth = Field(default_factory=Auth)
    http: HttpServer = Field(default_factory=HttpServer)
    ws: Listen = Field(default_factory=Listen, description="WebSocket server of a gateway.")
    ops: Listen = Field(
        default_factory=Listen, description="Operator port of any process: `/healthz`, `/readyz`, `/metrics`."
    )
    limits: RateLimits = Field(default_factory=RateLimits)
    media: Media = Field(default_factory=Media)
    policy: Policies = Field(default_factory=Policies)
    gateway: Gateway = Field(default_factory=Gateway)
    notifications: Notifications = Field(default_factory=Notifications)
    audit: Audit = Field(default_factory=Audit)
    retention: Retention = Field(default_factory=Retention)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return where settings come from: the environment, and files that it names for secrets."""
        return init_settings, SecretFiles(settings_cls), env_settings
