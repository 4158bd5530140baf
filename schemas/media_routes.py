"""The HTTP calls about files: uploads by tus 1.0, downloads, and URLs that need no token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from schemas import answers, calls
from schemas.fields import MAX_UPLOAD
from schemas.operations import LOCATION, Header, Operation, Reply

TUS = "application/offset+octet-stream"
BINARY = "application/octet-stream"
_VERSION = Header("Tus-Resumable", Literal["1.0.0"], "the version of tus", required=True)
_SPOKEN = (
    Header("Tus-Version", str, "versions of tus", required=True),
    Header("Tus-Extension", str, "extensions of tus", required=True),
    Header("Tus-Max-Size", int, "the most bytes of a file", required=True),
)
_OFFSET = Header("Upload-Offset", int, "bytes that have arrived", required=True)
_LENGTH = Header("Upload-Length", int, "bytes of the whole file", required=True)
_NONE_MATCH = Header("If-None-Match", str, "the `ETag` of a copy that one has")
_CONDITIONS = (
    Header("If-Match", str, "the `ETag` that the file must have"),
    Header("Range", str, "one range of bytes; several bring the whole file"),
    Header("If-Range", str, "the `ETag` of what one has of the file: another version comes whole"),
    _NONE_MATCH,
)
_TAG = Header("ETag", str, "names these bytes", required=True)
_FILE = (
    _TAG,
    Header("Accept-Ranges", Literal["bytes"], "ranges may be asked for", required=True),
    Header(
        "Content-Disposition", str, "`inline` for pictures, audio and video, else `attachment`; the name", required=True
    ),
    Header("Content-Length", int, "bytes of this answer", required=True),
)
_UNCHANGED = Reply("the copy that one has is current", headers=(_TAG,))
_READING = (403, 404, 409, 412, 416, 422)


def _downloads(*content: str) -> Mapping[int, Reply]:
    """Return the answers of a call that reads a file."""
    span = Header("Content-Range", str, "`bytes FIRST-LAST/SIZE`", required=True)
    return {
        200: Reply("the file", content=content, headers=_FILE),
        206: Reply("the range", content=content, headers=(*_FILE, span)),
        304: _UNCHANGED,
    }


MEDIA: tuple[Operation, ...] = (
    Operation(
        id="describeUploads",
        method="OPTIONS",
        path="/media",
        summary="Tell which parts of tus are spoken here.",
        tag="media",
        replies={204: Reply("versions and limits in headers", headers=_SPOKEN)},
        access="none",
        raw=True,
    ),
    Operation(
        id="createUpload",
        method="POST",
        path="/media",
        summary="Begin an upload by tus 1.0.",
        tag="media",
        content=TUS,
        headers=(
            _VERSION,
            Header("Upload-Length", int, f"the size of the file, at most {MAX_UPLOAD} bytes", required=True),
            Header("Upload-Metadata", str, "`filename` and `filetype`, each with its value in Base64"),
        ),
        replies={
            201: Reply("begun; the media id is the last part of `Location`", headers=(_VERSION, LOCATION)),
        },
        problems=(400, 412, 413, 507),
        raw=True,
        rate="uploads",
    ),
    # Before GET, which would take HEAD: with the version of tus it tells how far an upload has come.
    Operation(
        id="getUpload",
        method="HEAD",
        path="/media/{id}",
        summary="Tell how many bytes of an upload have arrived; without Tus-Resumable, what GET would answer.",
        tag="media",
        headers=(Header("Tus-Resumable", Literal["1.0.0"], "the version of tus"), _NONE_MATCH),
        replies={
            204: Reply("the offset in a header", headers=(_VERSION, _OFFSET, _LENGTH)),
            200: Reply("the file", headers=_FILE),
            304: _UNCHANGED,
        },
        problems=(403, 404, 409, 412, 507),
        query=calls.MediaQuery,
        raw=True,
    ),
    Operation(
        id="continueUpload",
        method="PATCH",
        path="/media/{id}",
        summary="Send the next bytes of an upload.",
        tag="media",
        content=TUS,
        headers=(_VERSION, _OFFSET),
        replies={204: Reply("taken", headers=(_VERSION, _OFFSET))},
        problems=(400, 404, 408, 409, 412, 413, 415, 507),
        raw=True,
    ),
    Operation(
        id="endUpload",
        method="DELETE",
        path="/media/{id}",
        summary="Give up an upload that is under way.",
        tag="media",
        headers=(_VERSION,),
        replies={204: Reply("deleted", headers=(_VERSION,))},
        problems=(404, 409, 412),
        raw=True,
    ),
    Operation(
        id="describeUpload",
        method="OPTIONS",
        path="/media/{id}",
        summary="Tell which parts of tus are spoken here.",
        tag="media",
        replies={204: Reply("versions and limits in headers", headers=_SPOKEN)},
        access="none",
        raw=True,
    ),
    Operation(
        id="getMedia",
        method="GET",
        path="/media/{id}",
        summary="Download a file, or a range of it; a picture, audio or video comes without its metadata.",
        tag="media",
        query=calls.MediaQuery,
        headers=_CONDITIONS,
        replies=_downloads(BINARY, "image/*", "audio/*", "video/*"),
        problems=_READING,
    ),
    Operation(
        id="getThumbnail",
        method="GET",
        path="/media/{id}/thumbnail",
        summary="Download the thumbnail of a picture or video, at most 320 pixels wide and high.",
        tag="media",
        headers=_CONDITIONS,
        replies=_downloads("image/webp"),
        problems=_READING,
    ),
    Operation(
        id="signMediaUrl",
        method="POST",
        path="/media/{id}/url",
        summary="Get a URL that reads a file without a token for some minutes, for pages that show it.",
        tag="media",
        query=calls.MediaUrlQuery,
        replies={201: Reply("the URL", answers.MediaUrl)},
        problems=(403, 404, 409, 422),
    ),
    Operation(
        id="getSignedMedia",
        method="GET",
        path="/media/{id}/signed",
        summary="Download a file, or a range of it, by a signed URL.",
        tag="media",
        query=calls.SignedQuery,
        headers=_CONDITIONS,
        replies=_downloads(BINARY, "image/*", "audio/*", "video/*"),
        problems=_READING,
        access="signature",
    ),
)
