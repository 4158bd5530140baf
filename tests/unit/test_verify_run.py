"""A run: who is put out in its middle."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from millrace_client import LiveConnection

from tests import make
from verify import run as runs
from verify.history import History, Room, Screen
from verify.receivers import Device
from verify.run import Run
from verify.workload import DeviceKind, DeviceSpec, RoomWorkload


@dataclass
class Owner:
    """Ends memberships, of which the device is told."""

    device: Device

    async def remove_member(self, *_: str) -> None:
        self.device.out.set()

    async def add_member(self, *_: str) -> None:
        pass


@pytest.mark.parametrize("out_before", [False, True])
async def test_who_was_put_out_before_the_removal_was_not_removed(monkeypatch, out_before):
    devices: list[Any] = []
    monkeypatch.setattr(Run, "_add_device", lambda *given, **_: devices.append(given))
    monkeypatch.setattr(runs, "_OUT_AT_LEAST_S", 0.0)
    workload = RoomWorkload(owner="alice", members=(), leaver="carol", stranger="mallory", devices=(), sends=())
    room = Room(workload, make.ROOM)
    device = Device(room, Screen(DeviceSpec(user="carol", device="parlour", kind=DeviceKind.STEADY)), (), "token")
    device.attach(LiveConnection((), "token"), 0)
    if out_before:
        device.live.receive(orjson.dumps({"type": "left", "id": make.ROOM, "reason": "removed"}))
    monkeypatch.setattr(Run, "_user", lambda *_: Owner(device))
    run = Run(History("v", 1), ["http://x"], [], str, 0.0, random.Random(1), devices=[device])
    await run._out_and_back(room, None)
    assert (device.screen.removed_at is None) == out_before
    assert len(devices) == 1
    assert run.devices == []
