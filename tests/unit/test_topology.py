"""Which processes there are, how they are called and configured: alone, and as a cluster."""

from __future__ import annotations

import re
import shutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS

from adapters.redis.cluster_setup import shares
from adapters.redis.slot_client import tagged
from adapters.redis.target import target
from schemas.topics import stages
from stack import composition as stack
from stack.child import Child
from stack.errors import OperatorError
from stack.given import GivenServer
from stack.servers.data_dir import DataDir
from stack.servers.haproxy import find_haproxy
from stack.servers.kafka import Kafka
from stack.topology import Topology, cluster, detours, module_of, node_name, processes_named, role, single
from stack.up import _plan

SINGLE = single()
CLUSTER = cluster(is_proxied=True)
ROOT = Path(__file__).parents[2]
VIA_PORTS = {"kafka-1-via": 22_001, "kafka-2-via": 22_002, "kafka-3-via": 22_003}


@pytest.fixture
def folder(tmp_path: Path) -> DataDir:
    made = DataDir(tmp_path / "data")
    made.prepare()
    return made


def plan(folder: DataDir, topology: Topology, **more: Any) -> stack.Plan:
    ports = {name: 21_000 + n for n, name in enumerate(topology.ports)}
    return stack.Plan(folder, topology, {**ports, "kafka-via": 22_000, **VIA_PORTS}, **more)


def configuration(make: Any) -> dict[str, str]:
    broker: Kafka = make.__self__
    return dict(line.split("=", 1) for line in broker.properties(broker.name).splitlines())


def apps(folder: DataDir, topology: Topology, **more: Any) -> dict[str, Child]:
    made = plan(folder, topology, **more)
    seen = stack.servers(made, (), lambda _: None).app_addresses
    return {child.name: child for child in stack.apps(made, seen)}


def test_one_of_each_bears_the_name_of_its_kind():
    assert SINGLE.apps == ("ingest", "gateway", *stages(), "audit")
    assert {"http", "ws", "postgres", "valkey", "kafka", "kafka-controller", "search-ops"} <= set(SINGLE.ports)
    assert len(SINGLE.ports) == 6 + len(SINGLE.apps)


def test_a_cluster_has_several_of_each_and_a_port_for_everything():
    assert CLUSTER.brokers == ("kafka-1", "kafka-2", "kafka-3")
    assert CLUSTER.ingests == ("ingest-1", "ingest-2")
    assert len(CLUSTER.gateways) == 3
    assert len(CLUSTER.workers) == 2 * len(stages())
    assert len(set(CLUSTER.ports)) == len(CLUSTER.ports)
    assert {"valkey-3-bus", "kafka-3-controller", "postgres-replica", "gateway-1", "ingest-1"} <= set(CLUSTER.ports)


def test_without_a_proxy_clients_go_to_the_first_of_each():
    bare = cluster(is_proxied=False)
    assert [bare.public(name) for name in ("ingest-1", "ingest-2", "gateway-1", "status-1")] == [
        "http",
        "ingest-2",
        "ws",
        None,
    ]
    assert CLUSTER.public("ingest-1") == "ingest-1"


def test_the_role_of_a_process():
    assert [role(n) for n in ("gateway", "gateway-2", "postgres-replica", "kafka-1")] == [
        "gateway",
        "gateway",
        "postgres-replica",
        "kafka",
    ]


def test_three_brokers_replicate_everything_and_replace_a_leader_quickly(folder: DataDir):
    servers = stack.servers(plan(folder, CLUSTER), (), lambda _: None)
    assert not servers.is_broker_alone
    told = [configuration(make) for make in servers.brokers]
    assert [one["node.id"] for one in told] == ["1", "2", "3"]
    assert len({one["controller.quorum.voters"] for one in told}) == 1
    assert told[0]["controller.quorum.voters"].count("@127.0.0.1:") == 3
    for name in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic"):
        assert told[0][f"{name}.replication.factor"] == "3"
    assert told[0]["transaction.state.log.min.isr"] == told[0]["min.insync.replicas"] == "2"
    assert int(told[0]["broker.session.timeout.ms"]) <= 3000
    assert len(servers.addresses.kafka.split(",")) == 3


def test_a_lone_broker_needs_no_other(folder: DataDir):
    servers = stack.servers(plan(folder, SINGLE), (), lambda _: None)
    assert servers.is_broker_alone
    told = configuration(servers.brokers[0])
    assert told["offsets.topic.replication.factor"] == told["min.insync.replicas"] == "1"
    assert told["controller.quorum.voters"].startswith("1@127.0.0.1:")


