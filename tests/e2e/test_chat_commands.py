"""The pipeline from a shell: ``millrace env``, ``send`` and ``listen``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import httpx2
import pytest
from websockets.sync.client import connect

from schemas.ids import new_id
from stack.child import end_with_parent
from stack.running import RunningStack

from .conftest import ROOT, errors, kill, millrace, until


def run(stack: RunningStack, *words: str) -> subprocess.CompletedProcess[str]:
    return millrace(*words, "--data", str(stack.data))


def sent(stack: RunningStack, *words: str) -> dict[str, Any]:
    done = run(stack, "send", *words)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def shell(stack: RunningStack, options: str, script: str) -> str:
    """Run the script in a shell that has evaluated ``millrace env``; return what it prints."""
    command = f'eval "$("{sys.executable}" -m cli.main env {options} --data "{stack.data}")"; {script}'
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MILLRACE_")}
    done = subprocess.run(["sh", "-euc", command], capture_output=True, text=True, cwd=ROOT, env=clean, check=True)
    return done.stdout


def test_env_says_where_clients_go_and_who_they_may_be(stack: RunningStack):
    api, ws, alice, bob = shell(stack, "", 'printf "%s\\n" "$API" "$WS" "$ALICE" "$BOB"').split()
    assert (api, ws) == (stack.http_url, stack.ws_url)
    for token in (alice, bob):
        answer = httpx2.get(f"{api}/conversations", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200


def gateway_says(url: str, token: str) -> str:
    """Return the type of the first frame, or nothing when there is no gateway yet."""
    try:
        with connect(url, additional_headers={"Authorization": f"Bearer {token}"}, compression=None) as socket:
            return str(json.loads(socket.recv(10))["type"])
    except OSError:
        return ""


def test_env_starts_a_gateway_by_hand_beside_the_stack(stack: RunningStack):
    us = os.getpid()
    command = f'eval "$("{sys.executable}" -m cli.main env --data "{stack.data}")"; '
    process = subprocess.Popen(
        ["sh", "-euc", command + f'echo "$MILLRACE_WS__PORT $ALICE"; exec "{sys.executable}" -m gateway'],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith("MILLRACE_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: end_with_parent(us),
    )
    try:
        assert process.stdout is not None
        port, token = process.stdout.readline().split()
        until(lambda: gateway_says(f"ws://127.0.0.1:{port}/ws", token) == "connected")
        nodes = {row["node"] for row in json.loads(run(stack, "gateways", "list", "--json").stdout)}
        assert len(nodes & {"gateway-1"}) == 1
        assert [node for node in nodes if node.startswith("by-hand-")] != []
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_env_prints_parts(stack: RunningStack):
    def names(*options: str) -> set[str]:
        return set(json.loads(run(stack, "env", "--json", *options).stdout))

    clients, servers = names("--clients"), names("--servers")
    assert clients == {"API", "WS", "ALICE", "BOB"}
    assert {"MILLRACE_PG__DSN", "MILLRACE_WS__PORT", "MILLRACE_AUTH__SECRET"} < servers
    assert names() == clients | servers


def test_a_message_goes_in_and_its_frame_comes_out(stack: RunningStack):
    alice, bob = f"alice-{new_id()[-8:]}", f"bob-{new_id()[-8:]}"
    first = sent(stack, alice, "--to", f"{bob}, carol", "hello")
    assert (first["seq"], first["status"]) == (1, "sent")
    room = first["conversationId"]
    piped = millrace("send", alice, "-", "--conversation", room, "--data", str(stack.data), input="again")
    assert json.loads(piped.stdout)["seq"] == 2
    done = run(stack, "listen", bob, "--conversation", room, "--messages", "2")
    frames = [json.loads(line) for line in done.stdout.splitlines()]
    assert frames[0]["type"] == "connected"
    assert [(f["id"], f["seq"]) for f in frames if f["type"] == "joined"] == [(room, 2)]
    messages = [frame["message"]["content"] for frame in frames if frame["type"] == "new_message"]
    assert messages == ["hello", "again"]


def test_a_listener_misses_and_doubles_nothing_when_its_gateway_is_killed(stack: RunningStack):
    alice, bob = f"alice-{new_id()[-8:]}", f"bob-{new_id()[-8:]}"
    room = sent(stack, alice, "--to", bob, "1")["conversationId"]
    us = os.getpid()
    listening = [sys.executable, "-m", "cli.main", "listen", bob, "--conversation", room, "--messages", "4"]
    process = subprocess.Popen(
        [*listening, "--data", str(stack.data)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: end_with_parent(us),
    )
    try:
        assert process.stdout is not None
        while json.loads(process.stdout.readline())["type"] != "joined":
            pass
        sent(stack, alice, "--conversation", room, "2")
        while json.loads(process.stdout.readline()).get("seq") != 2:
            pass
        kill(stack, "gateway")
        for text in ("3", "4"):
            sent(stack, alice, "--conversation", room, text)
        out, errors = process.communicate(timeout=60)
        frames = [json.loads(line) for line in out.splitlines()]
        assert [frame["seq"] for frame in frames if frame["type"] == "new_message"] == [3, 4]
        assert "connecting again" in errors
    finally:
        process.kill()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("send", "alice", "hello"), "name a conversation with --conversation, or users for a new one with --to"),
        (("send", "alice", "hello", "--conversation", "abc"), "$.conversationId"),
        (("send", "alice", "hello", "--to", "b o b"), "$.members[0]"),
        (("send", "al ice", "hello", "--to", "bob"), "the user id must be 1-255 visible ASCII"),
        (("send", "alice", "", "--to", "bob"), "1 to 4000 characters"),
        (("listen", "al ice"), "the user id must be 1-255 visible ASCII"),
        (("listen", "alice", "--conversation", "01900000-0000-7000-8000-000000000009"), "no such conversation"),
        (("listen", "alice", "--conversation", "abc"), "conversation abc was refused"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(stack: RunningStack, words: tuple[str, ...], complaint: str):
    done = run(stack, *words)
    assert done.returncode == 1
    [line] = errors(done)
    assert line.startswith("millrace: ")
    assert complaint in line
