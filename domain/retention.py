"""Bounds of all that grows: each table of the database has a rule by which rows are deleted, or a bound here.

Who writes a table deletes what has outlived its time in it. Operators' records are the exception: commands write them,
and the audit deletes them, so that no login of an operator can remove its own traces.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

HOUR_S, DAY_S = 3_600.0, 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Seconds for which rows are kept; 0 keeps them for good."""

    published_events_s: float = 48 * HOUR_S
    seen_notifications_s: float = 30 * DAY_S
    unseen_notifications_s: float = 90 * DAY_S
    analytics_minutes_s: float = 90 * DAY_S
    silent_devices_s: float = 90 * DAY_S
    operator_actions_s: float = 730 * DAY_S


BY_DEFAULT = Kept()


@dataclass(frozen=True, slots=True)
class Rule:
    """Deletion of the rows of a table that have outlived their time, a few at a time.

    ``ages`` names the fields of Kept that it depends on; one that is 0 turns it off. Without any, the rows themselves
    or the statement say when they end.
    """

    table: str
    by: str
    """Process that does it: ``ingest``, ``audit``, or a stage."""
    ages: tuple[str, ...] = ()
    every_s: float = 60.0
    """Seconds from the end of one round through the table to the next round."""


RULES: Sequence[Rule] = (
    Rule("outbox", "ingest", ("published_events_s",)),
    Rule("outbox_floors", "ingest", every_s=600),
    Rule("log_ends", "ingest", every_s=600),
    Rule("tickets", "ingest"),
    Rule("idempotency_keys", "ingest"),
    Rule("notifications", "notification", ("seen_notifications_s", "unseen_notifications_s"), every_s=3_600),
    Rule("analytics_minutes", "analytics", ("analytics_minutes_s",)),
    Rule("device_receipts", "status", ("silent_devices_s",), every_s=3_600),
    Rule("revocations", "audit"),
    Rule("dead_letters_closed", "audit"),
    Rule("skipped_records", "audit"),
    Rule("audit_heals", "audit"),
    Rule("operator_actions", "audit", ("operator_actions_s",)),
)

_FOR_GOOD = "kept for good: it is what users have written"
BOUNDS: Mapping[str, str] = {
    "conversations": _FOR_GOOD,
    "messages": _FOR_GOOD,
    "changes": _FOR_GOOD,
    "attachments": "a row for each file of a message",
    "media_places": "a row for each file of a message",
    "search_documents": "a row for each message that has words",
    "search_vocabulary": "each word of 4 to 32 letters in messages once",
    "members": "a row for each member of a conversation",
    "former_members": "a row for each user who was a member of a conversation, and is none",
    "receipts": "a row for each member of a conversation",
    "invitations": "open ones, of which a user may have MILLRACE_POLICY__OPEN_INVITATIONS",
    "declined_inviters": "a row for each pair of users",
    "inboxes": "a row for each user",
    "media": "uploads that no message names are deleted after MILLRACE_MEDIA__UNATTACHED_AFTER_S",
    "media_looks": "a row for each content that an upload has",
    "media_unused": "contents whose files are deleted next",
    "media_usage": "a row for each user",
    "notices_published": "8 days; a new row removes up to a hundred old ones",
    "notifications_due": "messages of the last seconds, until it is decided who is notified of them",
    "stage_cursors": "a row for each conversation",
    "stage_epochs": "a row for each stage and partition",
    "parked": "conversations with open dead letters",
    "search_rebuilds": "a row for each version of the analysis",
    "log_state": "one row",
    "store_epochs": "a row for each start of the server",
    "epoch_starts": "a row for each conversation and start of the server after which something was appended to it",
}
"""Tables of which nothing is deleted by age, and what bounds them."""


@dataclass(frozen=True, slots=True)
class Step:
    """Rows that were deleted, and where the next step of the round begins; None at the end of the round."""

    rows: int
    after: str | None


Prune: TypeAlias = Callable[[Rule, str | None, int], Awaitable[Step]]
"""Delete at most so many rows, from ``after`` on. Raises Unavailable."""


def rules_of(process: str, kept: Kept) -> Sequence[Rule]:
    """Return the rules that a process carries out, without those that its settings turn off."""
    return [rule for rule in RULES if rule.by == process and all(getattr(kept, age) > 0 for age in rule.ages)]
