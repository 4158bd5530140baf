"""Settings of the connections to PostgreSQL and Redis."""

from __future__ import annotations

from pydantic import BaseModel, SecretStr

from runtime.setting import Secret, setting


class Postgres(BaseModel):
    """PostgreSQL, the only truth."""

    dsn: Secret = setting(
        SecretStr("postgresql://127.0.0.1/millrace"),
        "libpq connection string or URI, all parts of which are used. See [connecting.md](connecting.md#postgresql).",
    )
    direct_dsn: Secret = setting(
        SecretStr(""),
        "The same of PostgreSQL itself, where `DSN` leads to PgBouncer with transaction pooling: for locks, `LISTEN`"
        " and migrations. Empty, `DSN` leads to PostgreSQL itself.",
    )
    replica_dsn: Secret = setting(
        SecretStr(""),
        "The same of a streaming replica, from which history, search, lists and the audit read whenever it has all that"
        " the caller can have seen; empty for none. See *Reads from a replica* in [operating.md](operating.md).",
    )

    @property
    def is_pooled(self) -> bool:
        """Return True when ``dsn`` leads to a pooler."""
        return bool(self.direct_dsn.get_secret_value())

    @property
    def session_dsn(self) -> str:
        """Return the connection string for sessions that belong to one client."""
        return self.direct_dsn.get_secret_value() or self.dsn.get_secret_value()


class RedisServer(BaseModel):
    """Redis, or a Redis Cluster."""

    url: Secret = setting(
        SecretStr("redis://127.0.0.1:6379/0"),
        "`redis://[user:password@]host:port/0`, `redis+cluster://[user:password@]host:port,host:port` (some of the"
        " nodes), `redis+sentinel://…`, `unix://…`; `rediss…` is TLS. See [connecting.md](connecting.md#redis).",
    )
