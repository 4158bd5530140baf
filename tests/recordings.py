"""Recordings of two tenths of a second, made by the libraries that phones' files are read with."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
from PIL import Image, ImageFilter

WIDTH, HEIGHT = 96, 64
PICTURE = Image.linear_gradient("L").resize((WIDTH, HEIGHT)).convert("RGB").filter(ImageFilter.GaussianBlur(2))
_RATE = 48_000


def recording(kind: str, video: str | None, audio: str | None, **metadata: str) -> bytes:
    """Return a file of this container and these codecs, with the metadata in every place that it has."""
    out = io.BytesIO()
    with av.open(out, "w", format=kind) as container:
        container.metadata.update(metadata)
        shown = container.add_stream(video, 25) if video is not None else None
        heard = container.add_stream(audio, _RATE) if audio is not None else None
        if shown is not None:
            shown.width, shown.height, shown.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            shown.metadata.update(metadata)
        if heard is not None:
            heard.layout = "mono"
            heard.metadata.update(metadata)
        for stream, frames in ((shown, _pictures), (heard, _silence)):
            if stream is not None:
                for frame in (*frames(stream), None):
                    for packet in stream.encode(frame):
                        container.mux(packet)
    return out.getvalue()


def _pictures(_: Any) -> Iterator[Any]:
    for number in range(5):
        frame = av.VideoFrame.from_image(PICTURE.rotate(number))
        frame.pts, frame.time_base = number, Fraction(1, 25)
        yield frame


def _silence(stream: Any) -> Iterator[Any]:
    samples = stream.codec_context.frame_size or 1024
    for number in range(8):
        frame = av.AudioFrame(stream.codec_context.format.name, "mono", samples)
        frame.sample_rate, frame.pts, frame.time_base = _RATE, number * samples, Fraction(1, _RATE)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        yield frame
