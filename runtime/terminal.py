"""Output of commands: tables for people on a terminal, tab-separated lines in a pipe.

Ids, titles and texts come from users: a terminal must show their control characters and never obey them
(ECMA-48 escape sequences, Unicode bidirectional controls as in UAX #9 §2).
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
"""C0 and C1 controls, line and paragraph separators, bidirectional controls, and lone surrogates."""


def visible(text: object) -> str:
    """Return the text in one line, with an escape such as ``\\u001b`` in place of each control character."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", str(text))


def visible_lines(text: str) -> str:
    """Return the text with its lines and tabs kept, and every other control character as an escape."""
    return "\n".join("\t".join(map(visible, line.split("\t"))) for line in text.split("\n"))


def is_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout.isatty()


def buffer_output() -> None:
    """Give standard output a buffer where Python was told to have none, as by PYTHONUNBUFFERED.

    A write to a pipe that a signal interrupts is a short one. A buffer writes the rest; without one Python drops it in
    silence. Each line is still written at once.
    """
    out = sys.stdout
    if out is sys.__stdout__ and isinstance(out, io.TextIOWrapper) and isinstance(out.buffer, io.RawIOBase):
        buffered = io.BufferedWriter(out.buffer)
        sys.stdout = io.TextIOWrapper(buffered, out.encoding, out.errors, line_buffering=True)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, right: Collection[str] = ()) -> None:
    """Print a table as wide as the terminal; in a pipe, one unwrapped line of tab-separated cells for each row.

    ``right``: the headings of columns that are aligned to the right on a terminal.
    """
    if not is_terminal():
        for row in (headings, *rows):
            sys.stdout.write("\t".join(map(visible, row)) + "\n")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in headings:
        table.add_column(Text(heading), overflow="fold", justify="right" if heading in right else "left")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    Console().print(table)


@dataclass(frozen=True, slots=True)
class RowWriter:
    """Prints the rows of a table one by one, as they come: ``widths`` has the width of each column by its heading.

    In a pipe it prints what ``print_table`` does.
    """

    widths: Mapping[str, int]
    right: Collection[str] = ()

    def headings(self) -> None:
        """Print the headings."""
        self.row(list(self.widths))

    def row(self, cells: Sequence[object]) -> None:
        """Print a row; a cell that is longer than its column moves the others."""
        texts = list(map(visible, cells))
        if not is_terminal():
            line = "\t".join(texts)
        else:
            columns = zip(texts, self.widths.items(), strict=True)
            padded = (text.rjust(width) if name in self.right else text.ljust(width) for text, (name, width) in columns)
            line = "  ".join(padded).rstrip()
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
