"""The logs command: the end of a file, and what is added."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.logs import logs, new_lines, tail
from stack.errors import OperatorError
from stack.servers.data_dir import DataDir


@pytest.mark.parametrize("lines", [0, 1, 7, 5_000, 20_000])
def test_the_end_of_a_log(tmp_path: Path, lines: int):
    file, all_lines = tmp_path / "x.log", [f"line {n} {'x' * 20}" for n in range(10_000)]
    file.write_text("\n".join(all_lines) + "\n")
    assert tail(file, file.stat().st_size, lines) == (all_lines[-lines:] if lines else [])


def test_only_whole_lines_follow_each_once(tmp_path: Path):
    file, offsets = tmp_path / "x.log", {}
    file.write_text("a\nb\nhal")
    assert list(new_lines(file, offsets)) == ["a", "b"]
    file.write_text("a\nb\nhalf\n")
    assert list(new_lines(file, offsets)) == ["half"]
    assert list(new_lines(file, offsets)) == []


def test_a_log_begun_anew_is_read_from_its_start(tmp_path: Path):
    file, offsets = tmp_path / "x.log", {}
    file.write_text("long long ago\n")
    list(new_lines(file, offsets))
    file.write_text("new\n")
    assert list(new_lines(file, offsets)) == ["new"]


def test_an_unknown_name_lists_those_that_are(tmp_path: Path):
    folder = DataDir(tmp_path)
    folder.logs.mkdir()
    (folder.logs / "gateway.log").write_text("")
    with pytest.raises(OperatorError, match=r"no log gatway in .*; there are: gateway"):
        logs(folder, "gatway", follow=False, lines=5)
