"""Attacks: one hostile user, or somebody without a token, against the front doors of a stack."""

from __future__ import annotations

from collections.abc import Mapping

from verify.attacks import http, media, sockets
from verify.attacks.doors import Attack, Doors

__all__ = ["ATTACKS", "Attack", "Doors"]

ATTACKS: Mapping[str, Attack] = {
    "connections": http.idle_connections,
    "heads": http.endless_heads,
    "tokens": http.bad_tokens,
    "messages": http.flood,
    "creations": http.creations,
    "devices": http.invented_devices,
    "searches": http.searches,
    "uploads": http.empty_uploads,
    "bodies": http.unfinished_bodies,
    "downloads": http.unread_downloads,
    "pictures": media.dear_pictures,
    "receipts": sockets.receipts_before_membership,
    "frames": sockets.frame_flood,
    "connects": sockets.connects,
    "replays": sockets.replays,
}
