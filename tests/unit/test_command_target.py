"""Which stack a command works on: --data, the environment, the folder here, in this order and never mixed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.command import find_broker, find_folder, find_target, refuse_environment
from cli.target import Server, Target
from stack.errors import OperatorError
from stack.running import STATE
from stack.servers.data_dir import DataDir

PG, KAFKA, REDIS, HTTP, WS, SECRET = Server
ENVIRONMENT = {
    PG: "postgresql://millrace:pg-s3cret@db.example:5433/prod",
    KAFKA: "kafka-1.example:9092,kafka-2.example:9092",
    REDIS: "redis://:redis-s3cret@cache.example:6380/0",
    HTTP: "https://gate:http-s3cret@chat.example/",
    WS: "wss://chat.example/ws",
    SECRET: "auth-s3cret, which is longer than 32 bytes",
}


def test_a_command_goes_round_a_pooler(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(PG.value, "postgresql://u@pooler.example:6432/chat")
    monkeypatch.setenv("MILLRACE_PG__DIRECT_DSN", "postgresql://u@[2001:db8::1]/chat")
    target = find_target(None, PG)
    assert target.pg_dsn == target.owner_dsn == "postgresql://u@[2001:db8::1]/chat"
    assert str(target) == "environment (postgres [2001:db8::1]:5432/chat)"


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A current folder without a stack, and an environment that names none."""
    for server in Server:
        monkeypatch.delenv(server.value, raising=False)
    for name in ("MILLRACE_DATA_DIR", "MILLRACE_AUTH__ALGORITHM", "MILLRACE_PG__DIRECT_DSN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def name(monkeypatch: pytest.MonkeyPatch, *servers: Server) -> None:
    for server in servers:
        monkeypatch.setenv(server.value, ENVIRONMENT[server])


@contextmanager
def stack_in(path: Path, host: str) -> Iterator[Path]:
    """A data folder that is held as by a supervisor, with a state that puts all servers on this host."""
    folder = DataDir(path)
    folder.prepare()
    state = {
        "kind": "single",
        "ready": True,
        "urls": {"http": f"http://{host}:8080", "ws": f"ws://{host}:8081/ws"},
        "servers": {"pg": f"postgresql://{host}/dev", "kafka": f"{host}:9092", "redis": f"redis://{host}:6379/0"},
        "kafka": {"bootstrap": f"{host}:9092"},
        "logins": {},
        "auth": {"signsItsOwn": True, "issuer": "millrace", "audience": "millrace"},
        "processes": [],
        "leftOut": [],
    }
    folder.write(STATE, state)
    with folder.locked():
        yield path


def addresses(target: Target) -> set[str]:
    return {address for server, address in target.addresses.items() if server is not SECRET}


def test_data_comes_before_the_environment_and_the_folder_here(monkeypatch, here):
    name(monkeypatch, *Server)
    with stack_in(here / ".millrace", "here"), stack_in(here / "other", "other") as other:
        target = find_target(other, PG, KAFKA, REDIS, HTTP, WS)
    assert addresses(target) == {
        "postgresql://other/dev",
        "other:9092",
        "redis://other:6379/0",
        "http://other:8080",
        "ws://other:8081/ws",
    }


def test_the_environment_comes_before_the_folder_here(monkeypatch, here):
    name(monkeypatch, PG, REDIS)
    with stack_in(here / ".millrace", "here"):
        assert addresses(find_target(None, PG, REDIS)) == {ENVIRONMENT[PG], ENVIRONMENT[REDIS]}
    with stack_in(here / "elsewhere", "elsewhere") as elsewhere:
        monkeypatch.setenv("MILLRACE_DATA_DIR", str(elsewhere))
        assert addresses(find_target(None, PG, REDIS)) == {ENVIRONMENT[PG], ENVIRONMENT[REDIS]}


def test_the_folder_here_comes_last_and_may_be_named_by_a_variable(monkeypatch, here):
    with stack_in(here / ".millrace", "here"), stack_in(here / "elsewhere", "elsewhere") as elsewhere:
        assert addresses(find_target(None, KAFKA)) == {"here:9092"}
        monkeypatch.setenv("MILLRACE_DATA_DIR", str(elsewhere))
        assert addresses(find_target(None, KAFKA)) == {"elsewhere:9092"}


@pytest.mark.parametrize("server", [PG, KAFKA, REDIS, HTTP, WS])
def test_a_server_is_never_taken_from_another_stack(monkeypatch, here, server: Server):
    name(monkeypatch, server)
    others = [other for other in (PG, KAFKA, REDIS, HTTP, WS) if other is not server]
    with stack_in(here / ".millrace", "here"), pytest.raises(OperatorError) as caught:
        find_target(None, *others)
    assert str(caught.value).startswith(", ".join(other.value for other in others) + " must be set too")
    assert f"the environment names a stack by {server.value};" in str(caught.value)


def test_what_a_command_does_not_need_may_be_missing(monkeypatch, here):
    name(monkeypatch, KAFKA)
    with stack_in(here / ".millrace", "here"):
        assert addresses(find_target(None, KAFKA)) == {ENVIRONMENT[KAFKA]}


def test_an_address_that_was_not_asked_for_is_not_there(here):
    with stack_in(here / ".millrace", "here"):
        target = find_target(None, KAFKA)
    with pytest.raises(KeyError):
        _ = target.pg_dsn


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_variable_does_not_mean_the_folder_here(monkeypatch, here, value: str):
    monkeypatch.setenv(PG.value, value)
    with stack_in(here / ".millrace", "here"), pytest.raises(OperatorError, match=f"{PG.value} must not be empty"):
        find_target(None, PG, REDIS)


def test_variables_that_name_the_stack_here_are_no_second_stack(monkeypatch, here):
    with stack_in(here / ".millrace", "here"):
        monkeypatch.setenv(PG.value, "postgresql://here/dev")
        assert addresses(find_target(None, PG, KAFKA)) == {"postgresql://here/dev", "here:9092"}
        assert find_folder(None).path == here / ".millrace"
        monkeypatch.setenv(KAFKA.value, "there:9092")
        assert addresses(find_target(None, PG, KAFKA)) == {"postgresql://here/dev", "there:9092"}
        with pytest.raises(OperatorError, match="REDIS__URL must be set too"):
            find_target(None, PG, REDIS)


def test_without_any_stack_the_error_says_all_three_ways(here):
    with pytest.raises(OperatorError) as caught:
        find_target(None, PG, REDIS)
    for part in ("nothing runs in", "make up", "--data", f"or set {PG.value}, {REDIS.value}"):
        assert part in str(caught.value)


def test_the_stack_is_named_on_standard_error_without_secrets(monkeypatch, here, capsys):
    name(monkeypatch, *Server)
    find_target(None, *Server)
    out, line = capsys.readouterr()
    assert out == ""
    assert line == (
        "stack: environment (postgres db.example:5433/prod, kafka kafka-1.example:9092,kafka-2.example:9092,"
        " redis cache.example:6380, http https://chat.example/, websocket wss://chat.example/ws,"
        " secret of MILLRACE_AUTH__SECRET)\n"
    )
    with stack_in(here / "dev", "dev") as dev:
        target = find_target(dev, *Server)
        assert capsys.readouterr() == ("", "stack: ./dev\n")
    assert "s3cret" not in repr(target)
    assert target.addresses[SECRET] not in repr(target)


@pytest.mark.parametrize(
    ("server", "value"),
    [
        (PG, "s3cret@db"),
        (KAFKA, "kafka://s3cret@kafka:9092"),
        (REDIS, "http://:s3cret@redis"),
        (HTTP, "ws://s3cret@chat.example"),
        (WS, "s3cret@chat.example"),
    ],
)
def test_a_wrong_address_names_its_variable_and_not_its_value(monkeypatch, server: Server, value: str):
    monkeypatch.setenv(server.value, value)
    with pytest.raises(OperatorError) as caught:
        find_target(None, server)
    assert str(caught.value).startswith(f"{server.value} must be of the form ")
    assert "s3cret" not in str(caught.value)


def test_a_secret_alone_signs_a_token_and_chooses_no_stack_for_others(monkeypatch, here):
    name(monkeypatch, SECRET)
    assert find_target(None, SECRET).token("alice", ttl_s=60).count(".") == 2
    with stack_in(here / ".millrace", "here"):
        target = find_target(None, HTTP, SECRET)
        assert addresses(target) == {"http://here:8080"}
        assert target.addresses[SECRET] == DataDir(here / ".millrace").secret("jwt")


def test_tokens_of_an_issuer_are_not_signed_here(monkeypatch):
    name(monkeypatch, HTTP, SECRET)
    monkeypatch.setenv("MILLRACE_AUTH__ALGORITHM", "RS256")
    with pytest.raises(OperatorError, match="MILLRACE_AUTH__JWKS_URL"):
        find_target(None, HTTP, SECRET)


def test_the_environment_decides_nothing_about_the_tokens_of_a_named_folder(monkeypatch, here):
    monkeypatch.setenv("MILLRACE_AUTH__ALGORITHM", "RS256")
    with stack_in(here / "dev", "dev") as dev:
        assert find_target(dev, HTTP, SECRET).token("alice", ttl_s=60).count(".") == 2
        state = json.loads((dev / STATE).read_text())
        DataDir(dev).write(STATE, {**state, "auth": {**state["auth"], "signsItsOwn": False}})
        monkeypatch.delenv("MILLRACE_AUTH__ALGORITHM")
        with pytest.raises(OperatorError, match="MILLRACE_AUTH__JWKS_URL"):
            find_target(dev, HTTP, SECRET).token("alice", ttl_s=60)


def test_a_broker_by_option_comes_first_and_stands_beside_no_folder(monkeypatch, here):
    name(monkeypatch, KAFKA)
    assert find_broker(None, "127.0.0.1:9").kafka.bootstrap == "127.0.0.1:9"
    assert find_broker(None, None).kafka.bootstrap == ENVIRONMENT[KAFKA]
    with pytest.raises(OperatorError, match="--data and --bootstrap"):
        find_broker(here, "127.0.0.1:9")


def test_commands_about_a_folder_do_not_guess_it_while_the_environment_names_servers(monkeypatch, here):
    assert find_folder(None).path == here / ".millrace"
    name(monkeypatch, REDIS)
    with stack_in(here / ".millrace", "here"):
        with pytest.raises(OperatorError, match=r"on this machine, .*MILLRACE_REDIS__URL.* --data ./.millrace"):
            find_folder(None)
        assert find_folder(here / ".millrace").path == here / ".millrace"
    monkeypatch.setenv("MILLRACE_DATA_DIR", str(here / "mine"))
    assert find_folder(None).path == here / "mine"


def test_what_must_not_touch_given_servers_refuses_to_run_beside_them(monkeypatch):
    refuse_environment("it breaks things", "or stop")
    name(monkeypatch, SECRET)
    refuse_environment("it breaks things", "or stop")
    name(monkeypatch, PG, KAFKA)
    with pytest.raises(
        OperatorError, match="it breaks things: unset MILLRACE_PG__DSN, MILLRACE_KAFKA__BOOTSTRAP, or s"
    ):
        refuse_environment("it breaks things", "or stop")
