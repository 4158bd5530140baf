"""Search among a million messages: members of none, 50 and 2,000 conversations, words as often as people write them."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate

from adapters.postgres.messages import PostgresMessages
from adapters.postgres.pool import Pool, connection, open_pool
from adapters.postgres.search import PostgresSearch, columns
from bench.pairs import Result, in_turns
from bench.world import World
from domain.search import Query, find
from domain.terms import is_correctable, parse
from schemas.clock import wire_time
from schemas.messages import Message

MESSAGES, CONVERSATIONS, VOCABULARY = 1_000_000, 5_000, 40_000
QUERIES = 200
_MEMBERS = {0: 50.0, 50: 50.0, 2_000: 250.0}
"""Conversations of a member → the most milliseconds that 95 of 100 searches may take."""
_BATCH = 5_000
_WORDS = 9
_PAGE = 50
_READ_MS = 0.5
"""Milliseconds of the reference on the machine for which the bars were set."""
_SEED = 7
_STATEMENT_S, _LOAD_S = 2.0, 600.0


@dataclass(frozen=True, slots=True)
class Corpus:
    """Messages of invented words, whose frequencies follow Zipf's law, in conversations of very different sizes."""

    dice: random.Random
    words: Sequence[str]
    weights: Sequence[float]
    conversations: Sequence[str]

    def said(self, count: int) -> list[str]:
        """Return so many words, drawn by their frequency."""
        return self.dice.choices(self.words, cum_weights=self.weights, k=count)

    def messages(self) -> Iterator[list[Message]]:
        """Yield all messages, in batches, oldest first."""
        sizes = list(accumulate(1 / (n + 20) ** 0.6 for n in range(len(self.conversations))))
        seqs = dict.fromkeys(self.conversations, 0)
        began = datetime.now(UTC) - timedelta(seconds=4 * MESSAGES)
        for begin in range(0, MESSAGES, _BATCH):
            rooms = self.dice.choices(self.conversations, cum_weights=sizes, k=_BATCH)
            texts = self.said(_BATCH * _WORDS)
            batch = []
            for n, room in enumerate(rooms):
                seqs[room] += 1
                at = began + timedelta(seconds=4 * (begin + n))
                batch.append(
                    Message(
                        message_id=_id(self.dice, at),
                        conversation_id=room,
                        seq=seqs[room],
                        sender_id=f"u{self.dice.randrange(3_000)}",
                        type="text",
                        content=" ".join(texts[n * _WORDS : (n + 1) * _WORDS]),
                        created_at=wire_time(at),
                    )
                )
            yield batch


def corpus() -> Corpus:
    """Return the corpus, the same each time."""
    dice = random.Random(_SEED)
    syllables = [first + vowel for first in "bdfghklmnprstvw" for vowel in "aeiou"]
    words = {"".join(dice.choices(syllables, k=dice.randint(1, 4))) for _ in range(3 * VOCABULARY)}
    shuffled = sorted(words)
    dice.shuffle(shuffled)
    return Corpus(
        dice,
        shuffled[:VOCABULARY],
        list(accumulate(1 / (rank + 2.7) for rank in range(VOCABULARY))),
        [str(uuid.UUID(int=dice.getrandbits(128), version=4)) for _ in range(CONVERSATIONS)],
    )


async def measure(world: World, pairs: int, _: float) -> list[Result]:
    """Measure the 95th percentile of a search, of one word each, for each kind of member."""
    found = corpus()
    async with open_pool(world.postgres.dsn, size=2, wait_s=30, statement_s=_LOAD_S) as pool:
        began = time.monotonic()
        await _load(pool, found)
        loaded_s = time.monotonic() - began
    queries = found.said(QUERIES)
    async with open_pool(world.postgres.dsn, size=2, wait_s=30, statement_s=_STATEMENT_S) as pool:
        return [await _result(pool, found, queries, count, pairs, loaded_s) for count in _MEMBERS]


