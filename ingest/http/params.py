"""Bodies, query parameters and cursors of a request, read strictly."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TypeVar, overload
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from domain.errors import Invalid, TooLarge, UnsupportedType
from domain.text import clean_text
from ingest.http.raw_headers import values
from schemas.fields import MAX_BODY, PATTERN_TEXTS
from schemas.ids import is_uuid
from schemas.operations import JSON
from schemas.routes import PATH_PARAMETERS

_TYPES = re.compile(r"`([^`]+)`")
T = TypeVar("T")
S = TypeVar("S", bound=Struct)
BODY_TOO_LARGE = f"the body must have at most {MAX_BODY} bytes"
_CURSOR = "must be `next` of the page before; omit it to start from the first page"
_FLAGS = {"": True, "1": True, "true": True, "0": False, "false": False}
_MAX_DIGITS = 16
_MAX_PARAMETERS = 100
_MAX_SHOWN = 50
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001
_LAST_S = (datetime(9999, 12, 31) - _EPOCH).total_seconds()  # noqa: DTZ001
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "an array",
    "object": "an object",
    "null": "null",
}
_PATTERNS = {f"`str` matching regex {pattern!r}": text for pattern, text in PATTERN_TEXTS.items()}


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """Return the body of a JSON call. Raises UnsupportedType, TooLarge, ClientDisconnect."""
    content_type, encoding = (values(scope["headers"], name) for name in (b"content-type", b"content-encoding"))
    if not content_type or content_type[0].partition(";")[0].strip().lower() != JSON:
        raise UnsupportedType(f"Content-Type must be {JSON}")
    if encoding and encoding[0] != "identity":
        raise UnsupportedType("Content-Encoding must be left out")
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part, more = message.get("body", b""), message.get("more_body", False)
        size += len(part)
        if size > MAX_BODY:
            raise TooLarge(BODY_TOO_LARGE)
        parts.append(part)
    return b"".join(parts)


def parse(kind: type[T], raw: bytes) -> T:
    """Return the body as this type. Raises Invalid, which names the path and never repeats the value."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as exc:
        raise _invalid(str(exc), "$") from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise Invalid("the body must be JSON in UTF-8", [("$", "must be JSON in UTF-8")]) from exc


@overload
def parse_query(kind: None, raw: bytes) -> None: ...


@overload
def parse_query(kind: type[S], raw: bytes) -> S: ...


def parse_query(kind: type[S] | None, raw: bytes) -> S | None:
    """Return the query parameters as this type; a flag without a value is set. No type has no parameters.

    Raises Invalid for parameters that are unknown, repeated, or no text in UTF-8.
    """
    forms = {} if kind is None else _forms(kind)
    values = {name: _value(forms[name], name, text) for name, text in _parameters(raw, forms).items()}
    if kind is None:
        return None
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as exc:
        raise _invalid(str(exc), "?") from exc


def _parameters(raw: bytes, known: Collection[str]) -> Mapping[str, str]:
    """Return each parameter as text that may be stored and searched for. Raises Invalid."""
    if not raw:
        return {}
    try:
        pairs = parse_qsl(raw.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS)
    except ValueError as exc:
        message = f"must be at most {_MAX_PARAMETERS} parameters, percent-encoded in UTF-8"
        raise Invalid(f"the query {message}", [("?", message)]) from exc
    found: dict[str, str] = {}
    for name, text in pairs:
        if name not in known:
            shown = "".join(each if each.isprintable() else "?" for each in name[:_MAX_SHOWN])
            raise wrong(f"?{shown}", "must not be given: it is no parameter of this call")
        if name in found:
            raise wrong(f"?{name}", "must be given once")
        found[name] = clean_text(text, f"?{name}")
    return found


def parse_path(values: Mapping[str, str]) -> Mapping[str, str]:
    """Return the parameters of a path. An id that is none is not found by its call. Raises Invalid."""
    for name, text in values.items():
        try:
            msgspec.convert(text, PATH_PARAMETERS[name])
        except msgspec.ValidationError as exc:
            raise wrong(name, _must(str(exc))) from exc
    return values


@cache
def _forms(kind: type[Struct]) -> Mapping[str, type]:
    """Return int, bool or str for each parameter. Laxer conversion would take the text "null" for none."""
    info = msgspec.inspect.type_info(kind)
    assert isinstance(info, msgspec.inspect.StructType)
    forms: dict[str, type] = {}
    for each in info.fields:
        kinds = each.type.types if isinstance(each.type, msgspec.inspect.UnionType) else (each.type,)
        numbers, flags = (
            any(isinstance(one, found) for one in kinds)
            for found in (msgspec.inspect.IntType, msgspec.inspect.BoolType)
        )
        forms[each.encode_name] = int if numbers else bool if flags else str
    return forms


