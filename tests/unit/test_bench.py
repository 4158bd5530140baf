"""What is published about speed: how pairs become a figure, and a figure a picture."""

from __future__ import annotations

import os
import re
from xml.etree import ElementTree

import pytest

from bench.machine import cpu_s
from bench.pairs import Pair, Point, Result, beside_bar, in_rotation, in_turns, steady
from bench.plot import drawn
from bench.summary import table
from gateway.channels import NOBODY, Envelope, Kind, opened
from stack.processes import family
from tests.checkout import ROOT

MACHINE = {"cpu": "a processor", "cores": 2, "python": "3.11"}


def result(*pairs: Pair, **changes) -> Result:
    fields = {"name": "n", "title": "a <title>", "unit": "u", "reference": "r", "included": "all"}
    return Result(**{**fields, "target": 0.75, "wanted": "at least", "pairs": pairs, **changes})


def test_a_pair_whose_reference_moved_is_left_out():
    calm = [Pair(8, 10), Pair(9, 11), Pair(7, 9)]
    assert steady([*calm, Pair(8, 14)]) == calm


def test_the_figure_is_the_median_of_the_ratios_of_steady_pairs():
    said = result(Pair(8, 10), Pair(9, 10), Pair(5, 10), Pair(1, 100)).as_json()
    assert (said["ratio"], said["min"], said["max"]) == (0.8, 0.5, 0.9)
    assert [pair["kept"] for pair in said["pairs"]] == [True, True, True, False]


@pytest.mark.parametrize(("wanted", "reached"), [("at least", True), ("at most", False)])
def test_a_target_is_a_least_or_a_most(wanted: str, reached: bool):
    assert result(Pair(8, 10), wanted=wanted).reached is reached


async def test_whoever_comes_first_changes():
    order = []

    def measure(name: str, value: float):
        async def one() -> float:
            order.append(name)
            return value

        return one

    pairs = await in_turns(4, measure("a", 1.0), measure("b", 2.0))
    assert "".join(order) == "abbaabba"
    assert [(pair.ours, pair.reference) for pair in pairs] == [(1.0, 2.0)] * 4


async def test_of_three_the_order_is_turned_each_round():
    order = []

    def measure(name: str):
        async def one() -> str:
            order.append(name)
            return name

        return one

    rounds = await in_rotation(2, [measure("a"), measure("b"), measure("c")])
    assert "".join(order) == "abccba"
    assert [found for found, _ in rounds] == [["a", "b", "c"]] * 2


def test_beside_a_bar_the_ratio_is_the_part_of_it_that_was_taken():
    measured = result(*beside_bar([3.0, 5.0, 4.0], 4.0), wanted="at most", target=1.0)
    assert (measured.ratio, measured.reached) == (1.0, True)


def test_points_stand_in_the_json_the_table_and_the_picture():
    measured = result(Pair(8, 10), points=[Point("1 on its <way>", 1, 10), Point("16 on their way", 30, 10)])
    record = {**measured.as_json(), "machine": {**MACHINE, "build": "plain", "java": "17"}, "at": "2026-11-25T04:00:00"}
    assert [point["ratio"] for point in record["points"]] == [0.1, 3.0]
    page = table([record])
    assert "| | 16 on their way: **3.00** (30.0 and 10.0) |" in page
    assert "Python 3.11 (plain build), java 17" in page
    root = ElementTree.fromstring(drawn(measured))
    texts = [text.text for text in root.findall(".//{*}text")]
    assert "0.10  1 on its <way>" in texts


def test_a_picture_is_well_formed_whatever_the_title():
    root = ElementTree.fromstring(drawn(result(Pair(8, 10), Pair(1, 100))))
    assert root.tag.endswith("svg")
    assert len(root.findall(".//{*}circle")) == 2


def test_a_table_has_a_line_for_each_result_and_says_what_was_missed():
    results = [
        {**result(Pair(ours, 10)).as_json(), "machine": MACHINE, "at": "2026-11-25T04:00:00.000Z"} for ours in (5, 9)
    ]
    said = table(results)
    assert said.count("0.50") == 3
    assert (said.count("| missed |"), said.count("| reached |")) == (1, 1)


def test_cpu_time_is_that_of_the_process_and_grows_with_work():
    before = cpu_s([os.getpid()])
    sum(range(3_000_000))
    assert cpu_s([os.getpid()]) > before
    assert os.getpid() in family(os.getppid())


def test_the_load_tool_publishes_what_a_dispatcher_publishes():
    [form] = re.findall(r'sprintf\(envelope, "(.*?)"', (ROOT / "bench" / "wsload.c").read_text())
    published = form.replace("%ld", "7").replace("%.*s", '{"seq":7}').encode()
    assert opened(published) == Envelope(Kind.MESSAGE, 7, NOBODY, b'{"seq":7}')