async def _result(pool: Pool, found: Corpus, queries: Sequence[str], count: int, pairs: int, loaded_s: float) -> Result:
    search, messages = PostgresSearch(pool), PostgresMessages(pool)
    rooms = found.conversations[:QUERIES]
    hits = 0

    async def look(word: str) -> None:
        nonlocal hits
        hits += len((await find(search, f"member-{count}", Query(terms=parse(word)), limit=_PAGE)).hits)

    async def read(room: str) -> None:
        await messages.page(room, None, None, _PAGE, 0)

    async def ours() -> float:
        return await _p95_ms(look, queries)

    async def reference() -> float:
        return await _p95_ms(read, rooms)

    await ours()  # the caches are warm
    hits = 0
    taken = await in_turns(pairs, ours, reference)
    bar = _MEMBERS[count]
    worst = max(pair.ours for pair in taken)
    return Result(
        name=f"search-{count}",
        title=f"p95 of a search by a member of {count:,} of {CONVERSATIONS:,} conversations with {MESSAGES:,} messages",
        unit="ms",
        reference="a page of 50 messages of one conversation, read from the same database",
        included=(
            f"{QUERIES} searches, each of one word drawn by its frequency, one after the other, through the adapter of "
            "PostgreSQL, with the highlights; not the HTTP API"
        ),
        target=bar / _READ_MS,
        wanted="at most",
        pairs=taken,
        more={
            "bar_ms": bar,
            "worst_p95_ms": round(worst, 1),
            "bar_reached": worst <= bar,
            "hits_a_search": round(hits / (len(taken) * QUERIES), 1),
            "loaded_s": round(loaded_s),
        },
    )


async def _p95_ms(call: Callable[[str], Awaitable[None]], arguments: Sequence[str]) -> float:
    delays = []
    for argument in arguments:
        began = time.perf_counter()
        await call(argument)
        delays.append((time.perf_counter() - began) * 1000)
    return sorted(delays)[int(len(delays) * 0.95)]


async def _load(pool: Pool, found: Corpus) -> None:
    """Copy the corpus into the tables, with documents as the search stage makes them."""
    async with connection(pool) as conn, conn.cursor() as cursor:
        await conn.execute("DROP INDEX search_words")
        async with cursor.copy("COPY conversations (conversation_id, created_by) FROM STDIN") as rows:
            for room in found.conversations:
                await rows.write_row((room, "u1"))
        for batch in found.messages():
            async with cursor.copy(
                "COPY messages (message_id, conversation_id, seq, sender_id, type, content, body_hash, created_at)"
                " FROM STDIN"
            ) as rows:
                for m in batch:
                    fields = (m.message_id, m.conversation_id, m.seq, m.sender_id, m.type, m.content, b"", m.created_at)
                    await rows.write_row(fields)
            async with cursor.copy(
                "COPY search_documents (message_id, conversation_id, seq, sender_id, words, digest, created_at)"
                " FROM STDIN"
            ) as rows:
                for row in zip(*columns(batch).values(), strict=True):
                    await rows.write_row(row)
        async with cursor.copy("COPY search_vocabulary (word) FROM STDIN") as rows:
            for word in sorted(filter(is_correctable, found.words)):
                await rows.write_row((word,))
        for count in _MEMBERS:
            await conn.execute(
                "INSERT INTO members (conversation_id, user_id, role, joined_seq)"
                " SELECT unnest(%s::uuid[]), %s, 'member', 0",
                (found.dice.sample(found.conversations, count), f"member-{count}"),
            )
        await conn.execute(
            "UPDATE conversations SET last_seq = size FROM"
            " (SELECT conversation_id, max(seq) AS size FROM messages GROUP BY conversation_id) AS sizes"
            " WHERE sizes.conversation_id = conversations.conversation_id"
        )
        await conn.execute("SET maintenance_work_mem = '256MB'")
        await conn.execute(
            "CREATE INDEX search_words ON search_documents USING gin (words) WITH (gin_pending_list_limit = 512)"
        )
        await conn.execute("ANALYZE")


def _id(dice: random.Random, at: datetime) -> str:
    """Return a UUIDv7 of this time."""
    value = int(at.timestamp() * 1000) << 80 | 0x7 << 76 | dice.getrandbits(12) << 64 | 0x2 << 62 | dice.getrandbits(62)
    return str(uuid.UUID(int=value))
