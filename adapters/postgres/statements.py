"""SQL statements, in ``sql/*.sql``, each under ``-- name: …``; editors colour them, ``grep`` finds them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import LiteralString, cast

from adapters.postgres.rows import MEDIA_COLUMNS, MESSAGE_COLUMNS

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load(name: str) -> Mapping[str, LiteralString]:
    """Return the statements of ``sql/<name>.sql`` by their names.

    ``{message_columns}`` stands for the columns of a Message, of a table aliased ``m``; ``{media_columns}`` for those
    of a Media, of ``media`` as ``m`` and ``media_looks`` as ``l``.
    """
    text = (Path(__file__).parent / "sql" / f"{name}.sql").read_text(encoding="utf-8")
    for mark, columns in (("{message_columns}", MESSAGE_COLUMNS), ("{media_columns}", MEDIA_COLUMNS)):
        text = text.replace(mark, columns)
    _, *parts = _NAME.split(text)
    return {key: cast("LiteralString", body.strip()) for key, body in zip(parts[::2], parts[1::2], strict=True)}
