"""Who may connect, by node, address and user; and whose address it is behind a proxy."""

from __future__ import annotations

import pytest

from domain.addresses import Proxies, key, parsed
from domain.errors import RateLimited, Unavailable
from gateway.admission import Admission
from gateway.limits import Limits

NO_RATES = {"connects_per_s_user": 0, "connects_per_s_address": 0}
PROXY = Proxies.of("10.0.0.0/8, ::1")


def admission(**limits) -> Admission:
    return Admission(Limits(**{**NO_RATES, **limits}), PROXY)


def come(at: Admission, peer: str = "192.0.2.1", *forwarded: str, now: float = 0.0):
    slot = at.accept(peer)
    assert slot is not None
    slot.request(forwarded, now)
    return slot


def test_an_address_has_so_many_and_a_place_that_is_left_is_free():
    node = admission(connections_per_address=2)
    first = come(node)
    come(node)
    with pytest.raises(RateLimited):
        come(node)
    come(node, "192.0.2.2")
    first.leave()
    assert node.open == 3


def test_a_refused_one_is_given_back_when_it_ends():
    node = admission(connections_per_address=1)
    kept, refused = come(node), node.accept("192.0.2.1")
    with pytest.raises(RateLimited):
        refused.request((), 0.0)
    for slot in (refused, kept):
        slot.leave()
    assert (node.open, len(node.addresses._counts)) == (0, 0)
    come(node)


def test_far_too_many_are_not_even_read():
    node = admission(connections_per_address=10)
    accepted = [node.accept("192.0.2.1") for _ in range(500)]
    assert 10 <= sum(slot is not None for slot in accepted) <= 110
    assert node.open == sum(slot is not None for slot in accepted)


def test_a_node_has_so_many():
    node = admission(max_connections=1)
    come(node)
    with pytest.raises(Unavailable):
        come(node, "192.0.2.2")
    assert sum(node.accept(f"192.0.2.{n}") is not None for n in range(200)) < 110


def test_behind_a_trusted_proxy_its_clients_are_counted_and_it_is_not():
    node = admission(connections_per_address=2)
    for n in range(50):
        come(node, "10.1.2.3", f"192.0.2.{n}")
    come(node, "10.1.2.3", "192.0.2.7")
    with pytest.raises(RateLimited):
        come(node, "10.1.2.3", "192.0.2.7")
    for _ in range(50):
        come(node, "10.1.2.3")  # it does not say


def test_who_counts_for_a_client_behind_a_proxy_leaves_with_it():
    node = admission(connections_per_address=1)
    slot = come(node, "10.1.2.3", "192.0.2.7")
    refused = node.accept("10.1.2.3")
    with pytest.raises(RateLimited):
        refused.request(("192.0.2.7",), 0.0)
    refused.leave()
    with pytest.raises(RateLimited):
        come(node, "10.1.2.3", "192.0.2.7")
    slot.leave()
    come(node, "10.1.2.3", "192.0.2.7")


def test_the_word_of_others_on_addresses_is_not_taken():
    node = admission(connections_per_address=1)
    come(node, "192.0.2.1", "198.51.100.1")
    with pytest.raises(RateLimited):
        come(node, "192.0.2.1", "198.51.100.2")


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        (["192.0.2.1"], "192.0.2.1"),
        (["1.1.1.1, 192.0.2.1, 10.0.0.9"], "192.0.2.1"),  # what stands before it is the client's own word
        (["1.1.1.1", "192.0.2.1"], "192.0.2.1"),
        (["192.0.2.1:4711"], "192.0.2.1"),
        (["[2001:db8::1]:4711"], "2001:db8::1"),
        (["::ffff:192.0.2.1"], "192.0.2.1"),
        (["192.0.2.1, unknown"], None),
        (["10.0.0.1"], None),
        ([""], None),
        ([], None),
    ],
)
def test_the_client_is_the_last_one_that_no_trusted_proxy_is(forwarded, client):
    found = PROXY.client(forwarded)
    assert (str(found) if found is not None else None) == client


def test_an_ipv6_network_counts_as_one():
    assert key(parsed("2001:db8::1")) == key(parsed("2001:db8::ffff:1")) != key(parsed("2001:db8:0:1::1"))
    assert key(parsed("::ffff:192.0.2.1")) == "192.0.2.1"


def test_proxies_that_are_no_networks_are_refused():
    with pytest.raises(ValueError, match=r"10\.0\.0\.1/8"):
        Proxies.of("10.0.0.1/8")


def test_an_address_comes_so_often():
    node = admission(connects_per_s_address=1)
    for _ in range(10):
        come(node).leave()
    with pytest.raises(RateLimited):
        come(node)
    come(node, now=1.0)


def test_a_user_has_so_many_and_comes_so_often():
    node = admission(connections_per_user=2, connects_per_s_user=1, connections_per_address=0)
    visits = [come(node) for _ in range(3)]
    visits[0].enter("bob", 0.0)
    visits[1].enter("bob", 0.0)
    with pytest.raises(RateLimited):
        visits[2].enter("bob", 0.0)
    visits[2].enter("carol", 0.0)
    visits[0].leave()
    for _ in range(7):
        slot = come(node)
        slot.enter("bob", 0.0)
        slot.leave()
    with pytest.raises(RateLimited):
        come(node).enter("bob", 0.0)


def test_limits_of_zero_are_none():
    node = Admission(
        Limits(
            max_connections=0,
            connections_per_user=0,
            connections_per_address=0,
            connects_per_s_user=0,
            connects_per_s_address=0,
        )
    )
    for _ in range(2000):
        come(node).enter("bob", 0.0)
