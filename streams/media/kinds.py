"""Kinds of files by their content, whatever their names and clients say."""

from __future__ import annotations

import re
from contextlib import suppress

import puremagic

from domain.media import UNKNOWN_TYPE

_HEAD = 64
_MEDIA = ("image/", "audio/", "video/")
_SVG = "image/svg+xml"

_MAGIC: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), kind)
    for pattern, kind in (
        (rb"\xff\xd8\xff", "image/jpeg"),
        (rb"\x89PNG\r\n\x1a\n", "image/png"),
        (rb"GIF8[79]a", "image/gif"),
        (rb"RIFF....WEBP", "image/webp"),
        (rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", "image/bmp"),
        (rb"II[*+]\0|MM\0[*+]|II(U\0|RO|RS)|MMOR", "image/tiff"),  # also the raw files of cameras
        (rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", "image/jxl"),
        (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", "image/jp2"),
        (rb"8BPS\0[\x01\x02]", "image/vnd.adobe.photoshop"),
        (rb"FUJIFILMCCD-RAW|FOVb", "image/x-raw"),
        (rb"RIFF....WAVE|RF64....WAVE", "audio/wav"),
        (rb"RIFF....AVI ", "video/x-msvideo"),
        (rb"FORM....AIF[FC]", "audio/aiff"),
        (rb"fLaC", "audio/flac"),
        (rb"ID3[\x02-\x04]", "audio/mpeg"),
        (rb"\xff[\xf0\xf1\xf8\xf9]", "audio/aac"),
        (rb"\xff[\xe2-\xe7\xf2-\xf7\xfa-\xff][\x10-\xef]", "audio/mpeg"),
        (rb"OggS.{24}(\x01video|.\x80theora|\x80theora)", "video/ogg"),
        (rb"OggS", "audio/ogg"),
        (rb"#!AMR", "audio/amr"),
        (rb"caff\0\x01", "audio/x-caf"),
        (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video/x-ms-asf"),
        (rb"FLV\x01", "video/x-flv"),
        (rb"\.RMF", "video/vnd.rn-realvideo"),
        (rb"\x06\x0e\x2b\x34\x02\x05\x01\x01", "video/mxf"),
        (rb"wvpk", "audio/x-wavpack"),
        (rb"MAC .[\x0c-\x10]", "audio/x-ape"),
        (rb"MPCK|MP\+", "audio/x-musepack"),
        (rb"TTA[12]", "audio/x-tta"),
        (rb"DSD |FRM8.{8}DSD ", "audio/x-dsd"),
        (rb"\0\0\x01[\xba\xb3]", "video/mpeg"),
        (rb"\x1a\x45\xdf\xa3.{,40}\x42\x82.webm", "video/webm"),
        (rb"\x1a\x45\xdf\xa3", "video/x-matroska"),
    )
)
PICTURES = frozenset(f"image/{name}" for name in ("jpeg", "png", "gif", "webp", "bmp", "tiff", "avif", "heic"))
"""Pictures that are opened."""
RECORDINGS = frozenset(
    (
        *(f"video/{name}" for name in ("mp4", "quicktime", "3gpp", "webm", "x-matroska", "ogg", "x-msvideo", "mp2t")),
        *(f"audio/{name}" for name in ("mp4", "ogg", "mpeg", "flac", "wav", "aac", "aiff", "amr")),
    )
)
"""Audio and video that are opened."""
_BOXED = frozenset(("video/mp4", "video/quicktime", "video/3gpp", "audio/mp4"))
"""Recordings in the ISO base media format."""
_NAMES_OF_BOXES = re.compile(
    rb"moov|moof|mdat|meta|udta|uuid|free|skip|wide|pnot|ilst|Exif|xpacket|\xa9[a-z]{3}", re.IGNORECASE
)
_TRANSPORT_STREAM = (188, 192)
"""Bytes from one packet of an MPEG transport stream to the next."""

_BOXES = {b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"moof"}
"""Boxes that old QuickTime files begin with."""
_BRANDS: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern), kind)
    for pattern, kind in (
        (rb"avi[fs]", "image/avif"),
        (rb"he[iv][cmsx]|mif[12]|msf1|miaf", "image/heic"),
        (rb"crx ", "image/x-raw"),
        (rb"qt  ", "video/quicktime"),
        (rb"M4[ABP] |F4A ", "audio/mp4"),
        (rb"3g[0-9a-z]{2}", "video/3gpp"),
    )
)
"""Kinds by major brand (ISO/IEC 14496-12 §4.3, 23008-12 annex B); any other brand is a video."""


def kind_of(content: bytes) -> str:
    """Return the media type by the content alone; ``application/octet-stream`` for what nobody knows."""
    head = content[: _HEAD * 4]
    kind = _base_media_kind(head) or next((kind for magic, kind in _MAGIC if magic.match(head)), None)
    if kind is not None:
        return kind
    if any(content[::size][:8] == b"G" * 8 for size in _TRANSPORT_STREAM):
        return "video/mp2t"
    return _other_kind(content)


def is_medium(kind: str) -> bool:
    """Return whether a file of this kind is a picture, audio or video, which cameras and recorders write."""
    return kind.startswith(_MEDIA) and kind != _SVG


def is_empty(content: bytes, kind: str) -> bool:
    """Return whether a file that begins as a recording holds none: neither a chain of boxes nor the name of one.

    Nothing plays such a file, and nothing in it describes a recording.
    """
    return kind in _BOXED and _NAMES_OF_BOXES.search(content) is None and not _is_chain(content)


def _is_chain(content: bytes) -> bool:
    """Return whether boxes follow one another up to the end (ISO/IEC 14496-12 §4.2)."""
    at = 0
    while 0 <= at <= len(content) - 8:
        size = int.from_bytes(content[at : at + 4], "big")
        if size in (0, 1):  # up to the end; a long size, which only samples have
            return True
        if size < 8:
            return False
        at += size
    return at == len(content)


def _base_media_kind(head: bytes) -> str | None:
    if head[4:8] in _BOXES:
        return "video/quicktime"
    if head[4:8] != b"ftyp":
        return None
    major, compatible = head[8:12], re.findall(rb"....", head[16 : int.from_bytes(head[:4], "big")], re.DOTALL)
    if major in (b"mif1", b"mif2", b"msf1", b"miaf") and any(re.match(rb"avi[fs]", each) for each in compatible):
        return "image/avif"
    return next((kind for brand, kind in _BRANDS if brand.match(major)), "video/mp4")


def _other_kind(content: bytes) -> str:
    found = UNKNOWN_TYPE
    with suppress(puremagic.PureError, ValueError, IndexError):
        found = str(puremagic.from_string(content, mime=True)) or UNKNOWN_TYPE
    if is_medium(found) and _is_text(content):  # a few letters make no picture of a text
        return "text/plain"
    return found


def _is_text(content: bytes) -> bool:
    try:
        return b"\0" not in content and bool(content.decode())
    except UnicodeDecodeError:
        return False
