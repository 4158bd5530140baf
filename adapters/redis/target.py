"""URLs of Redis: one parser for all forms. Each part of a URL is used, or the URL is refused.

* ``redis://[user:password@]host:port/0`` and ``unix://[user:password@]/path?db=0``: one server
* ``redis+cluster://[user:password@]host:port,host:port``: a Redis Cluster, by some of its nodes
* ``redis+sentinel://[user:password@]host:port,host:port/service/0``: the primary that these Sentinels name

``password_file=/path`` in place of a password names a file, so that a password can be changed without a restart.
``rediss`` in place of ``redis`` is TLS with all servers, whose certificates are always checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

_FORM = "the Redis URL must be redis://HOST:PORT/0, redis+cluster://HOST:PORT,HOST:PORT or one of docs/connecting.md"
_TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname")
_FILE = "password_file"
_SENTINEL = ("sentinel_username", "sentinel_password", "sentinel_password_file")
_PORT, _SENTINEL_PORT = 6379, 26379


class Address(NamedTuple):
    """Host and port of one server; of a socket its path, and 0."""

    host: str
    port: int

    def __str__(self) -> str:
        if not self.port:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Kind(Enum):
    """Relation of the servers of a URL."""

    ALONE = "redis"
    CLUSTER = "redis+cluster"
    SENTINEL = "redis+sentinel"


@dataclass(frozen=True, slots=True)
class Login:
    """User and password; without a user it is the server's default one. ``file`` holds the password in its place."""

    user: str | None = None
    password: str | None = field(default=None, repr=False)
    file: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """Servers that a URL names: one alone, some nodes of a cluster, or the Sentinels of a primary.

    ``tls``: what the client library is told of TLS; None without it.
    """

    kind: Kind
    nodes: tuple[Address, ...]
    login: Login = field(default_factory=Login)
    database: int = 0
    tls: Mapping[str, Any] | None = None
    service: str = ""
    sentinel_login: Login = field(default_factory=Login)

    @property
    def is_cluster(self) -> bool:
        """Return True when keys are shared out by slot."""
        return self.kind is Kind.CLUSTER

    def __str__(self) -> str:
        """Return the servers, without user or password."""
        return ",".join(map(str, self.nodes)) + (f"/{self.service}" if self.service else "")


def target(url: str) -> Target:
    """Parse a URL. Raises ValueError, which quotes nothing of it but the name of an option."""
    scheme, _, rest = url.partition("://")
    rest, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if scheme == "unix":
        return _socket(rest, options)
    kind, has_tls = _kind(scheme)
    netloc, _, path = rest.partition("/")
    credentials, _, hosts = netloc.rpartition("@")
    nodes = tuple(_address(host, kind) for host in hosts.split(","))
    service, database = _path(path, kind)
    if kind is Kind.ALONE and len(nodes) > 1:
        raise ValueError(_FORM)
    tls = _tls(options) if has_tls else None
    login = _login(*_split(credentials), options.pop(_FILE, ""))
    sentinel = _login(*(options.pop(name, "") if kind is Kind.SENTINEL else "" for name in _SENTINEL))
    _refuse(options)
    return Target(kind, nodes, login, database, tls, service, sentinel)


def _socket(rest: str, options: dict[str, str]) -> Target:
    credentials, _, path = rest.rpartition("@")
    database, login = options.pop("db", "0"), _login(*_split(credentials), options.pop(_FILE, ""))
    _refuse(options)
    if not path.startswith("/") or not database.isdecimal():
        raise ValueError(_FORM)
    return Target(Kind.ALONE, (Address(unquote(path), 0),), login, int(database))


def _kind(scheme: str) -> tuple[Kind, bool]:
    name, plus, more = scheme.partition("+")
    if name not in ("redis", "rediss"):
        raise ValueError(_FORM)
    try:
        return Kind(f"redis{plus}{more}"), name == "rediss"
    except ValueError as exc:
        raise ValueError(_FORM) from exc


def _address(text: str, kind: Kind) -> Address:
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = text.partition(":")
    default = _SENTINEL_PORT if kind is Kind.SENTINEL else _PORT
    if not host or (port and not (port.isdecimal() and 0 < int(port) < 65536)):
        raise ValueError(_FORM)
    return Address(host, int(port or default))


def _path(path: str, kind: Kind) -> tuple[str, int]:
    """Return the service, where there are Sentinels, and the number of the database."""
    service, path = path.split("/", 1) if kind is Kind.SENTINEL and "/" in path else (path, "")
    if kind is not Kind.SENTINEL:
        service, path = "", service
    if not (path or "0").isdecimal() or (kind is Kind.SENTINEL and not service):
        raise ValueError(_FORM)
    database = int(path or 0)
    if database and kind is Kind.CLUSTER:
        raise ValueError("a Redis Cluster has the database 0 only")
    return unquote(service), database


def _split(credentials: str) -> tuple[str, str]:
    user, _, password = credentials.partition(":")
    return unquote(user), unquote(password)


def _login(user: str, password: str, file: str) -> Login:
    if password and file:
        raise ValueError(f"the Redis URL must have a password or {_FILE}, and not both")
    if user and not (password or file):
        raise ValueError("the Redis URL names a user without a password: it must be user:password@, or :password@")
    return Login(user or None, password or None, file)


def _tls(options: dict[str, str]) -> Mapping[str, Any]:
    found: dict[str, Any] = {name: options.pop(name) for name in _TLS if name in options}
    checks = str(found.pop("ssl_check_hostname", "true")).lower()
    if checks not in ("true", "false"):
        raise ValueError("ssl_check_hostname of the Redis URL must be true or false")
    if ("ssl_certfile" in found) != ("ssl_keyfile" in found):
        raise ValueError("ssl_certfile and ssl_keyfile of the Redis URL belong together")
    return {"ssl": True, "ssl_cert_reqs": "required", "ssl_check_hostname": checks == "true", **found}


def _refuse(options: Mapping[str, str]) -> None:
    for name in options:
        if name in (*_TLS, *_SENTINEL, "db"):
            raise ValueError(f"the Redis URL must not have {name} here")
        # What is no name may be a part of a password that is not escaped.
        about = f" {name}" if name.isidentifier() else ", or a password with signs in it that must be escaped"
        raise ValueError(f"the Redis URL has an unknown option{about}")
