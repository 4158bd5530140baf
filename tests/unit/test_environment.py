"""The environment of a process: names that nobody knows, secrets in files, and one line for what is wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from operator import attrgetter
from pathlib import Path

import pytest

from runtime.environment import is_secret, known_names, refuse_unknown, variables
from runtime.read_settings import read_settings
from runtime.setting import FileSecret
from runtime.settings import Settings
from runtime.variables import BESIDE_SETTINGS, BadSettings
from stack.composition import Plan, apps, servers
from stack.errors import OperatorError
from stack.given import GivenServer, find_given
from stack.progress import silent
from stack.servers.data_dir import DataDir
from stack.topology import single
from tests.checkout import ROOT


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without anything of ours."""
    for name in os.environ:
        if name.startswith("MILLRACE_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("MILLRACE_KAFKA__SECURTY_PROTOCOL", "MILLRACE_KAFKA__SECURITY_PROTOCOL"),
        ("MILLRACE_KAFKA_SECURITY_PROTOCOL", "MILLRACE_KAFKA__SECURITY_PROTOCOL"),
        ("MILLRACE_GATEWAY__TRUSTED_PROXYS", "MILLRACE_GATEWAY__TRUSTED_PROXIES"),
        ("MILLRACE_HTTP_PORT", "MILLRACE_HTTP__PORT"),
        ("MILLRACE_PG__DNS", "MILLRACE_PG__DSN"),
        ("MILLRACE_PG__DSN_FIL", "MILLRACE_PG__DSN_FILE"),
        ("MILLRACE_KAFKA__CA_FILE_FILE", "MILLRACE_KAFKA__CA_FILE"),
        ("millrace_log_levl", "MILLRACE_LOG_LEVEL"),
        ("MILLRACE_EXEC_WRAPER", "MILLRACE_EXEC_WRAPPER"),
    ],
)
def test_a_name_that_nobody_knows_is_refused_with_the_nearest_one(monkeypatch, name: str, nearest: str):
    monkeypatch.setenv(name, "s3cret")
    with pytest.raises(BadSettings) as refused:
        read_settings()
    assert str(refused.value) == f"{name} must be the name of a setting; the nearest one is {nearest}"


@pytest.mark.parametrize(
    "environment",
    [
        {"HOME": "/root", "MILL": "x", "MILLRACES": "x"},
        dict.fromkeys(BESIDE_SETTINGS, "x"),
        {"millrace_node": "gateway-1", "MILLRACE_AUTH__SECRET_FILE": "/run/secrets/jwt"},
        {
            "MILLRACE_SERVICE_HOST": "10.0.0.1",
            "MILLRACE_PORT": "tcp://10.0.0.1:80",
            "MILLRACE_GATEWAY_SERVICE_HOST": "10.0.0.2",
            "MILLRACE_GATEWAY_SERVICE_PORT": "8081",
            "MILLRACE_GATEWAY_SERVICE_PORT_WS": "8081",
            "MILLRACE_GATEWAY_PORT": "tcp://10.0.0.2:8081",
            "MILLRACE_GATEWAY_PORT_8081_TCP": "tcp://10.0.0.2:8081",
            "MILLRACE_GATEWAY_PORT_8081_TCP_ADDR": "10.0.0.2",
        },
    ],
    ids=["of others", "beside the settings", "settings", "services of Kubernetes"],
)
def test_a_name_that_is_known_or_not_ours_is_not_refused(environment: dict[str, str]):
    refuse_unknown(environment, Settings)


def test_every_variable_that_the_code_names_is_known():
    rooms = ("adapters", "audit", "cli", "gateway", "ingest", "runtime", "stack", "streams", "verify")
    files = [file for room in rooms for file in (ROOT / room).rglob("*.py")]
    files += [ROOT / "compose.yaml", *(file for file in (ROOT / "deploy").rglob("*") if file.is_file())]
    known, named = known_names(Settings), set()
    for file in files:
        named |= set(re.findall(r"\bMILLRACE_[A-Z0-9_]*[A-Z0-9]\b(?![_{…])", file.read_text()))
    assert len(named) > 30
    groups = {name.partition("__")[0] for name in known if "__" in name}
    assert named - known - groups - {"MILLRACE_TEST"} == set()


SECRETS = [each for each in variables(Settings) if is_secret(each.field)]


def test_each_setting_that_hides_its_value_may_be_given_by_file():
    names = {each.name for each in SECRETS}
    assert {
        "MILLRACE_PG__DSN",
        "MILLRACE_REDIS__URL",
        "MILLRACE_AUTH__SECRET",
        "MILLRACE_KAFKA__SASL_PASSWORD",
    } <= names
    assert {"MILLRACE_MEDIA__SIGNING_KEY", "MILLRACE_MEDIA__S3_SECRET_ACCESS_KEY"} <= names
    for each in SECRETS:
        assert each.field.metadata, f"{each.name} must be a Secret, not a SecretStr: it keeps no file"


BESIDE = {
    "MILLRACE_KAFKA__KEY_PASSWORD": {"SECURITY_PROTOCOL": "SSL", "CERTIFICATE_FILE": "client.pem"},
    "MILLRACE_KAFKA__SASL_PASSWORD": {
        "SECURITY_PROTOCOL": "SASL_SSL",
        "SASL_MECHANISM": "SCRAM-SHA-512",
        "SASL_USER": "app",
    },
    "MILLRACE_KAFKA__OAUTH_CLIENT_SECRET": {
        "SECURITY_PROTOCOL": "SASL_SSL",
        "SASL_MECHANISM": "OAUTHBEARER",
        "OAUTH_TOKEN_URL": "https://issuer.example/",
        "OAUTH_CLIENT_ID": "app",
    },
}


