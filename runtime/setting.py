"""Fields of settings, as every group of them is made of."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import Field, SecretStr, WrapValidator

from runtime.variables import secret_of

T = TypeVar("T")
Count: TypeAlias = Annotated[int, Field(ge=0)]
Rate: TypeAlias = Annotated[float, Field(ge=0)]
Positive: TypeAlias = Annotated[float, Field(gt=0)]


class FileSecret(SecretStr):
    """Secret in a file, which is read at each use: a new one holds from the next connection on.

    While the file cannot be read, or is empty, as when it is being replaced, the last secret stays.
    """

    def __init__(self, file: Path) -> None:
        """Read the file. Raises OSError, UnicodeDecodeError."""
        super().__init__(secret_of(file))
        self.file = file

    def get_secret_value(self) -> str:
        """Return the secret as the file has it now."""
        with suppress(OSError, UnicodeDecodeError):
            self._secret_value = secret_of(self.file) or self._secret_value
        return self._secret_value


def _keep_file(given: Any, to_secret: Any) -> SecretStr:
    secret: SecretStr = given if isinstance(given, FileSecret) else to_secret(given)
    return secret


Secret: TypeAlias = Annotated[SecretStr, WrapValidator(_keep_file)]
"""A secret NAME, which may also be given as NAME_FILE. Ask it for its value at each connection, not once."""


def setting(default: T, description: str, unit: str = "") -> T:
    """Return a field with what docs/settings.md shows of it."""
    field: T = Field(default, description=description, json_schema_extra={"unit": unit})
    return field
