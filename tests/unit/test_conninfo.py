"""Connection strings of libpq: what they name, what is added to them, and what is refused without being quoted."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from adapters.postgres.conninfo import addresses, parameters, parts_of, place
from domain.errors import Invalid


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGPORT", "PGOPTIONS", "PGSERVICE", "PGDATABASE", "PGUSER"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("dsn", "found"),
    [
        ("postgresql://u@one/x", [("one", 5432)]),
        ("postgresql://u@[::1]:7/x", [("::1", 7)]),
        ("postgresql://u@one:1,[::2]:2,three/x", [("one", 1), ("::2", 2), ("three", 5432)]),
        ("host=one,two port=7", [("one", 7), ("two", 7)]),
        ("host=one hostaddr=10.0.0.1", [("10.0.0.1", 5432)]),
        ("postgresql:///x?host=/run/postgresql&port=7", [("/run/postgresql", 7)]),
        ("dbname=x", [("127.0.0.1", 5432)]),
    ],
)
def test_servers(dsn: str, found: list[tuple[str, int]]):
    assert list(addresses(dsn)) == found


def test_a_place_has_no_password():
    assert place("postgresql://u:s3cret@one,[::1]:7/chat?sslmode=require") == "one:5432,[::1]:7/chat"


def test_a_session_has_bounds_and_keeps_what_the_string_says():
    dsn = "postgresql://u@one/x?options=-csearch_path%3Dchat%20-cstatement_timeout%3D9s&connect_timeout=3"
    made = conninfo_to_dict(make_conninfo(dsn, **{k: v for k, v in parameters(dsn).items() if k in _LIBPQ}))
    assert made["connect_timeout"] == "3"
    options = str(made["options"])
    assert "lock_timeout=2000ms" in options
    assert options.index("statement_timeout=5000ms") < options.index("-csearch_path=chat -cstatement_timeout=9s")


_LIBPQ = {"connect_timeout", "tcp_user_timeout", "keepalives_idle", "options"}


def test_a_pooler_is_asked_for_nothing_that_it_cannot_give():
    made = parameters("postgresql://u@one/x", is_pooled=True)
    assert "options" not in made
    assert made["prepare_threshold"] is None


def test_a_service_and_the_environment_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    file = tmp_path / "services"
    file.write_text("[chat]\nhost=10.9.8.7\nport=77\ndbname=x\noptions=-c search_path=chat\nsslmode=disable\n")
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    monkeypatch.setenv("PGUSER", "me")
    assert place("service=chat") == "10.9.8.7:77/x"
    assert parts_of("service=chat")["user"] == "me"
    assert parameters("service=chat")["options"].endswith("-c search_path=chat")
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=9MB")
    assert parameters("host=one")["options"].endswith("-c work_mem=9MB")


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql:/u:s3cret@host/db",
        "s3cret",
        "postgresql://u:s3cret@[::1/db",
        "host=a pasword=s3cret",
        "postgresql://u:a@s3cret@host/db",
        "postgresql://u:a@b:s3cret@host/db",
    ],
)
def test_a_string_of_the_wrong_form_is_refused_without_being_quoted(dsn: str):
    for function, error in ((place, ValueError), (addresses, ValueError), (parameters, Invalid)):
        with pytest.raises(error) as refused:
            function(dsn)  # type: ignore[operator]
        assert "s3cret" not in str(refused.value)
