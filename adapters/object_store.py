"""The object store that settings name: a folder or S3, its timeouts, and its errors as ours."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import unquote, urlsplit

from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore, MemoryStore, S3Store

from domain.errors import InsufficientStorage, Unavailable
from domain.uploads import BadStore

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

Store: TypeAlias = LocalStore | MemoryStore | S3Store

NO_SPACE = "no space is left for uploads; try again later"
_PROBE = "probe/conditional"
_CLIENT: ClientConfig = {"connect_timeout": timedelta(seconds=1), "timeout": timedelta(seconds=10)}
_RETRY: RetryConfig = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=5),
    "backoff": {"init_backoff": timedelta(milliseconds=50), "max_backoff": timedelta(seconds=1), "base": 2},
}


@dataclass(frozen=True, slots=True)
class Place:
    """Place of files: a folder, or a bucket of S3 and the prefix of their names in it."""

    folder: Path | None = None
    bucket: str = ""
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class S3Access:
    """Access to S3. What is empty comes from the environment as AWS's own tools read it: ``AWS_REGION``, ``AWS_…``."""

    endpoint: str = ""
    region: str = ""
    access_key_id: str = ""
    secret_access_key: str = field(default="", repr=False)

    def config(self) -> S3Config:
        """Return what is set, for the client."""
        config: S3Config = {}
        if self.endpoint:
            config["endpoint"] = self.endpoint
        if self.region:
            config["region"] = self.region
        if self.access_key_id:
            config["access_key_id"] = self.access_key_id
            config["secret_access_key"] = self.secret_access_key
        return config


def place(url: str, default: Path) -> Place:
    """Return the place that ``MILLRACE_MEDIA__URL`` names: ``file:///folder`` or ``s3://bucket/prefix``.

    Raises BadStore.
    """
    if not url:
        return Place(default)
    parts = urlsplit(url)
    if parts.query or parts.fragment or parts.username is not None:
        raise BadStore("MILLRACE_MEDIA__URL must have no user, query or fragment: keys are settings of their own")
    if parts.scheme == "file" and not parts.netloc and parts.path.strip("/"):
        return Place(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        return Place(bucket=parts.netloc, prefix=unquote(parts.path).strip("/"))
    raise BadStore("MILLRACE_MEDIA__URL must be file:///folder or s3://bucket/prefix")


def open_s3(where: Place, access: S3Access) -> S3Store:
    """Return a bucket of S3. HTTP without TLS is spoken with an endpoint that says so. Raises BadStore."""
    if bool(access.access_key_id) != bool(access.secret_access_key):
        raise BadStore("MILLRACE_MEDIA__S3_ACCESS_KEY_ID and MILLRACE_MEDIA__S3_SECRET_ACCESS_KEY must be set together")
    plain = access.endpoint.startswith("http://")
    try:
        return S3Store(
            where.bucket,
            prefix=where.prefix or None,
            config=access.config(),
            client_options={**_CLIENT, "allow_http": True} if plain else _CLIENT,
            retry_config=_RETRY,
        )
    except (BaseError, ValueError) as exc:
        raise BadStore("MILLRACE_MEDIA__S3_ENDPOINT must be an http or https URL") from exc


async def check(store: Store) -> None:
    """Raise BadStore when the bucket cannot be written, or the server ignores conditions of writes.

    Two ingests that write to one upload need ``If-None-Match: *``: without it the second would overwrite the first.
    """
    try:
        await store.put_async(_PROBE, b"", mode="overwrite", use_multipart=False)
        await store.put_async(_PROBE, b"", mode="create", use_multipart=False)
    except AlreadyExistsError:
        return
    except FileNotFoundError as exc:
        raise BadStore("MILLRACE_MEDIA__URL must name a bucket that exists; create it first") from exc
    except (PermissionDeniedError, UnauthenticatedError) as exc:
        raise BadStore("the keys of MILLRACE_MEDIA__S3_… must be valid and may write to the bucket") from exc
    except (BaseError, OSError) as exc:
        raise Unavailable("the file store does not answer; try again") from exc
    raise BadStore("the S3 server must honour If-None-Match: * of a PUT; use one that does")


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn errors of the store into ours."""
    try:
        yield
    except (BaseError, OSError) as exc:
        if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InsufficientStorage(NO_SPACE) from exc
        raise Unavailable("the file store does not answer; try again") from exc
