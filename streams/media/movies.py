"""Video and audio: a copy without metadata, by copying the streams into a new container. Runs in the sandbox.

Only this file knows PyAV, which is imported when it is needed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from streams.media.ends import check_wav, flac_frame, mpeg_audio_frame
from streams.media.strip import NoCopy, strip_jpeg

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from PIL.Image import Image

Report: TypeAlias = Callable[[Mapping[str, object]], None]

CONTAINERS: Mapping[str, tuple[str, str]] = {
    "video/mp4": ("mp4", "video/mp4"),
    "video/quicktime": ("mov", "video/quicktime"),
    "video/3gpp": ("mp4", "video/mp4"),
    "audio/mp4": ("mp4", "audio/mp4"),
    "video/webm": ("webm", "video/webm"),
    "video/x-matroska": ("matroska", "video/x-matroska"),
    "video/ogg": ("ogg", "video/ogg"),
    "audio/ogg": ("ogg", "audio/ogg"),
    "audio/mpeg": ("mp3", "audio/mpeg"),
    "audio/flac": ("flac", "audio/flac"),
    "audio/wav": ("wav", "audio/wav"),
    "audio/aac": ("adts", "audio/aac"),
    "audio/aiff": ("aiff", "audio/aiff"),
    "audio/amr": ("amr", "audio/amr"),
    "video/x-msvideo": ("avi", "video/x-msvideo"),
    "video/mp2t": ("mpegts", "video/mp2t"),
}
"""Kind → format of the new container, and its media type."""
_OPTIONS: Mapping[str, Mapping[str, str]] = {
    "mp4": {"movflags": "+faststart", "write_tmcd": "0"},
    "mov": {"movflags": "+faststart", "write_tmcd": "0"},
    "mp3": {"id3v2_version": "0", "write_id3v1": "0"},
    "wav": {"write_bext": "0"},
}
_USER_DATA: Mapping[str, str] = {"h264": "6", "hevc": "39-40", "av1": "5"}
"""Codec → units of user data (NAL units of supplemental enhancement information, OBUs of metadata), where cameras put
positions and encoders their options."""
_PARAMETER_SETS = (32, 33, 34)
"""NAL units of H.265 that a decoder needs before the first picture."""
_USER_DATA_OF_MPEG = re.compile(rb"\x00\x00\x01\xb2.*?(?=\x00\x00\x01|\Z)", re.DOTALL)
"""The section of user data in MPEG-1, MPEG-2 and MPEG-4 part 2: its start code, up to the next one."""
_CODED: Mapping[str, Callable[[bytes], bytes]] = {
    **dict.fromkeys(("mpeg1video", "mpeg2video", "mpeg4"), partial(_USER_DATA_OF_MPEG.sub, b"")),
    "mjpeg": strip_jpeg,
}
"""Codec → function that takes user data out of a picture of it."""
_VIDEO = {*_USER_DATA, *_CODED, "vp8", "vp9", "h263", "theora"}
"""Codecs of which it is known what else than the picture they may hold. Of others no copy is made."""
_XIPH = ("vorbis", "theora")
_TECHNICAL = {
    *("major_brand", "minor_version", "compatible_brands", "encoder", "language", "handler_name", "vendor_id"),
    *("DURATION", "duration", "service_name", "service_provider"),
}
"""Metadata that a muxer writes by itself."""
_TURNED = (90, 270)


def load(_: str) -> None:
    """Load the libraries; this takes half a second."""
    import av  # noqa: F401


def convert(folder: Path, kind: str, preview: Callable[[Image, Path], Mapping[str, object]], report: Report) -> None:
    """Write ``clean``, and ``thumbnail`` of a video; report each step as it is done. Raises NoCopy, MemoryError."""
    import av

    container, media_type = CONTAINERS[kind]
    try:
        _remux(folder / "original", folder / "clean", container)
        _blank_user_data(folder / "clean")
        with av.open(str(folder / "clean")) as copy:
            _check_bare(copy)
            made: dict[str, object] = {"mediaType": media_type, "durationMs": _duration_ms(copy)}
            video = copy.streams.video[0] if copy.streams.video else None
            if video is not None:
                made |= {"width": video.width, "height": video.height}
                report(made)
                with suppress(av.FFmpegError, OSError, ValueError, MemoryError):  # it has a copy all the same
                    made |= _poster(copy, folder, preview)
            report(made)
    except (av.FFmpegError, OSError, ValueError, IndexError) as exc:
        raise NoCopy("the recording is damaged, or of a kind that cannot be copied without its metadata") from exc


def _remux(source: Path, target: Path, container: str) -> None:
    import av

    if container == "wav":
        check_wav(source.read_bytes())
    options = {"fflags": "+bitexact", **_OPTIONS.get(container, {})}
    last = b""
    with av.open(str(source)) as read, av.open(str(target), "w", format=container, options=options) as written:
        kept = [stream for stream in (*read.streams.video, *read.streams.audio) if not _is_cover(stream)]
        if not kept:
            raise NoCopy("the file has neither picture nor sound")
        copies = {stream.index: _Copy(stream, written) for stream in kept}
        for packet in read.demux(kept):
            if packet.size:  # the last packet of a stream is empty
                if container == "flac":
                    last = bytes(packet)
                written.mux(list(copies[packet.stream_index].packets(packet)))
        for copy in copies.values():
            written.mux(list(copy.packets(None)))
    if last:
        os.truncate(target, target.stat().st_size - len(last) + len(flac_frame(last)))


def _is_cover(stream: Any) -> bool:
    import av

    return bool(stream.disposition & av.stream.Disposition.attached_pic)


class _Copy:
    """A stream of the new container. ``packets`` are those of the old one, without user data."""

    def __init__(self, stream: Any, written: OutputContainer) -> None:
        import av

        codec = stream.codec_context.codec.canonical_name
        if stream.type == "video" and codec not in _VIDEO:
            raise NoCopy("no copy without metadata can be made of video of this codec")
        if codec in _XIPH and written.format.name != "ogg":
            raise NoCopy("the comments of its sound cannot be taken out")
        # Opaque, since the decoder of AV1 has no encoder of its name.
        self.stream = written.add_stream_from_template(stream, opaque=True if codec == "av1" else None)
        self.stream.metadata.clear()
        self.strip = mpeg_audio_frame if written.format.name == "mp3" else _CODED.get(codec)
        if self.strip is not None:
            extra = stream.codec_context.extradata
            self.stream.codec_context.extradata = self.strip(extra) if extra and codec != "mjpeg" else None
        units = _USER_DATA.get(codec)
        self.filter = (
            av.BitStreamFilterContext(f"filter_units=remove_types={units}", stream, self.stream) if units else None
        )

    def packets(self, packet: Packet[Any] | None) -> Iterator[Packet[Any]]:
        found = self.filter.filter(packet) if self.filter is not None else [packet] if packet is not None else []
        for each in found:
            whole = each if self.strip is None else _replaced(each, self.strip(bytes(each)))
            if whole.size:  # else there was nothing but tags in it
                whole.stream = self.stream
                yield whole


def _blank_user_data(file: Path) -> None:
    """Overwrite user data among the parameters of H.265 streams, which no filter reaches, by zeros.

    Raises NoCopy, IndexError. Source of the layout: ISO/IEC 14496-15 §8.3.3.1.
    """
    import av

    with av.open(str(file)) as copy:
        contexts = [stream.codec_context for stream in copy.streams.video if stream.codec_context.name == "hevc"]
        parameters = [context.extradata for context in contexts if context.extradata]
    content = file.read_bytes()
    for extra in parameters:
        if extra[0] == 1:  # else the filter has been here
            content = content.replace(extra, _without_user_data(extra))
    file.write_bytes(content)


def _without_user_data(extra: bytes) -> bytes:
    made, at = bytearray(extra), 23
    for _ in range(extra[22]):
        kind, count = extra[at] & 0x3F, int.from_bytes(extra[at + 1 : at + 3], "big")
        at += 3
        for _ in range(count):
            size = int.from_bytes(extra[at : at + 2], "big")
            if kind not in _PARAMETER_SETS:
                made[at + 4 : at + 2 + size] = bytes(max(0, size - 2))
            at += 2 + size
    if len(made) != len(extra):
        raise NoCopy("the parameters of the video are damaged")
    return bytes(made)


def _replaced(packet: Packet[Any], coded: bytes) -> Packet[Any]:
    """Return a packet like this one with other bytes."""
    import av

    made: Packet[Any] = av.Packet(coded)
    made.pts, made.dts, made.duration, made.time_base = packet.pts, packet.dts, packet.duration, packet.time_base
    made.is_keyframe = packet.is_keyframe
    return made


def _check_bare(copy: InputContainer) -> None:
    """Raise NoCopy when anything but picture and sound is left."""
    left = [copy.metadata, *(stream.metadata for stream in copy.streams)]
    names = {name for metadata in left for name in metadata} - _TECHNICAL
    others = [stream for stream in copy.streams if stream.type not in ("video", "audio")]
    if names or others or copy.chapters():
        raise NoCopy("metadata is left in the copy")


def _duration_ms(copy: InputContainer) -> int | None:
    return max(0, copy.duration // 1000) if copy.duration is not None else None


def _poster(
    copy: InputContainer, folder: Path, preview: Callable[[Image, Path], Mapping[str, object]]
) -> Mapping[str, object]:
    """Return the fields of the first picture, which is shown upright."""
    frame: Any = next(copy.decode(video=0), None)
    if frame is None:  # the stream has no picture that can be decoded
        return {}
    upright = frame.to_image().rotate(frame.rotation, expand=True)
    size = (frame.height, frame.width) if frame.rotation % 360 in _TURNED else (frame.width, frame.height)
    return {"width": size[0], "height": size[1], **preview(upright, folder)}
