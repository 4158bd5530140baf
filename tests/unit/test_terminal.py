"""Output of commands: control characters are shown, and a pipe gets plain lines."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import terminal
from runtime.terminal import RowWriter, visible, visible_lines

HOSTILE = (
    "\x1b[31mred\x1b[0m\x1b]0;title\x07 a\0b \x9b31m \u202egnp.exe \u2066x\u2069 \ud800 [bold red]rich[/]\nnext\tcell"
)
PROGRAM = (
    "from runtime.terminal import print_table; import json, sys; print_table(('id', 'text'), [json.loads(sys.argv[1])])"
)


def test_control_characters_are_shown_as_escapes():
    shown = visible(HOSTILE)
    assert shown.startswith("\\u001b[31mred\\u001b[0m\\u001b]0;title\\u0007 a\\u0000b \\u009b31m \\u202egnp.exe ")
    assert shown.endswith("[bold red]rich[/]\\u000anext\\u0009cell")
    assert visible("Prüfung 日本 👩‍👩‍👧 e\u0301") == "Prüfung 日本 👩‍👩‍👧 e\u0301"
    assert visible_lines("a\nb\tc\r\x1b") == "a\nb\tc\\u000d\\u001b"


@given(st.text())
def test_visible_text_is_one_printable_line(text: str):
    shown = visible(text)
    assert len(shown.splitlines()) <= 1
    shown.encode()
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in shown)


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_json_stays_json_with_the_same_text(text: str):
    assert json.loads(visible(json.dumps({"content": text}, ensure_ascii=False))) == {"content": text}


def rows_printed(stdout: int | None) -> str:
    cells = json.dumps(["0" * 36, HOSTILE.replace("\ud800", "") + "x" * 300])
    done = subprocess.run([sys.executable, "-c", PROGRAM, cells], stdout=stdout or subprocess.PIPE, check=True)
    return "" if stdout else done.stdout.decode()


def test_a_pipe_gets_unwrapped_tab_separated_lines():
    headings, row = rows_printed(None).splitlines()
    assert headings == "id\ttext"
    id_, text = row.split("\t")
    assert id_ == "0" * 36 and text.endswith("x" * 300)
    assert "\x1b" not in row and "[bold red]rich[/]" in row


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_a_terminal_gets_a_table_without_foreign_escapes(columns: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "dumb")
    controller, terminal = pty.openpty()
    rows_printed(terminal)
    os.close(terminal)
    shown = b""
    while True:
        try:
            piece = os.read(controller, 65_536)
        except OSError:  # Linux ends a terminal that nobody holds with EIO
            break
        if not piece:
            break
        shown += piece
    os.close(controller)
    text = shown.decode()
    assert "\x1b]0;" not in text and "\x9b" not in text and "\u202e" not in text
    assert "".join(text.split()).count("\\u001b") >= 1
    assert max(len(line) for line in text.splitlines()) <= int(columns)


@pytest.mark.parametrize(
    ("is_terminal", "shown"),
    [
        (False, "n\ttext\n7\ta\\u001b\n1234\tlonger than ten\n"),
        (True, "  n  text\n  7  a\\u001b\n1234  longer than ten\n"),
    ],
)
def test_rows_are_printed_as_they_come(capsys, monkeypatch: pytest.MonkeyPatch, is_terminal: bool, shown: str):
    monkeypatch.setattr(terminal, "is_terminal", lambda: is_terminal)
    writer = RowWriter({"n": 3, "text": 10}, right=("n",))
    writer.headings()
    printed = capsys.readouterr().out
    for row in ((7, "a\x1b"), (1234, "longer than ten")):
        writer.row(row)
        printed += capsys.readouterr().out
    assert printed == shown


INTERRUPTED = (
    "import signal; from runtime.terminal import buffer_output; buffer_output();"
    "signal.signal(signal.SIGALRM, lambda *_: None); signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001);"
    "print('x' * 500_000); signal.setitimer(signal.ITIMER_REAL, 0)"
)
"""Every write to a full pipe is short."""


def test_signals_keep_nothing_from_a_pipe_that_is_read_slowly():
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen([sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, env=environment) as program:
        assert program.stdout is not None
        read = 0
        while part := os.read(program.stdout.fileno(), 4096):
            read += len(part)
            time.sleep(0.0005)
    assert (read, program.returncode) == (500_001, 0)


def test_a_line_is_written_at_once_also_with_a_buffer():
    program = (
        "from runtime.terminal import buffer_output; buffer_output(); print('one'); import os; os.kill(os.getpid(), 9)"
    )
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (-9, "one\n")
