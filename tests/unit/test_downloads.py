"""Rules of downloads: who gets which bytes, as what, and what a signed URL is worth."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from adapters.auth.keys import BadKeys
from adapters.auth.signed_urls import open_signed_urls
from domain.downloads import Grant, SignedUrls, shown_as, stored_part
from domain.errors import Forbidden, MediaNotReady, MediaUnavailable, NotFound
from domain.media import CLEAN, ORIGINAL, THUMBNAIL, UNKNOWN_TYPE, Media
from runtime.media_settings import Media as MediaSettings

MEDIA = Media(media_id="m", owner_id="alice", file_name="a.jpg", declared_type="image/jpeg", size=9, sha256="0" * 64)
CLEANED = replace(MEDIA, served="clean", clean=True, thumbnail=True, media_type="image/jpeg")
PLAIN = replace(MEDIA, served="original", media_type="application/pdf")
REFUSED = replace(MEDIA, served="none", media_type="video/mp4", error="the video cannot be read")
KEY = b"k" * 32


@pytest.mark.parametrize(
    ("media", "user", "wanted", "part"),
    [
        (MEDIA, "alice", "file", ORIGINAL),
        (MEDIA, "alice", "original", ORIGINAL),
        (MEDIA, "bob", "file", MediaNotReady),
        (MEDIA, "bob", "original", MediaNotReady),
        (MEDIA, "alice", "thumbnail", MediaNotReady),
        (CLEANED, "alice", "file", CLEAN),
        (CLEANED, "alice", "original", ORIGINAL),
        (CLEANED, "bob", "file", CLEAN),
        (CLEANED, "bob", "original", Forbidden),
        (CLEANED, "bob", "thumbnail", THUMBNAIL),
        (PLAIN, "alice", "file", ORIGINAL),
        (PLAIN, "bob", "file", ORIGINAL),
        (PLAIN, "bob", "original", ORIGINAL),
        (PLAIN, "bob", "thumbnail", NotFound),
        (REFUSED, "alice", "file", ORIGINAL),
        (REFUSED, "bob", "file", MediaUnavailable),
        (REFUSED, "bob", "original", MediaUnavailable),
        (replace(REFUSED, thumbnail=True), "bob", "thumbnail", THUMBNAIL),
    ],
)
def test_others_never_get_the_original_of_what_may_tell_of_its_owner(media, user, wanted, part):
    if isinstance(part, str):
        assert stored_part(media, user, wanted) == part
    else:
        with pytest.raises(part):
            stored_part(media, user, wanted)


def test_a_refusal_says_why():
    with pytest.raises(MediaUnavailable, match="the video cannot be read"):
        stored_part(REFUSED, "bob", "file")


@pytest.mark.parametrize(
    ("media", "part", "shown"),
    [
        (CLEANED, CLEAN, ("image/jpeg", True)),
        (CLEANED, THUMBNAIL, ("image/webp", True)),
        (CLEANED, ORIGINAL, (UNKNOWN_TYPE, False)),  # the type is that of the copy: the original may be HEIC
        (REFUSED, ORIGINAL, ("video/mp4", True)),
        (replace(PLAIN, media_type="audio/mpeg"), ORIGINAL, ("audio/mpeg", True)),
        (PLAIN, ORIGINAL, (UNKNOWN_TYPE, False)),
        (replace(PLAIN, media_type="text/html"), ORIGINAL, (UNKNOWN_TYPE, False)),
        (replace(PLAIN, media_type="image/svg+xml"), ORIGINAL, (UNKNOWN_TYPE, False)),
        (MEDIA, ORIGINAL, (UNKNOWN_TYPE, False)),  # what its owner declares is not believed
    ],
)
def test_a_page_shows_what_cannot_run_in_it(media, part, shown):
    assert shown_as(media, part) == shown


def signer(now: float = 1000.0, key: bytes = KEY) -> SignedUrls:
    return SignedUrls(key, 300.0, lambda: now)


def test_a_signature_holds_for_its_time_only():
    grant, signature = signer().issue("m", "file", "bob")
    assert grant == Grant("m", "file", "bob", 1300)
    signer(1299.9).check(grant, signature)
    assert signer(1250).remaining_s(grant.expires_at) == 50
    with pytest.raises(Forbidden):
        signer(1300).check(grant, signature)


@pytest.mark.parametrize(
    "change", [{"media_id": "n"}, {"part": "original"}, {"user_id": "alice"}, {"expires_at": 9999}]
)
def test_a_grant_that_was_changed_has_another_signature(change):
    grant, signature = signer().issue("m", "file", "bob")
    with pytest.raises(Forbidden):
        signer().check(replace(grant, **change), signature)


@given(st.text(max_size=64))
def test_no_other_text_is_a_signature(text):
    grant, signature = signer().issue("m", "file", "bob")
    if text != signature:
        with pytest.raises(Forbidden):
            signer().check(grant, text)


def test_another_key_signs_otherwise_and_none_signs_nothing():
    grant, signature = signer().issue("m", "file", "bob")
    for key in (b"j" * 32, b""):
        with pytest.raises(Forbidden):
            signer(key=key).check(grant, signature)
    grant = Grant("m", "file", "bob", 9999)
    with pytest.raises(Forbidden):
        signer(key=b"").check(grant, signer(key=b"")._signature(grant))
    with pytest.raises(NotFound):
        signer(key=b"").issue("m", "file", "bob")


def test_the_key_is_in_no_text_of_the_signer():
    assert "kkk" not in repr(signer())


def test_the_key_comes_from_the_settings():
    assert open_signed_urls(MediaSettings()).key == b""
    given = MediaSettings(signing_key=SecretStr("s" * 32), signed_url_ttl_s=60)
    assert open_signed_urls(given) == SignedUrls(b"s" * 32, 60)


def test_a_key_that_is_not_safe_is_refused_by_its_name():
    with pytest.raises(BadKeys, match=r"MILLRACE_MEDIA__SIGNING_KEY.*at least 32 bytes") as refused:
        open_signed_urls(MediaSettings(signing_key=SecretStr("s" * 31)))
    assert "sss" not in str(refused.value)