def _value(form: type, name: str, text: str) -> str | int | bool:
    if form is int:
        if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
            raise wrong(f"?{name}", "must be a whole number")
        return int(text)
    if form is bool:
        if text.lower() not in _FLAGS:
            raise wrong(f"?{name}", "must be true or false")
        return _FLAGS[text.lower()]
    return text


def wrong(path: str, message: str) -> Invalid:
    """Return the error for one field; ``path`` begins with ``$.`` or ``?``, or is the name of a header."""
    return Invalid(f"{path.removeprefix('$.').removeprefix('?')} {message}", [(path, message)])


def moment(text: str | None, name: str) -> datetime | None:
    """Return a query parameter as a time; UTC when it names no offset. Raises Invalid."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text.replace(" ", "+"))  # a + in a query arrives as a space
    except ValueError as exc:
        raise wrong(f"?{name}", "must be an RFC 3339 time") from exc
    return _in_range(at if at.tzinfo else at.replace(tzinfo=UTC))


def _in_range(at: datetime) -> datetime:
    """Return the time in UTC; one that no entry can have becomes the nearest that one could have."""
    seconds = (at.replace(tzinfo=None) - _EPOCH).total_seconds() - (at.utcoffset() or timedelta()).total_seconds()
    bounded = min(max(seconds, 0.0), _LAST_S)
    return _EPOCH.replace(tzinfo=UTC) + timedelta(seconds=bounded) if bounded != seconds else at.astimezone(UTC)


def id_cursor(cursor: str | None) -> str | None:
    """Return the id that a cursor is. Raises Invalid."""
    if cursor is not None and not is_uuid(cursor):
        raise wrong("?cursor", _CURSOR)
    return cursor


def marked_id(cursor: str | None, marks: Collection[str]) -> tuple[str | None, str | None]:
    """Return the mark, one letter, and the id that a cursor is made of. Raises Invalid."""
    if cursor is None:
        return None, None
    if cursor[:1] not in marks or not is_uuid(cursor[1:]):
        raise wrong("?cursor", _CURSOR)
    return cursor[0], cursor[1:]


def place_cursor(at: datetime, id_: str) -> str:
    """Return the cursor for what comes after this time and id."""
    return base64.urlsafe_b64encode(f"{at.isoformat()} {id_}".encode()).decode()


def place(cursor: str | None) -> tuple[datetime, str] | None:
    """Return the time and id that a cursor holds. Raises Invalid."""
    if cursor is None:
        return None
    try:
        at, id_ = base64.urlsafe_b64decode(cursor.encode()).decode().split(" ")
        time = datetime.fromisoformat(at)
        if not is_uuid(id_) or time.tzinfo is None:
            raise ValueError
        return _in_range(time), id_
    except (ValueError, binascii.Error) as exc:
        raise wrong("?cursor", _CURSOR) from exc


def _invalid(text: str, root: str) -> Invalid:
    """Return what msgspec found, in our words: it quotes the place and what it expected, and values of enums."""
    found, _, path = text.partition(" - at `")
    path = path.rstrip("`") or "$"
    if root == "?" and path != "$":
        path = f"?{path.removeprefix('$.')}"
    message = _must(found.split(", got")[0].split(" value '")[0])
    if root == "?":
        message = message.removesuffix(" or null")
    if path == "$":
        return Invalid(f"the {'query' if root == '?' else 'body'} {message}", [(root, message)])
    return wrong(path, message)


def _must(found: str) -> str:
    if found.startswith("Expected "):
        expected = found.removeprefix("Expected ")
        return f"must be {_PATTERNS.get(expected) or _TYPES.sub(_in_words, expected)}"
    if found.startswith("Object missing required field "):
        return f"must have the field {found.rpartition(' ')[2]}"
    if found.startswith("Object contains unknown field "):
        return f"must not have the field {found.rpartition(' ')[2]}"
    return "must be one of the values that the schema lists" if found == "Invalid enum" else f"must be valid: {found}"


def _in_words(types: re.Match[str]) -> str:
    return " or ".join(_WORDS.get(name, name) for name in types[1].split(" | "))
