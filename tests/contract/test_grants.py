"""The grants of each role: enough for every statement of its processes, and none that no statement needs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from adapters.postgres import statements
from adapters.postgres.roles import ROLES, apply_roles, role_name

ALL = ("*",)
USES: dict[str, dict[str, tuple[str, ...]]] = {
    "ingest": {
        "change_log": ("lock_or_wait", "lock_or_pass", "append", "insert_outbox", "owe_instead"),
        "conversations": ALL,
        "counts": ("minutes",),
        "history": (
            *("memberships", "members", "participants", "heads", "shared", "changes", "place_of"),
            "small_conversations",
        ),
        "idempotency": ALL,
        "intake": ALL,
        "invitations": ALL,
        "media": (
            *("share_content", "add", "usage", "get", "may_read", "begin_collection", "due", "collect", "unused"),
            *("own_content", "is_used", "forget_look", "forget_unused"),
        ),
        "messages": ("newest_first", "oldest_first", "one", "receipts"),
        "notifications": ("page", "unseen", "number", "mark_seen", "close_before"),
        "outbox": (
            *("claim", "unpublished", "messages", "drawn", "writers", "raise_floors", "mark", "state", "ends"),
            *("first_note", "note_loss"),
            *("note_ends", "replication", "one_at_a_time", "republish", "oldest", "noted", "lacking", "epoch"),
        ),
        "receipts": ALL,
        "replica": ALL,
        "retention": ("outbox", "outbox_floors", "log_ends", "tickets", "idempotency_keys"),
        "revocations": ("all", "since", "time"),
        "search": ("scope", "read", "look_up", "similar"),
        "tickets": ("issue",),
    },
    "streams": {
        "change_log": ("lock_or_wait", "append"),
        "counts": ("lock_cursors", "cursors", "add", "correct", "advance", "totals"),
        "epochs": ALL,
        "media": ("share_content", "get", "save_probe", "place", "insert_place", "told"),
        "messages": ("find",),
        "notifications": (
            *("member_counts", "audiences", "lock_collapsed", "add", "stored", "told", "unpublished"),
            *("note_published", "forget_published"),
        ),
        "parking": ("parked", "park", "unpark"),
        "retention": ("notifications", "analytics_minutes", "device_receipts"),
        "search": (
            *("stored", "put", "forget", "learn"),
            *("begin_rebuild", "hold_rebuild", "older", "note_rebuild"),
        ),
        "skips": ("of",),
        "statuses": ALL,
        "undecided": ALL,
    },
    "gateway": {
        "facts": ALL,
        "history": ALL,
        "replica": ALL,
        "revocations": ("all", "since", "time", "note_closed"),
        "skips": ("of",),
        "tickets": ("redeem",),
    },
    "audit": {
        "audit": (
            *("clock", "spans", "rows", "seqs", "holes", "stray_changes", "untold", "repeated_keys", "receipts"),
            *("watermarks", "notifications", "media", "tallies", "positions", "republished", "owed", "strays"),
            "uninspected",
            *("known_messages", "known_notifications", "known_media", "lead"),
        ),
        "parking": ("closed",),
        "replica": ALL,
        "retention": ("revocations", "dead_letters_closed", "skipped_records", "audit_heals", "operator_actions"),
    },
    "operator": {
        "audit": ALL,
        "change_log": ("owe_again",),
        "operator_actions": ALL,
        "outbox": ("one_at_a_time", "republish", "owed"),
        "parking": ("all", "closed", "close"),
        "revocations": ("revoke", "closed"),
        "search": ("stored", "put", "forget", "learn"),
        "skips": ("add",),
    },
}
"""The statements of each role, by their files. What needs no right (SET, LISTEN, locks) may be missing."""
OWNERS = {"replication", "requirements", "roles", "grants", "truth", "recovery"}
"""Files of the owner: the servers of a stack, the roles themselves, recovery, and the judge of ``millrace verify``."""
NO_RIGHTS = re.compile(r"^(SET|LISTEN|SELECT (set_config|pg_notify))", re.MULTILINE)
Right = tuple[str, str, str | None]
"""What, on which table, sequence or function, on which column."""


def of(role: str) -> dict[str, str]:
    """Return the statements of a role by their names."""
    found = {}
    for file, names in USES[role].items():
        texts = statements.load(file)
        for name in texts if names == ALL else names:
            if not NO_RIGHTS.search(texts[name]):
                found[f"{file}.{name}"] = texts[name]
    return found


@pytest.fixture(scope="module")
def conn(pg_dsn: str) -> Iterator[psycopg.Connection]:
    """The owner's session on a database whose roles are made; they are gone afterwards."""
    assert apply_roles(pg_dsn) is None
    with psycopg.connect(pg_dsn, autocommit=True, cursor_factory=psycopg.ClientCursor) as opened:
        opened.execute(
            "INSERT INTO outbox (conversation_id, seq, shard, topic, value, event_id, published_at)"
            " VALUES (gen_random_uuid(), 1, 1, 't', '', 'e', now())"
        )
        yield opened
        for role in ROLES:
            name = sql.Identifier(role_name(opened.info.dbname, role))
            opened.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(name))


