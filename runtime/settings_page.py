"""The page docs/settings.md: ``python -m runtime.settings_page`` prints it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from runtime.environment import group_of, is_secret
from runtime.settings import Settings
from runtime.variables import DELIMITER, PREFIX


class Documented(NamedTuple):
    """A setting as docs/settings.md shows it. ``accepts`` is empty where any value of the default's type will do."""

    variable: str
    default: str
    unit: str
    accepts: str
    description: str


def documented(model: type[BaseModel], prefix: str = PREFIX) -> Iterator[Documented]:
    """Yield the settings that stand in the model itself, in its order; its groups are passed over."""
    for name, field in model.model_fields.items():
        if group_of(field) is None:
            extra = field.json_schema_extra
            unit = str(extra["unit"]) if isinstance(extra, dict) else ""
            by_file = f" Or `{name.upper()}_FILE`." if is_secret(field) else ""
            text = f"{field.description or ''}{by_file}"
            yield Documented(f"{prefix}{name.upper()}", _shown(field), unit, _accepted(field), text)


def markdown() -> str:
    """Return docs/settings.md."""
    parts = [_HEAD, _table(Settings)]
    for name, field in Settings.model_fields.items():
        group = group_of(field)
        if group is not None:
            prefix = f"{PREFIX}{name.upper()}{DELIMITER}"
            about = field.description or (group.__doc__ or "").strip()
            parts.append(f"## {name}\n\n{about}\n\n{_table(group, prefix)}")
    return "\n".join(parts)


_HEAD = """# Settings

Every process reads its settings once, at its start, from environment variables. This page is generated from
`runtime/settings.py` by `make settings`; a test fails when the two differ. An empty default is the empty string.
The programs of a stack on one machine take some more variables: see [operating.md](operating.md).

A name that begins with `MILLRACE_` and is not here is refused, with the nearest one. A secret `NAME` can be given as
`NAME_FILE`, a file that holds it (a Docker secret, a credential of systemd).
"""


def _shown(field: FieldInfo) -> str:
    value = field.default
    text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    return text.removesuffix(".0") if isinstance(value, float) else text


def _accepted(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return ", ".join(str(value) for value in get_args(field.annotation) if value)
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    bounds = [(signs[name], getattr(limit, name)) for limit in field.metadata for name in signs if hasattr(limit, name)]
    return ", ".join(f"{sign} {bound}" for sign, bound in bounds)


def _table(model: type[BaseModel], prefix: str = PREFIX) -> str:
    lines = ["| variable | default | unit | accepts | meaning |", "|---|---|---|---|---|"]
    for each in documented(model, prefix):
        default = f"`{each.default}`" if each.default else ""
        lines.append(f"| `{each.variable}` | {default} | {each.unit} | {each.accepts} | {each.description} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(markdown())
