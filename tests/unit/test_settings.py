"""docs/settings.md says what runtime/settings.py reads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from runtime.environment import known_names
from runtime.settings import Settings
from runtime.settings_page import Documented, documented, markdown

ROOT = Path(__file__).parents[2]


TLS = {"SECURITY_PROTOCOL": "SSL"}
USER = {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "PLAIN", "SASL_USER": "app", "SASL_PASSWORD": "s3cret"}
TOKEN = {
    "SECURITY_PROTOCOL": "SASL_SSL",
    "SASL_MECHANISM": "OAUTHBEARER",
    "OAUTH_TOKEN_URL": "https://issuer.example/",
    "OAUTH_CLIENT_ID": "app",
    "OAUTH_CLIENT_SECRET": "s3cret",
}
NEEDED = {
    **dict.fromkeys(("CA_FILE", "CERTIFICATE_FILE"), TLS),
    **{name: {**TLS, "CERTIFICATE_FILE": "client.pem"} for name in ("KEY_FILE", "KEY_PASSWORD")},
    **{name: USER for name in USER if name.startswith("SASL")},
    **{name: TOKEN for name in (*TOKEN, "OAUTH_SCOPE", "OAUTH_EXTENSIONS") if name.startswith("OAUTH")},
}
"""What settings of Kafka need beside them."""


def all_documented() -> list[Documented]:
    groups = {name: field.annotation for name, field in Settings.model_fields.items()}
    nested = [
        each
        for name, model in groups.items()
        if isinstance(model, type) and issubclass(model, BaseModel)
        for each in documented(model, f"MILLRACE_{name.upper()}__")
    ]
    return [*documented(Settings), *nested]


def test_the_page_is_what_the_code_generates():
    assert (ROOT / "docs/settings.md").read_text() == markdown(), "run: make settings"


def test_each_setting_has_a_description_and_each_time_and_rate_its_unit():
    for setting in all_documented():
        assert setting.description.endswith((".", ")")), setting.variable
        if setting.variable.endswith("_S"):
            assert setting.unit == ("1/s" if "_PER_S" in setting.variable else "s"), setting.variable


@pytest.mark.parametrize("setting", all_documented(), ids=lambda setting: setting.variable)
def test_the_variable_on_the_page_is_the_one_that_is_read(setting: Documented, monkeypatch: pytest.MonkeyPatch):
    values = {"ALGORITHM": "ES256", "REVOCATION_POLL_INTERVAL_S": "7", "FACTORS": "importer=20"}
    values |= {"SECURITY_PROTOCOL": "SSL", "SASL_MECHANISM": "PLAIN", "OAUTH_TOKEN_URL": "https://issuer.example/token"}
    values |= {"OAUTH_EXTENSIONS": "logicalCluster=lkc-1"}
    values |= {"OLDER_HISTORY": "false", "COMPILED_SEND": "false", "TIMEOUT_S": "0.5"}
    value = values.get(setting.variable.rpartition("__")[2], "77")
    before = Settings().model_dump()
    for name, needed in NEEDED.get(setting.variable.removeprefix("MILLRACE_KAFKA__"), {}).items():
        monkeypatch.setenv(f"MILLRACE_KAFKA__{name}", needed)
    monkeypatch.setenv(setting.variable, value)
    assert Settings().model_dump() != before


def test_a_value_out_of_bounds_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MILLRACE_GATEWAY__MAX_SUBSCRIPTIONS", "-1")
    with pytest.raises(ValidationError, match="max_subscriptions"):
        Settings()


def test_every_variable_in_texts_and_deployment_files_is_read_by_the_code():
    known = known_names(Settings)
    groups = {variable.partition("__")[0] for variable in known if "__" in variable}
    files = [*ROOT.glob("docs/*.md"), *ROOT.glob("*.md"), ROOT / "compose.yaml", *ROOT.glob("deploy/*")]
    texts = {file: file.read_text() for file in files if file.is_file()}
    named = {
        (file.name, name) for file, text in texts.items() for name in re.findall(r"MILLRACE_[A-Z]+__[A-Z0-9_]+", text)
    }
    assert len(named) > 20
    assert not [(file, name) for file, name in named if name not in known and name.partition("__")[0] in groups]