def test_our_own_processes_go_through_a_proxy_and_operators_do_not(folder: DataDir):
    made = plan(folder, SINGLE, via={"kafka": 23_000, "postgres": 23_001, "valkey": 23_002})
    servers = stack.servers(made, (), lambda _: None)
    assert servers.app_addresses.kafka == "127.0.0.1:23000"
    assert "@127.0.0.1:23001/" in servers.app_addresses.pg
    assert "@127.0.0.1:23002/" in servers.app_addresses.redis
    assert servers.addresses.kafka == f"127.0.0.1:{made.ports['kafka']}"
    assert f"@127.0.0.1:{made.ports['postgres']}/" in servers.addresses.pg
    told = configuration(servers.brokers[0])
    assert "PROXIED://127.0.0.1:22000" in told["listeners"]
    assert "PROXIED://127.0.0.1:23000" in told["advertised.listeners"]
    assert f"PLAINTEXT://127.0.0.1:{made.ports['kafka']}" in told["advertised.listeners"]
    env = apps(folder, SINGLE, via=made.via)["ingest"].env
    assert env["MILLRACE_KAFKA__BOOTSTRAP"] == "127.0.0.1:23000"


def test_each_process_has_a_login_of_its_own_kind_and_none_has_the_owners(folder: DataDir):
    for topology in (SINGLE, CLUSTER):
        dsns = {name: urlsplit(child.env["MILLRACE_PG__DSN"]) for name, child in apps(folder, topology).items()}
        assert {name: dsn.username for name, dsn in dsns.items()} == {name: role(name) for name in topology.apps}
        assert len({dsn.password for dsn in dsns.values()}) == len({role(name) for name in topology.apps})
    proxied = apps(folder, SINGLE, via={"postgres": 23_001})
    assert {urlsplit(child.env["MILLRACE_PG__DSN"]).port for child in proxied.values()} == {23_001}


def test_a_cluster_reads_from_its_replica_but_for_the_stages(folder: DataDir):
    replica = "MILLRACE_PG__REPLICA_DSN"
    assert not any(replica in child.env for child in apps(folder, SINGLE).values())
    dsns = {name: urlsplit(child.env[replica]) for name, child in apps(folder, CLUSTER).items() if replica in child.env}
    assert set(dsns) == {*CLUSTER.ingests, *CLUSTER.gateways, "audit"}
    assert {name: dsn.username for name, dsn in dsns.items()} == {name: role(name) for name in dsns}
    assert {dsn.port for dsn in dsns.values()} == {plan(folder, CLUSTER).ports["postgres-replica"]}


def test_a_dsn_that_is_given_is_that_of_all_processes(folder: DataDir, monkeypatch: pytest.MonkeyPatch):
    given = "postgresql://app:secret@db.example/chat"
    monkeypatch.setenv("MILLRACE_PG__DSN", given)
    servers = stack.servers(plan(folder, SINGLE), (GivenServer("postgres", "db.example", 5432),), lambda _: None)
    assert {child.env["MILLRACE_PG__DSN"] for child in apps(folder, SINGLE).values()} == {given}
    assert (servers.addresses.logins, servers.make_logins) == ({}, None)


