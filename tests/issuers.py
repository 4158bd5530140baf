"""Issuers of tokens, good and bad: each signs by hand, so that it can say what no library would."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

SECRET = "s" * 40


def b64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def number(value: int) -> str:
    return b64(value.to_bytes((value.bit_length() + 7) // 8))


@cache
def rsa_key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65_537, bits)


@cache
def ec_key(name: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@dataclass
class Issuer:
    """Signs with one key. ``name`` is the key's id."""

    algorithm: str = "HS256"
    name: str = "k1"

    def sign(self, text: bytes) -> bytes:
        if self.algorithm == "HS256":
            return hmac.digest(SECRET.encode(), text, hashlib.sha256)
        if self.algorithm == "RS256":
            return rsa_key(self.name).sign(text, padding.PKCS1v15(), hashes.SHA256())
        r, s = decode_dss_signature(ec_key(self.name).sign(text, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32) + s.to_bytes(32)

    def public(self) -> Any:
        return (ec_key(self.name) if self.algorithm == "ES256" else rsa_key(self.name)).public_key()

    def jwk(self) -> dict[str, Any]:
        numbers = self.public().public_numbers()
        if self.algorithm == "ES256":
            members = {"kty": "EC", "crv": "P-256", "x": b64(numbers.x.to_bytes(32)), "y": b64(numbers.y.to_bytes(32))}
        else:
            members = {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
        return {**members, "kid": self.name, "use": "sig", "alg": self.algorithm}

    def header(self, **changes: Any) -> dict[str, Any]:
        return changed({"alg": self.algorithm, "typ": "JWT", "kid": self.name}, changes)

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        good = {"sub": "bob", "iss": "millrace", "aud": "millrace", "iat": now, "exp": now + 60, "jti": "j1"}
        return changed(good, changes)

    def token(self, header: dict[str, Any] | None = None, **changes: Any) -> str:
        """With other headers and claims; None leaves one out."""
        return self.raw(json.dumps(self.header(**(header or {}))), json.dumps(self.claims(**changes)))

    def raw(self, header: str, claims: str, sign: Callable[[bytes], bytes] | None = None) -> str:
        """Of parts that need not be JSON."""
        signed = f"{b64(header.encode())}.{b64(claims.encode())}"
        return f"{signed}.{b64((sign or self.sign)(signed.encode()))}"


def changed(good: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def attacks(issuer: Issuer) -> dict[str, str]:
    """Tokens that must not open anything, by what is wrong with them. All else in them is good."""
    now, good = int(time.time()), issuer.token()
    header, claims, signature = good.split(".")
    plain = json.dumps(issuer.claims())
    needed = issuer.claims().keys() - {"jti"}
    found = {f"without {claim}": issuer.token(**{claim: None}) for claim in sorted(needed)}
    for name, value in {
        "true": True,
        "1e30": 10**30,
        "NaN": float("nan"),
        "infinite": float("inf"),
        "huge": 10**400,
        "text": str(now + 60),
        "list": [now],
    }.items():
        found[f"exp {name}"] = issuer.token(exp=value)
    for name, value in {"true": True, "NaN": float("nan"), "text": str(now), "negative": -1}.items():
        found[f"iat {name}"] = issuer.token(iat=value)
    found |= {
        "ended": issuer.token(iat=now - 600, exp=now - 60),
        "iat in the future": issuer.token(iat=now + 3600, exp=now + 3700),
        "lives too long": issuer.token(exp=now + 31 * 86_400),
        "ends before it begins": issuer.token(iat=now + 20, exp=now + 10),
        "nbf in the future": issuer.token(nbf=now + 600),
        "nbf true": issuer.token(nbf=True),
        "wrong iss": issuer.token(iss="other"),
        "iss list": issuer.token(iss=["millrace"]),
        "wrong aud": issuer.token(aud="other"),
        "aud list without us": issuer.token(aud=["other", "others"]),
        "aud object": issuer.token(aud={"millrace": 1}),
        "sub number": issuer.token(sub=7),
        "sub strange": issuer.token(sub="b\u00f6b"),
        "sub with newline": issuer.token(sub="bob\n"),
        "sub with a space": issuer.token(sub="bob b"),
        "sub empty": issuer.token(sub=""),
        "sub too long": issuer.token(sub="b" * 256),
        "jti number": issuer.token(jti=1),
        "jti empty": issuer.token(jti=""),
        "jti NUL": issuer.token(jti="a\0"),
        "claims list": issuer.raw(json.dumps(issuer.header()), "[]"),
        "claims no JSON": issuer.raw(json.dumps(issuer.header()), "{"),
        "claims nested": issuer.raw(json.dumps(issuer.header()), '{"a":' * 300 + "1" + "}" * 300),
        "claim twice": issuer.raw(json.dumps(issuer.header()), f'{{"sub":"eve",{plain[1:]}'),
        "header twice": issuer.raw(f'{{"alg":"none",{json.dumps(issuer.header())[1:]}', plain),
        "header list": issuer.raw("[]", plain),
        "typ other": issuer.token({"typ": "dpop+jwt"}),
        "typ list": issuer.token({"typ": ["JWT"]}),
        "typ in another tree": issuer.token({"typ": "text/jwt"}),
        "alg list": issuer.token({"alg": [issuer.algorithm]}),
        "alg lower": issuer.token({"alg": issuer.algorithm.lower()}),
        "alg missing": issuer.token({"alg": None}),
        "trailing =": good + "=",
        "= in the middle": f"{header}=.{claims}.{signature}",
        "space inside": f"{header}. {claims}.{signature}",
        "newline behind": f"{good}\n",
        "letter of another alphabet": f"{header}.{claims}\u0430.{signature}",
        "four parts": f"{good}.{signature}",
        "two parts": f"{header}.{claims}",
        "no signature": f"{header}.{claims}.",
        "other signature": f"{header}.{claims}.{signature[:-8]}AAAAAAAA",
        "other claims": f"{header}.{b64(json.dumps(issuer.claims(sub='eve')).encode())}.{signature}",
        "oversize": issuer.token(more="x" * ((8010 - len(good)) * 3 // 4)),
        "text": "not a token",
    }
    for alg in ("none", "None", "NONE", "nOnE"):
        found[f"alg {alg}"] = f"{b64(json.dumps(issuer.header(alg=alg)).encode())}.{claims}."
        found[f"alg {alg}, signed"] = issuer.raw(json.dumps(issuer.header(alg=alg)), plain)
    jwk = Issuer("RS256", "mine").jwk()
    for name, value in {
        "crit": ["exp"], "jku": "http://127.0.0.1:1/k", "jwk": jwk, "x5u": "http://127.0.0.1:1/c", "x5c": ["MII"],
        "zip": "DEF", "b64": False,
    }.items():  # fmt: skip
        found[f"header {name}"] = issuer.token({name: value})
    return found | (_family_attacks(issuer, plain) if issuer.algorithm != "HS256" else _other_families(issuer, plain))


def _other_families(issuer: Issuer, plain: str) -> dict[str, str]:
    mine = Issuer("RS256", "mine")
    return {
        "RS256": mine.raw(json.dumps(mine.header()), plain),
        "HS384": issuer.raw(
            json.dumps(issuer.header(alg="HS384")), plain, lambda m: hmac.digest(SECRET.encode(), m, hashlib.sha384)
        ),
        "empty secret": issuer.raw(json.dumps(issuer.header()), plain, lambda m: hmac.digest(b"", m, hashlib.sha256)),
    }


def _family_attacks(issuer: Issuer, plain: str) -> dict[str, str]:
    """What can be tried on whoever has a public key."""
    found = {}
    for form, encoding in {"PEM": Encoding.PEM, "DER": Encoding.DER}.items():
        public = issuer.public().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
        for alg in ("HS256", issuer.algorithm):
            found[f"{alg} with the public key in {form}"] = issuer.raw(
                json.dumps(issuer.header(alg=alg)), plain, lambda m, k=public: hmac.digest(k, m, hashlib.sha256)
            )
    jwk = json.dumps(issuer.jwk()).encode()
    found["HS256 with the JWK"] = issuer.raw(
        json.dumps(issuer.header(alg="HS256")), plain, lambda m: hmac.digest(jwk, m, hashlib.sha256)
    )
    mine = Issuer(issuer.algorithm, "mine")
    found["my key, my kid"] = mine.token()
    found["my key, their kid"] = mine.token({"kid": issuer.name})
    other = "ES256" if issuer.algorithm == "RS256" else "RS256"
    found["the other family"] = Issuer(other, "mine").token({"kid": issuer.name})
    kids = (None, "", "../../dev/null", "k1' OR '1'='1", "k1\0", "K1", ["k1"], {"k1": 1}, 1, True, "k" * 300)
    return found | {f"kid {kid!r:.20}": issuer.token({"kid": kid}) for kid in kids}


@dataclass
class KeyServer:
    """A server of key sets, over HTTP. What it serves can be changed, and it can fail."""

    port: int = 0
    keys: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200
    body: bytes | None = None
    hangs: bool = False
    asked: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/keys"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            if self.hangs:
                await reader.read()  # until the caller gives up
            body = json.dumps({"keys": self.keys}).encode() if self.body is None else self.body
            more = "Location: /elsewhere\r\n" if self.status == 302 else ""
            writer.write(f"HTTP/1.1 {self.status} X\r\n{more}Content-Length: {len(body)}\r\n".encode())
            writer.write(b"Connection: close\r\n\r\n" + body)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def open_key_server(*issuers: Issuer) -> AsyncIterator[KeyServer]:
    """One that serves the keys of these."""
    keys = KeyServer(keys=[issuer.jwk() for issuer in issuers])
    async with await asyncio.start_server(keys.answer, "127.0.0.1", 0) as server:
        keys.port = server.sockets[0].getsockname()[1]
        yield keys
