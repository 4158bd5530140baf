"""Cursors of subscriptions: where a join begins, and what its socket is told before the replay.

A cursor that a client gives is checked against the store: after that went back in time, a seq may stand for another
entry, or for none. Such a cursor begins anew behind what both have in common, and ``reset`` tells the client so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from domain.conversations import NO_CONVERSATION
from domain.errors import NotFound
from domain.history import Heads, History, reset_point
from gateway.framing import encode
from gateway.replay import Replay
from gateway.room import Room, Subscription
from schemas.frames import history_hidden


@dataclass(slots=True)
class Cursors:
    """Places cursors. ``compare`` compares a room with the store, and returns the head and the epoch of that."""

    history: History
    replay: Replay
    compare: Callable[[Room], Awaitable[Heads]]

    async def check_member(self, subscription: Subscription) -> None:
        """Confirm the membership of a subscription. Raises NotFound for a non-member, Unavailable."""
        found = await self.history.membership(subscription.room.conversation_id, subscription.socket.user_id)
        if found is None:
            raise NotFound(NO_CONVERSATION)
        subscription.confirm(found.since, found.hidden_up_to)

    async def place(self, subscription: Subscription) -> None:
        """Give a joining subscription its cursor: the head, its ``start``, or that up to which this holds.

        From then on it is caught up, and a change of the epoch moves it. Raises Unavailable.
        """
        room, after, epoch = subscription.room, subscription.start, subscription.epoch
        is_other = epoch is not None and epoch != room.epoch
        if after is not None and after <= (room.buffer.cursor or 0) and not is_other:
            subscription.place(after)  # the buffer has shown that the head is beyond
            return
        while True:
            heads = await self.compare(room)
            is_other = epoch is not None and epoch != heads.epoch
            shared = await self.history.shared(room.conversation_id, epoch or "") if is_other else None
            if room.epoch == heads.epoch:  # it may have changed meanwhile
                break
        if after is None:
            subscription.place(heads.of(room.conversation_id))
            return
        start = reset_point(after, epoch, heads, room.conversation_id, shared)
        subscription.place(after)
        if start is not None:
            room.reset(subscription, start)

    async def announce(self, subscription: Subscription) -> None:
        """Send what comes before the replay: the ``reset`` that is due, and one frame in place of all entries that are
        older than the membership and not for this member."""
        outbound = subscription.socket.outbound
        while not self.replay.send_reset(subscription):
            await outbound.drained()
        if subscription.cursor < subscription.hidden_up_to:
            room_id, up_to = subscription.room.conversation_id, subscription.hidden_up_to
            hidden = encode(history_hidden(room_id, subscription.cursor, up_to))
            while not outbound.write(hidden):
                await outbound.drained()
            subscription.cursor = up_to