def test_a_pooler_is_for_processes_and_the_direct_way_for_setup_and_sessions(
    folder: DataDir, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MILLRACE_PG__DIRECT_DSN", "postgresql://app@db.example/chat")
    assert {child.env["MILLRACE_PG__DIRECT_DSN"] for child in apps(folder, SINGLE).values()} == {""}
    monkeypatch.setenv("MILLRACE_PG__DSN", "postgresql://app@pooler.example/chat")
    servers = stack.servers(plan(folder, SINGLE), (GivenServer("postgres", "pooler.example", 5432),), lambda _: None)
    assert servers.addresses.pg == "postgresql://app@db.example/chat"
    for child in apps(folder, SINGLE).values():
        assert child.env["MILLRACE_PG__DSN"] == "postgresql://app@pooler.example/chat"
        assert child.env["MILLRACE_PG__DIRECT_DSN"] == "postgresql://app@db.example/chat"


def test_a_proxy_before_one_broker_of_three(folder: DataDir):
    servers = stack.servers(plan(folder, CLUSTER, via={"kafka-2": 23_000}), (), lambda _: None)
    assert servers.app_addresses.kafka == "127.0.0.1:22001,127.0.0.1:23000,127.0.0.1:22003"
    told = [configuration(make) for make in servers.brokers]
    assert "PROXIED://127.0.0.1:22001" in told[0]["advertised.listeners"]
    assert "PROXIED://127.0.0.1:23000" in told[1]["advertised.listeners"]
    assert "PROXIED://127.0.0.1:22002" in told[1]["listeners"]


def test_ingest_and_gateway_may_have_a_way_to_redis_of_their_own(folder: DataDir, monkeypatch: pytest.MonkeyPatch):
    via = {"valkey": 23_000, "ingest-valkey": 23_001, "gateway-valkey": 23_002}
    ports = {
        name: urlsplit(child.env["MILLRACE_REDIS__URL"]).port for name, child in apps(folder, SINGLE, via=via).items()
    }
    assert (ports["ingest"], ports["gateway"], ports["notification"]) == (23_001, 23_002, 23_000)
    monkeypatch.setenv("MILLRACE_REDIS__URL", "redis://cache.example:6379/0")
    assert {child.env["MILLRACE_REDIS__URL"] for child in apps(folder, SINGLE, via=via).values()} == {
        "redis://cache.example:6379/0"
    }


async def write_configurations(makes: Sequence[Callable[[], Awaitable[Child]]]) -> None:
    for make in makes:
        prepare = (await make()).prepare
        assert prepare is not None
        await prepare()


async def test_clients_of_a_redis_cluster_are_sent_to_the_proxies_and_the_nodes_are_not(folder: DataDir):
    made = plan(folder, CLUSTER, via={"valkey-2": 23_000})
    servers = stack.servers(made, (), lambda _: None)
    await write_configurations(servers.caches)
    told = [(folder.path / name / "valkey.conf").read_text() for name in CLUSTER.caches]
    assert ["cluster-announce-port 23000" in each for each in told] == [False, True, False]
    assert [address.port for address in target(servers.app_addresses.redis).nodes] == [
        made.ports["valkey-1"],
        23_000,
        made.ports["valkey-3"],
    ]
    assert 23_000 not in [address.port for address in target(servers.addresses.redis).nodes]


async def test_nodes_of_a_cluster_may_reach_each_other_through_proxies(folder: DataDir):
    via = {"peers-of-kafka-2": 23_000, "controller-of-kafka-2": 23_001, "bus-of-valkey-2": 23_002}
    made = plan(folder, CLUSTER, via=via)
    servers = stack.servers(made, (), lambda _: None)
    told = [configuration(make) for make in servers.brokers]
    assert "PLAINTEXT://127.0.0.1:23000" in told[1]["advertised.listeners"]
    assert f"PLAINTEXT://127.0.0.1:{made.ports['kafka-2']}" in told[1]["listeners"]
    own = made.ports["kafka-2-controller"]
    voters = [dict(v.split("@") for v in each["controller.quorum.voters"].split(",")) for each in told]
    assert [each["2"] for each in voters] == ["127.0.0.1:23001", f"127.0.0.1:{own}", "127.0.0.1:23001"]
    await write_configurations(servers.caches)
    conf = (folder.path / "valkey-2" / "valkey.conf").read_text()
    assert "cluster-announce-bus-port 23002" in conf
    assert f"cluster-port {made.ports['valkey-2-bus']}" in conf


def test_every_edge_leads_to_a_port_of_the_stack():
    for topology in (SINGLE, CLUSTER):
        via = {f"{broker}-via" for broker in topology.brokers}
        assert set(topology.edges.values()) <= {*topology.ports, *via}


async def test_a_replica_may_follow_through_a_proxy(folder: DataDir):
    made = plan(folder, CLUSTER, via={"postgres-replica": 23_000})
    [prepare] = stack.servers(made, (), lambda _: None).replica
    assert any("port=23000 " in argument for argument in (await prepare()).argv)


@pytest.mark.parametrize("text", ["{", "[]", '{"kafka": "x"}', '{"kafka": 0}', '{"moon": 21000}'])
def test_a_detour_that_cannot_be_is_refused(text: str):
    with pytest.raises(OperatorError, match="MILLRACE_PROXY_PORTS"):
        detours(text, SINGLE.edges)


def test_our_own_processes_are_told_who_they_are(folder: DataDir):
    alone, many = apps(folder, SINGLE, wrap="tests.seeded"), apps(folder, CLUSTER)
    assert alone["gateway"].env["MILLRACE_NODE"] == "gateway-1"
    assert list(alone["media"].argv)[1:] == ["-m", "tests.seeded", "streams", "media"]
    assert many["status-2"].env["MILLRACE_NODE"] == "status-2"
    assert list(many["status-2"].argv)[1:] == ["-m", "streams", "status"]
    assert many["gateway-3"].port == int(many["gateway-3"].env["MILLRACE_WS__PORT"])
    assert len({child.port for child in many.values() if child.port}) == 5


def test_what_is_given_by_url_is_not_started(folder: DataDir, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MILLRACE_PG__DSN", "postgresql://elsewhere/x")
    servers = stack.servers(plan(folder, CLUSTER), (GivenServer("postgres", "elsewhere", 5432),), lambda _: None)
    assert servers.addresses.pg == servers.app_addresses.pg == "postgresql://elsewhere/x"
    assert (servers.database, servers.replica) == ((), ())
    assert len(servers.brokers) == len(servers.caches) == 3


def test_a_folder_of_the_other_kind_is_refused(folder: DataDir):
    _plan(folder, SINGLE, {})
    with pytest.raises(OperatorError, match="one of each: leave --cluster out"):
        _plan(folder, CLUSTER, {})
    assert _plan(folder, SINGLE, {}).ports == _plan(folder, SINGLE, {}).ports


async def test_the_proxy_runs_the_file_of_production_and_is_told_of_each_node(folder: DataDir):
    made = plan(folder, CLUSTER)
    child = await stack.proxy(made).prepare()
    assert child.argv[-1] == str(ROOT / "deploy" / "haproxy.cfg")
    for name in (*CLUSTER.ingests, *CLUSTER.gateways):
        called = name.upper().replace("-", "_")
        assert child.env[called] == f"127.0.0.1:{made.ports[name]}"
        assert child.env[f"{called}_OPS"] == str(made.ports[f"{name}-ops"])
    assert child.env["FRONT_BIND"] == f"127.0.0.1:{made.ports['http']},127.0.0.1:{made.ports['ws']}"
    assert child.ops_port == made.ports["haproxy-ops"]
    asked = set(re.findall(r"\$\{(\w+)-", (ROOT / "deploy" / "haproxy.cfg").read_text()))
    assert asked == child.env.keys() - {"PATH"}


def test_all_slots_are_shared_out():
    given = [slot for first, last in shares(3) for slot in range(first, last + 1)]
    assert given == list(range(SLOTS))


def test_the_url_of_a_cluster():
    read = target("redis+cluster://:p%40ss@one:7001,two:7002")
    assert (read.is_cluster, read.nodes, read.login.password) == (True, (("one", 7001), ("two", 7002)), "p@ss")
    assert not target("redis://:x@one:7001/0").is_cluster
    for text in ("nonsense", "redis://", "redis+cluster://", "redis+cluster://one:1,,two:2", "redis+cluster://a:b"):
        with pytest.raises(ValueError):
            target(text)


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("user:irc:bob:messages", "user:{irc:bob}:messages"),
        ("conversation:7:events", "conversation:{7}:events"),
        ("node:gateway-1", "node:gateway-1"),
        ("plain", "plain"),
    ],
)
def test_names_on_a_cluster(name: str, there: str):
    assert tagged(name) == there


