"""Reading of the settings at the start of a process, with one clear line for what is wrong."""

from __future__ import annotations

import os
import sys

import structlog
from pydantic import ValidationError

from runtime.environment import group_of, refuse_unknown
from runtime.logs import configure
from runtime.settings import Settings
from runtime.variables import DELIMITER, PREFIX, BadSettings

_log = structlog.get_logger()

EX_CONFIG = 78


def read_settings() -> Settings:
    """Return the settings of the environment. Raises BadSettings."""
    refuse_unknown(os.environ, Settings)
    try:
        return Settings()
    except ValidationError as exc:
        raise BadSettings(_explained(exc)) from None  # its text may quote a value


def process_settings() -> Settings:
    """Return the settings of this process, whose logs are set up; end it with EX_CONFIG when they cannot hold."""
    try:
        settings = read_settings()
    except BadSettings as exc:
        configure("local")
        _log.error("settings_invalid", reason=str(exc))
        sys.exit(EX_CONFIG)
    configure(settings.node, settings.log_level)
    return settings


def _explained(exc: ValidationError) -> str:
    """Return what the first error says, by the name of its variable; values stay out."""
    error = exc.errors(include_url=False, include_context=False, include_input=False)[0]
    path = [str(part) for part in error["loc"]]
    text = error["msg"].removeprefix("Value error, ").replace("Input should", "must").partition(", unable")[0]
    name = PREFIX + DELIMITER.join(path).upper()
    is_group = len(path) == 1 and group_of(Settings.model_fields[path[0]])  # its text begins with one of its settings
    return f"{name}{DELIMITER if is_group else ' '}{text}"
