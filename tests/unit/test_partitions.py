"""A conversation's partition is the declared one, whatever number of partitions the broker has."""

from __future__ import annotations

import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from adapters.kafka.partitions import declared_partition, partition_of
from schemas.ids import new_id
from schemas.topics import partition_count


@given(st.binary(max_size=60))
def test_a_key_has_the_partition_that_every_other_client_gives_it(key):
    everything = list(range(partition_count()))
    assert declared_partition(key, everything, everything) == DefaultPartitioner()(key, everything, everything)


@pytest.mark.parametrize("more", [1, 6, 100])
def test_partitions_that_somebody_adds_move_no_conversation(more):
    keys = [new_id().encode() for _ in range(200)]
    before = [declared_partition(key, list(range(partition_count())), []) for key in keys]
    assert [declared_partition(key, list(range(partition_count() + more)), []) for key in keys] == before


def test_a_topic_with_fewer_partitions_uses_those_that_it_has():
    keys = [new_id().encode() for _ in range(200)]
    assert {declared_partition(key, [0, 1, 2], []) for key in keys} == {0, 1, 2}
    assert all(declared_partition(key, [0, 1, 2], []) == partition_of(key, 3) for key in keys)
