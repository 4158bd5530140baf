"""Headers of tus 1.0, read strictly."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from starlette.datastructures import Headers

from domain.errors import BadUpload, TooLarge, UnsupportedType, UnsupportedVersion
from domain.file_names import file_name, media_type
from domain.uploads import Upload
from schemas.fields import MAX_UPLOAD
from schemas.media_routes import TUS

VERSION = "1.0.0"
RESUMABLE = {"tus-resumable": VERSION}
SPOKEN = {"tus-version": VERSION, "tus-extension": "creation,termination", "tus-max-size": str(MAX_UPLOAD)}
_MAX_METADATA = 8192
_MAX_DIGITS = 100


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an upload: where it begins, and its length if it is announced, in bytes."""

    offset: int
    length: int | None


def check_version(headers: Headers) -> None:
    """Raise UnsupportedVersion unless the client speaks our version of tus."""
    if headers.get("tus-resumable") != VERSION:
        raise UnsupportedVersion(f"Tus-Resumable must be {VERSION}")


def new_upload(media_id: str, owner_id: str, headers: Headers) -> Upload:
    """Return the upload that the headers announce. Raises BadUpload, TooLarge."""
    size = _number(headers, "Upload-Length")
    if size > MAX_UPLOAD:
        raise TooLarge(f"the file must have at most {MAX_UPLOAD} bytes")
    metadata = _metadata(headers.get("upload-metadata", ""))
    return Upload(
        media_id=media_id,
        owner_id=owner_id,
        file_name=file_name(metadata.get("filename", "")),
        declared_type=media_type(metadata.get("filetype", "")),
        size=size,
    )


def part(headers: Headers) -> Part:
    """Return the part that the headers announce. Raises BadUpload, UnsupportedType."""
    if headers.get("content-type", "").lower() != TUS:
        raise UnsupportedType(f"Content-Type must be {TUS}")
    length = _number(headers, "Content-Length") if "content-length" in headers else None
    return Part(_number(headers, "Upload-Offset"), length)


def _number(headers: Headers, name: str) -> int:
    values = headers.getlist(name)
    text = values[0] if len(values) == 1 else ""
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise _wrong(name, "must be given once, as a whole number of bytes")
    return int(text)


def _metadata(text: str) -> dict[str, str]:
    """Return the values that are used, by their keys. Others are checked for their form only."""
    if len(text) > _MAX_METADATA:
        raise _wrong("Upload-Metadata", f"must have at most {_MAX_METADATA} characters")
    values: dict[str, str] = {}
    for pair in filter(None, (pair.strip() for pair in text.split(","))):
        key, _, encoded = pair.partition(" ")
        if key in ("filename", "filetype"):
            values[key] = _value(f"Upload-Metadata.{key}", encoded.strip())
    return values


def _value(path: str, encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, ValueError) as exc:
        raise _wrong(path, "must be UTF-8 in Base64") from exc


def _wrong(path: str, message: str) -> BadUpload:
    return BadUpload(f"{path} {message}", [(path, message)])
