"""Ports: the wanted one, else the one of last time, else any that is free."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from stack.errors import StackError
from stack.ports import HIGHEST, LOWEST, allot, is_free


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def a_free_port() -> int:
    return allot(["x"], {}, {})["x"]


def test_each_name_gets_a_free_port_of_its_own():
    given = allot([f"p{n}" for n in range(50)], {}, {})
    assert len(set(given.values())) == 50
    assert all(LOWEST <= port <= HIGHEST and is_free(port) for port in given.values())


def test_a_port_is_kept_while_it_is_free():
    before = allot(["http", "ws"], {}, {})
    assert allot(["http", "ws"], before, {}) == before


@pytest.mark.parametrize("remembered", [None, "x", 0, -1, 70_000, 1.5, []])
def test_whatever_the_file_holds_a_port_is_found(remembered: Any):
    assert LOWEST <= allot(["http"], {"http": remembered}, {})["http"] <= HIGHEST


def test_a_remembered_port_that_is_taken_is_replaced(taken: int):
    assert allot(["http"], {"http": taken}, {})["http"] != taken


def test_a_wanted_port_wins_over_a_remembered_one():
    wanted = a_free_port()
    given = allot(["kafka", "http"], {"kafka": wanted}, {"http": wanted})
    assert given["http"] == wanted
    assert given["kafka"] != wanted


def test_a_wanted_port_that_is_taken_is_refused(taken: int):
    with pytest.raises(StackError, match=f"port {taken} for http is taken"):
        allot(["http"], {}, {"http": taken})


def test_one_port_cannot_be_wanted_twice():
    port = a_free_port()
    with pytest.raises(StackError, match="for ws is taken"):
        allot(["http", "ws"], {}, {"http": port, "ws": port})


@pytest.mark.parametrize("port", [0, -5, 65_536])
def test_a_number_that_is_no_port_is_refused(port: int):
    with pytest.raises(StackError, match="is not a port"):
        allot(["http"], {}, {"http": port})
