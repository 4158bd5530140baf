"""Roles on a real server: what a login of each role can do to the database, and what it cannot."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from adapters.postgres.migrate import MigrationError, ensure_database, migrate
from adapters.postgres.pool import open_pool
from adapters.postgres.roles import REPLICATION, ROLES, Login, apply_logins, apply_roles, role_name
from adapters.postgres.tickets import PostgresTickets
from domain.errors import Unavailable
from domain.identity import Identity
from schemas.ids import new_id
from stack.running import RunningStack
from stack.servers.postgres_files import binaries

ROOT = Path(__file__).parents[2]
LoginAs = Callable[[str], str]


def rows(dsn: str, statement: str, *values: object) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn, autocommit=True) as conn:
        cursor = conn.execute(statement, values)  # type: ignore[arg-type]  # statements of this file only
        return cursor.fetchall() if cursor.description else []


def denied(dsn: str, statement: str) -> bool:
    """Return whether the login has no right for this; False when it may."""
    try:
        rows(dsn, statement)
    except psycopg.errors.InsufficientPrivilege:
        return True
    return False


def forget(dsn: str, *names: str) -> None:
    for name in names:
        if rows(dsn, "SELECT 1 FROM pg_roles WHERE rolname = %s", name):
            rows(dsn, f'DROP OWNED BY "{name}"')
            rows(dsn, f'DROP ROLE "{name}"')


@pytest.fixture(scope="module")
def database(pg_dsn: str) -> Iterator[str]:
    """A database whose roles are made; they are gone afterwards."""
    assert apply_roles(pg_dsn) is None
    yield pg_dsn
    forget(pg_dsn, *role_names(pg_dsn))


def role_names(dsn: str) -> list[str]:
    return [role_name(name_of(dsn), role) for role in ROLES]


def name_of(dsn: str) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(dsn)["dbname"])


@pytest.fixture(scope="module")
def login(database: str) -> Iterator[LoginAs]:
    """Return the connection string of a login with the role."""
    password, names = secrets.token_hex(8), {role: f"login_{secrets.token_hex(4)}" for role in ROLES}
    apply_logins(database, {name: Login(role, password) for role, name in names.items()})
    yield lambda role: make_conninfo(database, user=names[role], password=password)
    forget(database, *names.values())


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "statement",
    [
        "COPY (SELECT 1) TO PROGRAM 'cat'",
        "COPY messages FROM '/etc/hostname'",
        "CREATE TABLE mine (id int)",
        "CREATE TEMPORARY TABLE mine (id int)",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "DROP TABLE messages",
        "TRUNCATE messages",
        "ALTER TABLE messages ADD COLUMN mine int",
        "CREATE ROLE mine",
        "CREATE DATABASE mine",
        "SELECT * FROM _yoyo_migration",
        "DELETE FROM messages",
        "DELETE FROM changes",
        "DELETE FROM conversations",
        "UPDATE messages SET content = ''",
        "UPDATE changes SET seq = 0",
    ],
)
def test_no_role_reaches_the_server_or_rewrites_history(login: LoginAs, role: str, statement: str):
    assert denied(login(role), statement)


TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"


def open_to(dsn: str, *rights: str) -> set[object]:
    """Return the tables on which the login has one of the rights, if only for a column."""
    of = {right: "table" if right == "DELETE" else "any_column" for right in rights}
    checks = " OR ".join(f"has_{where}_privilege(oid, '{right}')" for right, where in of.items())
    return {name for (name,) in rows(dsn, f"{TABLES} AND ({checks})")}


def test_a_gateway_only_reads_and_an_audit_deletes_what_operators_records_have_outlived(login: LoginAs):
    assert open_to(login("gateway"), "INSERT", "UPDATE", "DELETE") == {"revocations"}
    assert denied(login("gateway"), "UPDATE revocations SET ends = now()")
    assert denied(login("gateway"), "DELETE FROM revocations")
    assert not denied(login("gateway"), "UPDATE revocations SET closed = closed")
    assert open_to(login("audit"), "INSERT", "UPDATE", "DELETE") == set()
    records = {"operator_actions", "audit_heals", "dead_letters_closed", "skipped_records", "revocations"}
    assert open_to(login("operator"), "DELETE") & records == set()


def test_an_audit_deletes_no_trace_of_an_operator_and_no_revocation_before_its_time(database: str, login: LoginAs):
    rows(
        database,
        """WITH trail AS (
               INSERT INTO operator_actions (operator, command, scope, at)
               SELECT 'o', 'c', '{}', now() - age FROM unnest(ARRAY['29 days', '31 days']::interval[]) AS age)
           INSERT INTO revocations (user_id, ends)
           SELECT 'u', now() + age FROM unnest(ARRAY['1 hour', '-1 hour']::interval[]) AS age RETURNING 1""",
    )
    for statement, left in (
        ("SELECT deleted FROM millrace_prune_operator_actions('0', NULL, 100)", "operator_actions"),
        ("SELECT deleted FROM millrace_prune_revocations(NULL, 100)", "revocations"),
    ):
        assert rows(login("audit"), statement) == [(1,)]
        assert rows(database, f"SELECT count(*) FROM {left}") == [(1,)]
        assert [role for role in ROLES if not denied(login(role), statement)] == ["audit"]


def test_only_an_ingest_stores_messages_and_members(login: LoginAs):
    for table in ("messages", "members", "conversations", "invitations", "tickets"):
        assert [role for role in ROLES if table in open_to(login(role), "INSERT")] == ["ingest"], table


def test_a_stage_adds_entries_by_the_function_that_gives_seqs_and_in_no_other_way(login: LoginAs):
    assert not {"changes", "outbox", "epoch_starts"} & open_to(login("streams"), "INSERT", "UPDATE", "DELETE")
    assert "outbox" not in open_to(login("streams"), "SELECT")
    assert denied(login("streams"), "SELECT millrace_accept(now(), '{}', '[]')")


def test_only_an_ingest_and_an_operator_own_the_outbox(login: LoginAs):
    assert [role for role in ROLES if "outbox" in open_to(login(role), "UPDATE")] == ["ingest", "operator"]
    assert denied(login("operator"), "DELETE FROM outbox")


async def test_a_gateway_redeems_a_ticket_that_it_was_shown_and_sees_no_other(login: LoginAs):
    gateway, now = login("gateway"), time.time()
    alice = Identity(new_id(), now + 600, new_id(), float(int(now)))
    async with open_pool(login("ingest"), size=1) as issuing, open_pool(gateway, size=1) as redeeming:
        ticket = await PostgresTickets(issuing).issue(alice, None)
        assert denied(gateway, "SELECT * FROM tickets")
        assert denied(gateway, "SELECT ticket_hash FROM tickets")
        assert denied(gateway, "DELETE FROM tickets")
        with pytest.raises(Unavailable, match="denies this login a right"):
            await PostgresTickets(redeeming).issue(alice, None)
        with pytest.raises(Unavailable, match="denies this login a right"):
            await PostgresTickets(issuing).redeem(ticket.text, None)
        assert await PostgresTickets(redeeming).redeem(ticket.text, None) == alice
        assert await PostgresTickets(redeeming).redeem(ticket.text, None) is None


def test_functions_of_the_owner_trust_no_schema_of_their_caller(database: str):
    """A caller cannot put a table of his own in place of one of ours: names were looked up when the functions were
    made, or are looked up where only the owner may create something."""
    found = rows(
        database,
        """SELECT proname, proconfig, prosqlbody IS NOT NULL, has_function_privilege('public', oid, 'EXECUTE')
           FROM pg_proc WHERE prosecdef AND proname LIKE 'millrace%%'""",
    )
    assert len(found) == 9
    for _, config, is_bound, is_public in found:
        places = "pg_catalog, pg_temp" if is_bound else "pg_catalog, public, pg_temp"
        assert (f"search_path={places}" in config, is_public) == (True, False)


def test_secrets_of_idempotency_are_no_part_of_what_a_gateway_reads(login: LoginAs):
    assert denied(login("gateway"), "SELECT body_hash FROM messages")
    assert denied(login("gateway"), "SELECT client_message_id FROM messages")
    assert denied(login("gateway"), "SELECT request_hash FROM conversations")
    assert denied(login("gateway"), "SELECT * FROM media")
    assert denied(login("gateway"), "SELECT * FROM operator_actions")


def acl(dsn: str) -> list[tuple[object, ...]]:
    return rows(
        dsn,
        """SELECT c.relname, a.attname, c.relacl::text, a.attacl::text
           FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
           WHERE c.relnamespace = 'public'::regnamespace ORDER BY 1, 2""",
    )


def test_each_setup_brings_the_grants_to_their_declaration(database: str):
    before, gateway = acl(database), role_name(name_of(database), "gateway")
    rows(database, f'GRANT ALL ON messages TO "{gateway}"')
    rows(database, f'GRANT SELECT (ticket_hash) ON tickets TO "{gateway}"')
    rows(database, f'REVOKE ALL ON members FROM "{gateway}"')
    rows(database, f'REVOKE ALL ON FUNCTION millrace_redeem_ticket FROM "{gateway}"')
    assert acl(database) != before
    for _ in range(2):
        assert apply_roles(database) is None
        assert acl(database) == before
    rights = rows(database, "SELECT has_function_privilege(%s, 'millrace_redeem_ticket(bytea)', 'EXECUTE')", gateway)
    assert rights == [(True,)]


def test_a_role_of_one_database_has_nothing_in_another(stack: RunningStack, login: LoginAs):
    name = f"test_{secrets.token_hex(4)}"
    other = make_conninfo(stack.pg_dsn, dbname=name)
    ensure_database(other)
    try:
        migrate(other)
        assert apply_roles(other) is None
        assert not denied(login("audit"), "SELECT * FROM messages")
        assert denied(make_conninfo(login("audit"), dbname=name), "SELECT * FROM messages")
    finally:
        forget(other, *role_names(other))
        rows(stack.pg_dsn, f'DROP DATABASE "{name}" WITH (FORCE)')


def test_an_owner_that_may_not_create_roles_works_and_says_so(stack: RunningStack):
    """Roles that somebody else has made get their rights from such an owner."""
    name = f"test_{secrets.token_hex(4)}"
    with psycopg.connect(stack.pg_dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'secret'").format(sql.Identifier(name)))
        admin.execute(sql.SQL("CREATE DATABASE {0} OWNER {0}").format(sql.Identifier(name)))
    owner = make_conninfo(stack.pg_dsn, user=name, password="secret", dbname=name)
    try:
        migrate(owner)
        trouble = apply_roles(owner) or ""
        assert trouble.startswith(f"{name} may not create the roles {name}_audit, ")
        assert "docs/deploying.md" in trouble
        assert rows(owner, "SELECT count(*) FROM messages") == [(0,)]
        for role in ROLES:
            rows(stack.pg_dsn, f'CREATE ROLE "{name}_{role}" NOLOGIN')
        assert apply_roles(owner) is None
        rights = "SELECT has_table_privilege(%s, 'messages', 'INSERT')"
        assert [role for role in ROLES if rows(owner, rights, f"{name}_{role}") == [(True,)]] == ["ingest"]
    finally:
        forget(make_conninfo(stack.pg_dsn, dbname=name), *(f"{name}_{role}" for role in ROLES))
        rows(stack.pg_dsn, f'DROP DATABASE "{name}" WITH (FORCE)')
        rows(stack.pg_dsn, f'DROP ROLE "{name}"')


def test_logins_get_the_password_that_is_given_last(database: str):
    name = f"login_{secrets.token_hex(4)}"
    try:
        apply_logins(database, {name: Login("audit", "first")})
        apply_logins(database, {name: Login("audit", "second")})
        assert rows(make_conninfo(database, user=name, password="second"), "SELECT current_user") == [(name,)]
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            rows(make_conninfo(database, user=name, password="first"), "SELECT 1")
        [(kept,)] = rows(database, "SELECT rolpassword FROM pg_authid WHERE rolname = %s", name)
        assert str(kept).startswith("SCRAM-SHA-256$")
    finally:
        forget(database, name)


PASSWORDS = {f"{role.upper()}_PASSWORD": f"it's {role}" for role in ROLES}


def psql(dsn: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(binaries() / "psql"), "-X", "-q", "-f", str(ROOT / "deploy" / "logins.sql"), dsn]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


def test_the_script_for_deployments_makes_a_login_for_each_role(database: str):
    names = {role: f"{role_name(name_of(database), role)}_login" for role in ROLES}
    try:
        partly = psql(database, INGEST_PASSWORD="alone")
        assert (partly.returncode, "ERROR" in partly.stderr) == (3, True)
        assert rows(database, "SELECT 1 FROM pg_roles WHERE rolname = ANY(%s)", list(names.values())) == []
        for passwords in ({**PASSWORDS, "AUDIT_PASSWORD": "before"}, PASSWORDS):
            assert psql(database, **passwords).stderr == ""
        for role, name in names.items():
            mine = make_conninfo(database, user=name, password=f"it's {role}")
            assert rows(mine, "SELECT pg_has_role(%s, 'USAGE')", role_name(name_of(database), role)) == [(True,)]
            assert denied(mine, "SELECT * FROM _yoyo_log")
    finally:
        forget(database, *names.values())


def test_a_replica_may_copy_and_read_no_table(database: str):
    name = f"login_{secrets.token_hex(4)}"
    try:
        apply_logins(database, {name: Login(REPLICATION, "secret")})
        assert denied(make_conninfo(database, user=name, password="secret"), "SELECT * FROM messages")
        found = rows(database, "SELECT rolreplication, rolsuper FROM pg_roles WHERE rolname = %s", name)
        assert found == [(True, False)]
    finally:
        forget(database, name)


def test_names_that_postgresql_would_cut_are_refused():
    assert role_name("d" * 54, "operator") == "d" * 54 + "_operator"
    with pytest.raises(MigrationError, match="at most 54 bytes"):
        role_name("d" * 55, "operator")
