"""Keys, checked when they are loaded: a secret, or the keys of an issuer's set (RFC 7517). Pure."""

from __future__ import annotations

from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import orjson
from jose import jwk

HS256: Final = "HS256"
_TYPES = {"RS256": "RSA", "ES256": "EC"}
_MIN_SECRET_BYTES = 32
_MIN_RSA_BITS, _MIN_RSA_EXPONENT = 2048, 65_537
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})

Key: TypeAlias = Any
"""Key of python-jose for one algorithm. Never text or bytes: jose guesses their kind, and guesses wrong."""


class BadKeys(ValueError):
    """Keys, or settings for them, that are not safe to use. The text says what to do, and holds no key."""


@dataclass(frozen=True, slots=True)
class Secret:
    """Key of HS256. Raises BadKeys when it is too short to be safe."""

    secret: str = field(repr=False)
    algorithm: str = HS256
    version: int = 0

    def __post_init__(self) -> None:
        if len(self.secret.encode()) < _MIN_SECRET_BYTES:
            raise BadKeys(f"MILLRACE_AUTH__SECRET must have at least {_MIN_SECRET_BYTES} bytes")
        _made(self.secret)

    async def find(self, _: object) -> Key:
        """Return the one key, whatever id the token's header names."""
        return _made(self.secret)


def _made(secret: str) -> Key:
    try:
        return jwk.construct(secret, HS256)
    except Exception as exc:  # jose has several errors for it, and would else take a public key for a secret
        raise BadKeys("MILLRACE_AUTH__SECRET must be a secret, not a public key or certificate") from exc


@dataclass(frozen=True, slots=True)
class KeySet:
    """Usable keys of a set by their ids, their sources, and the number of unused keys by reason."""

    keys: Mapping[str, Key] = field(repr=False)
    made_of: Mapping[str, Any] = field(repr=False)
    passed_over: Mapping[str, int]


def read_set(raw: bytes, algorithm: str) -> KeySet:
    """Return the keys of a set for this algorithm. Raises BadKeys when it has none, or two of one id.

    Keys of other kinds are passed over (RFC 7517 §5): sets also hold those for encryption and for other algorithms.
    """
    try:
        listed = orjson.loads(raw)["keys"]
        entries = [entry for entry in listed if isinstance(entry, dict)]
    except (orjson.JSONDecodeError, KeyError, TypeError) as exc:
        raise BadKeys("the key set must be a JWK set (RFC 7517)") from exc
    judged = [(entry, _unfit(entry, algorithm)) for entry in entries]
    fit = [entry for entry, why in judged if why is None]
    if not fit:
        raise BadKeys(f"the key set must have a key for {algorithm}")
    kids = Counter(entry["kid"] for entry in fit)
    if len(kids) != len(fit):
        raise BadKeys("the key set must have one key for each kid")
    keys = {entry["kid"]: jwk.construct(entry, algorithm) for entry in fit}
    return KeySet(keys, {entry["kid"]: entry for entry in fit}, Counter(why for _, why in judged if why is not None))


def _unfit(entry: Mapping[str, Any], algorithm: str) -> str | None:
    """Return the reason for which a key is not used; None for a usable one."""
    if entry.get("kty") != _TYPES[algorithm] or entry.get("alg", algorithm) != algorithm:
        return "of another algorithm"
    if entry.get("use", "sig") != "sig" or "verify" not in entry.get("key_ops", ["verify"]):
        return "for another use"
    if not isinstance(entry.get("kid"), str) or not entry["kid"]:
        return "without a kid"
    if entry.keys() & _PRIVATE:
        return "private"
    try:
        return _weak_rsa(entry) if entry["kty"] == "RSA" else _bad_curve(entry)
    except Exception:  # jose and cryptography raise many kinds for broken numbers
        return "damaged"


def _weak_rsa(entry: Mapping[str, Any]) -> str | None:
    modulus, exponent = (int.from_bytes(urlsafe_b64decode(f"{entry[name]}==")) for name in ("n", "e"))
    if modulus.bit_length() < _MIN_RSA_BITS or exponent < _MIN_RSA_EXPONENT:
        return "too weak"
    jwk.construct(entry, "RS256")
    return None


def _bad_curve(entry: Mapping[str, Any]) -> str | None:
    if entry["crv"] != "P-256":
        return "of another curve"
    jwk.construct(entry, "ES256")
    return None
