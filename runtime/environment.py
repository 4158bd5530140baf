"""Environment of a process: which settings it may have, secrets in files, and names that nobody knows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from runtime.setting import FileSecret
from runtime.variables import BESIDE_SETTINGS, DELIMITER, FILE, PREFIX, BadSettings, is_ours, value_of


class Variable(NamedTuple):
    """Variable of a setting: its name, the names of the fields that lead to it, and the last of these fields."""

    name: str
    path: tuple[str, ...]
    field: FieldInfo


def group_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model of a group of settings; None for a setting."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def variables(model: type[BaseModel], prefix: str = PREFIX, path: tuple[str, ...] = ()) -> Iterator[Variable]:
    """Yield the variables of a model and of its groups."""
    for name, field in model.model_fields.items():
        group, here = group_of(field), (*path, name)
        if group is None:
            yield Variable(f"{prefix}{name.upper()}", here, field)
        else:
            yield from variables(group, f"{prefix}{name.upper()}{DELIMITER}", here)


def is_secret(field: FieldInfo) -> bool:
    """Return whether a setting is a secret, which may be given by file, too."""
    return field.annotation is SecretStr


def known_names(model: type[BaseModel]) -> frozenset[str]:
    """Return the names of all variables that may have our prefix."""
    found = list(variables(model))
    files = {f"{each.name}{FILE}" for each in found if is_secret(each.field)}
    return frozenset({each.name for each in found} | files | BESIDE_SETTINGS)


def refuse_unknown(environment: Mapping[str, str], model: type[BaseModel]) -> None:
    """Raise BadSettings for a variable with our prefix that nobody knows, and name the nearest one.

    A misspelt name would leave its setting as it is by default: TLS that was asked for would not be used.
    """
    known = known_names(model)
    strange = [name for name, value in environment.items() if is_ours(name, value) and name.upper() not in known]
    if strange:
        name = min(strange)
        [nearest] = get_close_matches(name.upper(), sorted(known), n=1, cutoff=0.0)
        raise BadSettings(f"{name} must be the name of a setting; the nearest one is {nearest}")


class SecretFiles(PydanticBaseSettingsSource):
    """Secrets whose setting NAME is given as NAME_FILE, such as a Docker secret or a credential of systemd."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return nothing: groups are read as a whole."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the secrets by group. Raises BadSettings."""
        found: dict[str, Any] = {}
        for name, path, field in variables(self.settings_cls):
            if is_secret(field) and (file := os.environ.get(f"{name}{FILE}")):
                value_of(name, os.environ)
                place = found
                for group in path[:-1]:
                    place = place.setdefault(group, {})
                place[path[-1]] = FileSecret(Path(file))
        return found
