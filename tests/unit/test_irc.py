"""Reading chat logs."""

from __future__ import annotations

import pytest

from verify.replay import irc
from verify.replay.irc import Join, Part, Rename, Say


@pytest.mark.parametrize(
    ("line", "happening"),
    [
        ("[10:48] <Knelix> Yikes!", Say("Knelix", "Yikes!", 648)),
        ("[10:48]  * ringe waves", Say("ringe", "* ringe waves", 648)),
        ("=== lbe [n=lbe@dynamic.chl.se]  has joined #ubuntu", Join("lbe")),
        ("=== lbe [~x@y]  has joined #Ubuntu", Join("lbe")),
        ("=== icerogue [~I@a.net]  has left #ubuntu []", Part("icerogue")),
        ('=== mre [~m@c]  has left #ubuntu ["Leaving"]', Part("mre")),
        ("=== kater` is now known as Kater`", Rename("kater`", "Kater`")),
        ("=== mode/#ubuntu [+o Amaranth]  by ChanServ", Say(None, "=== mode/#ubuntu [+o Amaranth]  by ChanServ")),
        ("[01:09] (soundray/#ubuntu) thomas: see", Say(None, "(soundray/#ubuntu) thomas: see", 69)),
    ],
)
def test_each_form_of_a_line_is_known(line, happening):
    assert irc.read(line.encode()) == [happening]


def test_an_action_in_the_old_form_belongs_to_somebody_who_is_known():
    log = b"[01:00] <tux_> hi\n=== tux_ looks\n=== nobody looks"
    assert irc.read(log)[1:] == [Say("tux_", "* tux_ looks"), Say(None, "=== nobody looks")]


def test_formats_go_and_other_control_characters_are_replaced():
    assert irc.clean("\x02bold\x0f \x0304,01red\x03") == "bold red"
    assert irc.clean("need\x08d") == "need\ufffdd"
    assert irc.clean(" \x02 ") == "\u00b7"


def test_bytes_that_are_no_text_are_kept_as_replacements():
    assert irc.read(b"[01:00] <a> caf\xe9") == [Say("a", "caf\ufffd", 60)]


def test_nicks_become_different_valid_user_ids():
    from schemas.ids import USER_ID

    nicks = ["bob", "Bob", "bob`", "bob|", "bob.60.", "|subz3r0|", "x" * 30]
    ids = [irc.user_id(nick) for nick in nicks]
    assert len(set(ids)) == len(nicks)
    assert all(USER_ID.match(id_) for id_ in ids)


def test_who_acts_before_joining_was_there():
    log = [Say("a", "x", 1), Join("b"), Say("b", "y", 2), Rename("c", "d"), Say("d", "z", 3), Part("e")]
    assert irc.present_from_start(log) == ["a", "c", "e"]


def test_minutes_go_on_past_midnight():
    log = [Say("a", "", 1430), Join("b"), Say("a", "", 1439), Say("a", "", 2), Say("a", "", 1)]
    assert irc.minutes(log) == [0, 0, 9, 12, 12]
