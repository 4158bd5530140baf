"""Names of files: any script stays, and no name does harm to a header, a path or a screen."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.file_names import content_disposition, file_name, media_type, named_as
from domain.media import UNKNOWN_TYPE
from schemas.fields import MAX_FILE_NAME, MAX_MEDIA_TYPE

CONTROLS = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0)]))
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
TEXT = st.text(st.characters(codec="utf-8"), max_size=400)
NASTY = st.text(st.sampled_from("ab.. /\\é\u0301\u0308漢👩\u200d\u3000\u202e\0\r\n\"%;'" + BIDI), max_size=400)
HEADER = re.compile(r"attachment; filename=\"([ !#$&-\[\]-~]*)\"; filename\*=UTF-8''([\w!#$&+.^`|~%-]+)", re.ASCII)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Prüfung.pdf", "Prüfung.pdf"),
        ("Pru\u0308fung.pdf", "Prüfung.pdf"),
        ("請求書.pdf", "請求書.pdf"),
        ("Резюме.doc", "Резюме.doc"),
        ("سيرة ذاتية.pdf", "سيرة ذاتية.pdf"),
        ("👩\u200d👩\u200d👧.png", "👩\u200d👩\u200d👧.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\x\\a.txt", "a.txt"),
        ("folder/", "folder"),
        ("folder/..", "folder"),
        ("a\r\nSet-Cookie: x=1", "aSet-Cookie: x=1"),
        ("a\0b.txt", "ab.txt"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ('a"b;c.txt', 'a"b;c.txt'),
        ("  a.txt \t", "a.txt"),
        (".gitignore", ".gitignore"),
        ("", "file"),
        ("   ", "file"),
        (".", "file"),
        ("..", "file"),
        ("../..", "file"),
        ("\u200b\u2060", "file"),
        ("\u2800.\u3164", "file"),
        (CONTROLS + BIDI, "file"),
        ("x" * 300 + ".pdf", "x" * 251 + ".pdf"),
        ("漢" * 300 + ".pdf", "漢" * 83 + ".pdf"),
        ("x" * 300, "x" * 255),
        ("a." + "x" * 300, "a." + "x" * 253),
        ("." + "x" * 300, "." + "x" * 254),
    ],
)
def test_a_name_is_kept_as_far_as_it_does_no_harm(text, kept):
    assert file_name(text) == kept


@given(TEXT | NASTY)
def test_every_name_becomes_one_that_can_be_kept(text):
    name = file_name(text)
    assert 1 <= len(name.encode()) <= MAX_FILE_NAME
    assert not set(name) & set(CONTROLS + BIDI + "/\\")
    assert name not in {".", ".."}
    assert unicodedata.is_normalized("NFC", name)
    assert file_name(name) == name


@given(st.text(st.sampled_from("aé漢👧 "), min_size=1, max_size=400), st.sampled_from([".pdf", ".tar", ".jpeg"]))
def test_a_long_name_keeps_its_extension(stem, extension):
    assert file_name(f"x{stem}{extension}").endswith(extension)


@given(TEXT | NASTY)
def test_a_header_carries_every_name(text):
    name = file_name(text)
    found = HEADER.fullmatch(content_disposition("attachment", name))
    assert found is not None
    assert unquote(found[2], errors="strict") == name


def test_a_client_that_reads_ascii_only_gets_a_name_to_read():
    assert content_disposition("inline", "Müller 漢.pdf") == (
        "inline; filename=\"Muller _.pdf\"; filename*=UTF-8''M%C3%BCller%20%E6%BC%A2.pdf"
    )
    assert content_disposition("inline", 'a"b\\c%d.txt').startswith('inline; filename="a_b_c_d.txt";')


@pytest.mark.parametrize(
    ("name", "kind", "shown"),
    [
        ("IMG_1.HEIC", "image/jpeg", "IMG_1.jpg"),
        ("IMG_1.JPEG", "image/jpeg", "IMG_1.JPEG"),
        ("photo.jpg", "image/jpeg", "photo.jpg"),
        ("photo", "image/png", "photo.png"),
        (".heic", "image/jpeg", ".heic.jpg"),
        ("a. " + "b" * 40, "image/jpeg", "a. " + "b" * 40 + ".jpg"),
        ("x" * 255, "image/jpeg", "x" * 251 + ".jpg"),
        ("a.mov", "video/mp4", "a.mp4"),
        ("a.xyz", "image/x-unheard-of", "a.xyz"),
    ],
)
def test_a_copy_of_another_type_has_its_extension(name, kind, shown):
    assert named_as(name, kind) == shown


@pytest.mark.parametrize(
    ("declared", "kept"),
    [
        ("image/png", "image/png"),
        ("Image/PNG", "image/png"),
        ("text/plain; charset=utf-8", "text/plain"),
        ("application/vnd.oasis.opendocument.text", "application/vnd.oasis.opendocument.text"),
        ("image/svg+xml", "image/svg+xml"),
        ("", UNKNOWN_TYPE),
        ("png", UNKNOWN_TYPE),
        ("image/png\r\nx: y", UNKNOWN_TYPE),
        ("image/p\0ng", UNKNOWN_TYPE),
        ("текст/plain", UNKNOWN_TYPE),
        ("a/" + "b" * MAX_MEDIA_TYPE, UNKNOWN_TYPE),
    ],
)
def test_a_declared_type_is_a_media_type(declared, kept):
    assert media_type(declared) == kept
