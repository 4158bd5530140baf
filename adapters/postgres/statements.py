"""SQL statements, in ``sql/*.sql``, each under ``-- name: …``; editors colour them, ``grep`` finds them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import LiteralString, cast

from adapters.postgres.rows import MESSAGE_COLUMNS

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load(name: str) -> Mapping[str, LiteralString]:
    """Return the statements of ``sql/<name>.sql`` by their names.

    ``{message_columns}`` stands for the columns of a Message, of a table aliased ``m``.
    """
    text = (Path(__file__).parent / "sql" / f"{name}.sql").read_text(encoding="utf-8")
    text = text.replace("{message_columns}", MESSAGE_COLUMNS)
    _, *parts = _NAME.split(text)
    return {key: cast("LiteralString", body.strip()) for key, body in zip(parts[::2], parts[1::2], strict=True)}
