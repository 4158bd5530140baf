"""``python -m schemas.export [--check]``: JSON Schema, OpenAPI and AsyncAPI from the types, into ``schemas/json``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct

from schemas.answers import Problem
from schemas.asyncapi import asyncapi
from schemas.commands import COMMANDS
from schemas.control import ANSWERS, REQUESTS
from schemas.events import EVENTS
from schemas.frames import FRAMES
from schemas.json_schema import Schema, document
from schemas.openapi import openapi
from schemas.routes import OPERATIONS

FOLDER = Path(__file__).with_name("json")


def documents() -> Mapping[str, Schema]:
    """Return every document by its path below ``schemas/json``."""
    calls = {kind for operation in OPERATIONS for kind in (operation.body, operation.query) if kind}
    answers = {reply.body for operation in OPERATIONS for reply in operation.replies.values() if reply.body}
    return {
        "openapi.json": openapi(),
        "asyncapi.json": asyncapi(),
        **{
            f"events/{kind.TOPIC}.v{kind.VERSION}.json": document(
                kind, f"urn:millrace:event:{kind.TOPIC}.v{kind.VERSION}", written=True
            )
            for kind in EVENTS
        },
        **_of("call", calls, written=False),
        **_of("answer", {*answers, Problem}, written=True),
        **_of("command", COMMANDS, written=False),
        **_of("frame", FRAMES, written=True),
        **_of("control-request", REQUESTS, written=False),
        **_of("control-answer", ANSWERS, written=True),
    }


def write() -> None:
    """Write all documents, and remove files that stand for none."""
    wanted = _texts()
    for name in _present().keys() - wanted.keys():
        (FOLDER / name).unlink()
    for name, text in wanted.items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def drift() -> list[str]:
    """Return the names of files that are missing, left over, or not what the types say."""
    present, wanted = _present(), _texts()
    return sorted(name for name in present.keys() | wanted.keys() if present.get(name) != wanted.get(name))


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code."""
    if "--check" not in arguments:
        write()
        return 0
    names = drift()
    if names:
        sys.stderr.write(f"schemas/json must follow the types: run python -m schemas.export ({', '.join(names)})\n")
    return 1 if names else 0


def _of(group: str, kinds: Iterable[type[Struct]], *, written: bool) -> dict[str, Schema]:
    return {
        f"{group}s/{kind.__name__}.json": document(kind, f"urn:millrace:{group}:{kind.__name__}", written=written)
        for kind in sorted(kinds, key=lambda kind: kind.__name__)
    }


def _texts() -> dict[str, str]:
    return {name: json.dumps(made, indent=2, ensure_ascii=False) + "\n" for name, made in documents().items()}


def _present() -> dict[str, str]:
    return {str(path.relative_to(FOLDER)): path.read_text(encoding="utf-8") for path in sorted(FOLDER.rglob("*.json"))}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