def denied(conn: psycopg.Connection, role: str, statement: str) -> str | None:
    """Return why the role may not run the statement.

    PostgreSQL checks rights when it explains one, too; those on a sequence only when a value is drawn from it.
    """
    explain = "EXPLAIN ANALYZE " if "nextval(" in statement else "EXPLAIN "
    parameters = dict.fromkeys(re.findall(r"%\((\w+)\)s", statement))
    try:
        with conn.transaction(force_rollback=True):
            conn.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role_name(conn.info.dbname, role))))
            conn.execute(explain + statement, parameters)
    except psycopg.errors.InsufficientPrivilege as exc:
        return str(exc.diag.message_primary)
    return None


def rights(conn: psycopg.Connection, role: str) -> list[Right]:
    """Return the rights of a role on tables, columns and functions, as the catalog has them."""
    return conn.execute(
        """
        SELECT right_.privilege_type,
               format('%%s %%s', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass), NULL
        FROM pg_class c, aclexplode(c.relacl) AS right_ WHERE right_.grantee = %(role)s::regrole
        UNION ALL
        SELECT right_.privilege_type, format('TABLE %%s', a.attrelid::regclass), a.attname
        FROM pg_attribute a, aclexplode(a.attacl) AS right_ WHERE right_.grantee = %(role)s::regrole
        UNION ALL
        SELECT right_.privilege_type, format('FUNCTION %%s', p.oid::regprocedure), NULL
        FROM pg_proc p, aclexplode(p.proacl) AS right_ WHERE right_.grantee = %(role)s::regrole
        ORDER BY 2, 1, 3
        """,
        {"role": f'"{role_name(conn.info.dbname, role)}"'},
    ).fetchall()


def without(right: Right, role: sql.Identifier) -> sql.Composed:
    kind, thing, column = right
    of_column = sql.SQL("({})").format(sql.Identifier(column)) if column else sql.SQL("")
    return sql.SQL("REVOKE {}{} ON {} FROM {}").format(sql.SQL(kind), of_column, sql.SQL(thing), role)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_run_every_statement_of_its_processes(conn: psycopg.Connection, role: str):
    refused = {name: why for name, text in of(role).items() if (why := denied(conn, role, text))}
    assert refused == {}


@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_no_right_that_no_statement_needs(conn: psycopg.Connection, role: str):
    """Each right is taken away in turn: a statement must fail then."""
    texts, name = of(role), sql.Identifier(role_name(conn.info.dbname, role))
    found = rights(conn, role)
    assert len(found) > 10
    idle = []
    for right in found:
        with conn.transaction(force_rollback=True):
            conn.execute(without(right, name))
            thing = right[1].split()[1].partition("(")[0]
            about = [text for text in texts.values() if thing in text]
            if not any(denied(conn, role, text) for text in about):
                idle.append(right)
    assert idle == []


def test_every_statement_has_a_role():
    """A statement that is new must be given to a role here, and its rights to that role in grants.sql."""
    files = {path.stem for path in (Path(statements.__file__).parent / "sql").glob("*.sql")} - OWNERS
    used = {name for role in ROLES for name in of(role)}
    known = {
        f"{file}.{name}" for file in files for name, text in statements.load(file).items() if not NO_RIGHTS.search(text)
    }
    assert known - used == set()
    assert used - known == set()