@pytest.mark.parametrize("secret", SECRETS, ids=lambda each: each.name)
def test_a_secret_by_file_is_read_again_at_each_use(secret, monkeypatch, tmp_path: Path):
    file = tmp_path / "secret"
    file.write_text("first\n")
    monkeypatch.setenv(f"{secret.name}_FILE", str(file))
    for name, value in BESIDE.get(secret.name, {}).items():
        monkeypatch.setenv(f"MILLRACE_KAFKA__{name}", value)
    settings = read_settings()
    value = attrgetter(".".join(secret.path))(settings)
    assert isinstance(value, FileSecret)
    assert value.get_secret_value() == "first"
    assert "first" not in f"{value!r} {value}"
    file.write_text("second\r\n")
    assert value.get_secret_value() == "second"
    file.write_text("")  # it is being written
    assert value.get_secret_value() == "second"
    file.unlink()
    assert value.get_secret_value() == "second"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "must name a file of text that can be read"),
        (b"\xff\xfe", "must name a file of text that can be read"),
        (b"\n", "must name a file that is not empty"),
    ],
)
def test_a_file_without_a_secret_is_refused(content: bytes | None, text: str, monkeypatch, tmp_path: Path):
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("MILLRACE_PG__DSN_FILE", str(file))
    with pytest.raises(BadSettings, match=f"^MILLRACE_PG__DSN_FILE {text}: {file}$"):
        read_settings()


def test_a_secret_comes_from_one_place(monkeypatch, tmp_path: Path):
    (tmp_path / "secret").write_text("postgresql://app:s3cret@db/millrace")
    monkeypatch.setenv("MILLRACE_PG__DSN_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("MILLRACE_PG__DSN", "postgresql://other:s3cret@db/millrace")
    with pytest.raises(BadSettings, match=r"^MILLRACE_PG__DSN must be left out with MILLRACE_PG__DSN_FILE$"):
        read_settings()


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("MILLRACE_GATEWAY__MAX_SUBSCRIPTIONS", "-1", " must be greater than or equal to 0"),
        ("MILLRACE_HTTP__PORT", "s3cret", " must be a valid integer"),
        ("MILLRACE_KAFKA__SECURITY_PROTOCOL", "s3cret", " must be 'PLAINTEXT', 'SSL', 'SASL_PLAINTEXT' or 'SASL_SSL'"),
        ("MILLRACE_LIMITS__FACTORS", "s3cret", " must be USER=FACTOR,USER=FACTOR with factors from 0"),
        ("MILLRACE_DEVICES_PER_MEMBER", "0", " must be greater than or equal to 1"),
    ],
)
def test_a_value_that_cannot_be_is_named_in_one_line_without_it(name: str, value: str, text: str, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings) as refused:
        read_settings()
    assert str(refused.value) == f"{name}{text}"


@pytest.mark.parametrize("module", ["ingest", "gateway", "audit", "streams"])
def test_a_process_says_what_is_wrong_and_ends_with_78(module: str):
    argv = [sys.executable, "-m", module, *(["status"] if module == "streams" else [])]
    environment = {**os.environ, "MILLRACE_KAFKA__SASL_PASSWORD": "s3cret"}
    done = subprocess.run(argv, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60)
    [line] = done.stdout.splitlines()
    said = json.loads(line)
    assert (done.returncode, done.stderr, said["event"]) == (78, "", "settings_invalid")
    wrong = "SECURITY_PROTOCOL must be SASL_SSL or SASL_PLAINTEXT with SASL_PASSWORD; it is PLAINTEXT"
    assert said["reason"] == f"MILLRACE_KAFKA__{wrong}"


def test_a_command_refuses_a_misspelt_name():
    argv = [sys.executable, "-m", "cli.main", "topics", "list"]
    environment = {**os.environ, "MILLRACE_KAFKA__BOTSTRAP": "127.0.0.1:9"}
    done = subprocess.run(argv, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    text = "MILLRACE_KAFKA__BOTSTRAP must be the name of a setting; the nearest one is MILLRACE_KAFKA__BOOTSTRAP"
    assert done.stderr == f"millrace: {text}\n"


async def test_access_to_a_broker_of_the_stack_itself_is_refused(monkeypatch):
    monkeypatch.setenv("MILLRACE_KAFKA__SECURITY_PROTOCOL", "SSL")
    with pytest.raises(OperatorError, match=r"^MILLRACE_KAFKA__SECURITY_PROTOCOL must come with MILLRACE_KAFKA__BOOT"):
        await find_given()


def test_a_process_of_a_stack_reads_a_secret_from_the_file_that_is_given(monkeypatch, tmp_path: Path):
    (tmp_path / "dsn").write_text("postgresql://app:s3cret@db.example/millrace\n")
    (tmp_path / "jwt").write_text("j" * 32)
    monkeypatch.setenv("MILLRACE_PG__DSN_FILE", str(tmp_path / "dsn"))
    monkeypatch.setenv("MILLRACE_AUTH__SECRET_FILE", str(tmp_path / "jwt"))
    folder = DataDir(tmp_path / "data")
    folder.prepare()
    plan = Plan(folder, single(), {name: 21_000 + n for n, name in enumerate(single().ports)})
    addresses = servers(plan, (GivenServer("postgres", "db.example", 5432),), silent()).app_addresses
    assert addresses.pg == "postgresql://app:s3cret@db.example/millrace"
    for child in apps(plan, addresses):
        assert "MILLRACE_PG__DSN" not in child.env
        assert child.env["MILLRACE_PG__DSN_FILE"] == str(tmp_path / "dsn")
        assert "MILLRACE_AUTH__SECRET_FILE" not in child.env  # the stack has a secret of its own
        refuse_unknown(child.env, Settings)