def test_haproxy_is_looked_for_where_debian_puts_it(monkeypatch: pytest.MonkeyPatch):
    asked: list[str | None] = []

    def which(_: str, path: str | None = None) -> None:
        asked.append(path)

    monkeypatch.setattr(shutil, "which", which)
    assert find_haproxy() is None
    assert "/usr/sbin" in (asked[-1] or "")


def test_processes_are_left_out_by_name_and_by_kind(folder: DataDir):
    assert processes_named(SINGLE, ["status", "ingest"]) == ("ingest", "status")
    assert processes_named(CLUSTER, ["gateway-2", "ingest"]) == ("ingest-1", "ingest-2", "gateway-2")
    assert processes_named(CLUSTER, []) == ()
    for name in ("moon", "gateway-9", "kafka", ""):
        with pytest.raises(OperatorError, match="is not a process of the stack; there are ingest, gateway, status"):
            processes_named(CLUSTER, [name])
    some = apps(folder, CLUSTER, left_out=("ingest-1", "audit"))
    assert set(CLUSTER.apps) - set(some) == {"ingest-1", "audit"}


def test_a_process_is_started_by_hand_as_the_stack_starts_it(folder: DataDir):
    for topology in (SINGLE, CLUSTER):
        for name, child in apps(folder, topology).items():
            assert child.env["MILLRACE_NODE"] == node_name(name, is_cluster=topology.is_cluster)
            assert tuple(child.argv[2:]) == module_of(name)
