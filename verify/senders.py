"""Sending clients. Each sends one message after the other, and repeats unknown outcomes with the same key.

They do not use the client library: they also hang up, send twice at once and reuse keys, and record every attempt."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import httpx2
import msgspec
import orjson
from millrace_client.types import MessageAccepted

from verify.history import Attempt, Room, Sending
from verify.http_answers import problem_of
from verify.workload import Send, SendMode

PATIENCE_S = 120.0
_TRY_S = 5.0
_HANG_UP_S = 0.01
_AT_ONCE = 5


@dataclass(slots=True)
class Senders:
    """Sends the messages of the rooms' workloads. ``began`` is when their clock starts."""

    client: httpx2.AsyncClient
    urls: Sequence[str]
    token: Callable[[str], str]
    began: float = field(default_factory=time.monotonic)

    async def run(self, rooms: Sequence[Room]) -> None:
        """Send every message; return when each is answered or given up."""
        async with asyncio.TaskGroup() as group:
            for room in rooms:
                by_sender: defaultdict[str, list[Send]] = defaultdict(list)
                for send in room.workload.sends:
                    by_sender[send.sender].append(send)
                for sends in by_sender.values():
                    group.create_task(self._sender(room, sends))

    async def _sender(self, room: Room, sends: Sequence[Send]) -> None:
        for send in sends:
            await asyncio.sleep(max(0.0, self.began + send.at - time.monotonic()))
            sending = Sending(send)
            room.sendings.append(sending)
            await self.send(room.conversation_id, sending)

    async def send(self, conversation_id: str, sending: Sending) -> None:
        """Send a message in its way; return when it is answered or given up."""
        send = sending.send
        if send.mode in (SendMode.IMPATIENT, SendMode.FORGETFUL):
            sending.attempts.append(await self._try(conversation_id, send, send.content, _HANG_UP_S))
            if send.mode is SendMode.FORGETFUL:
                return
        if send.mode is SendMode.PARALLEL:
            same = (self._try(conversation_id, send, send.content) for _ in range(_AT_ONCE))
            sending.attempts += await asyncio.gather(*same)
        await self._until_answered(conversation_id, sending)
        if send.mode is SendMode.MISMATCH and sending.accepted:
            sending.mismatched.append(await self._try(conversation_id, send, f"{send.content} altered"))

    async def _until_answered(self, conversation_id: str, sending: Sending) -> None:
        give_up, wait = time.monotonic() + PATIENCE_S, 0.05
        while time.monotonic() < give_up:
            if any(t.ok or t.refused for t in sending.attempts):
                return
            if sending.send.mode is SendMode.RESIGNED and sending.failed:
                return
            sending.attempts.append(await self._try(conversation_id, sending.send, sending.send.content))
            if not sending.attempts[-1].ok:
                await asyncio.sleep(wait * random.uniform(0.5, 1.5))
                wait = min(wait * 2, 1.0)

    async def _try(self, conversation_id: str, send: Send, content: str, timeout_s: float = _TRY_S) -> Attempt:
        request: dict[str, object] = {
            "conversationId": conversation_id,
            "type": send.type,
            "content": content,
            "clientMessageId": send.key,
        }
        if send.attachments:
            request["attachments"] = send.attachments
        headers = {"authorization": f"Bearer {self.token(send.sender)}", "content-type": "application/json"}
        url, began = f"{random.choice(self.urls)}/messages", time.monotonic()
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self.client.post(url, headers=headers, content=orjson.dumps(request))
        except (httpx2.HTTPError, TimeoutError):
            return Attempt(began, time.monotonic(), None)
        return attempt_of(answer, began, time.monotonic())


def attempt_of(answer: httpx2.Response, began: float, ended: float) -> Attempt:
    """Return what an answer to ``POST /messages`` says. Without an id and a seq it is no acceptance. Pure."""
    status = answer.status_code
    if status not in (200, 201):
        problem = problem_of(answer)
        return Attempt(began, ended, status, code=problem.code, outcome=problem.outcome, defect=problem.defect)
    try:
        accepted = msgspec.json.decode(answer.content, type=MessageAccepted)
    except msgspec.MsgspecError:
        return Attempt(began, ended, None, defect=f"the body of a {status} is no MessageAccepted")
    return Attempt(began, ended, status, accepted.message_id, accepted.seq)
