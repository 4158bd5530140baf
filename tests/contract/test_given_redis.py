"""Redis as companies run it: TLS with a CA of one's own, users of an ACL, a cluster, Sentinel, sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from adapters.redis.client import connect, execute
from adapters.redis.cluster_setup import Member, form
from adapters.redis.publisher import open_fanout
from adapters.redis.registry import open_registry
from adapters.redis.slot_client import open_slot_client
from adapters.redis.subscriptions import open_subscriptions
from adapters.redis.target import target
from domain.errors import Invalid, Unavailable
from schemas.ids import new_id
from stack.ports import allot
from stack.servers.valkey import _binary
from tests.certificates import Authority
from tests.contract.conftest import entry, listen
from tests.given import program, redis

USER = ("user chat on >pass%40word ~* &* +@all", "user default off")
LOGIN = "chat:pass%2540word"
"""A password with signs that mean something in a URL."""


def tls(authority: Authority, *more: str) -> list[str]:
    certificate, key = authority.certify("redis")
    files = f"tls-ca-cert-file {authority.file}", f"tls-cert-file {certificate}", f"tls-key-file {key}"
    return ["port 0", *files, *more]


async def works(url: str) -> None:
    """A registry, publications and subscriptions, as gateways and stages use them."""
    async with (
        open_fanout(url) as fanout,
        open_subscriptions(url, f"node-{new_id()}") as pubsub,
        open_registry(url, node=f"n-{new_id()}", lease_s=30) as registry,
    ):
        node, pumping = await listen(pubsub)
        channel = f"conversation:{new_id()}:messages"
        await pubsub.subscribe(channel)
        await fanout.publish([(channel, b"one")])
        assert (await node.next()).data == b"one"
        one = entry()
        await registry.register(one)
        assert await registry.connected([one.user_id]) == {one.user_id}
        pumping.cancel()


@pytest.fixture(params=["off", "required"])
async def encrypted(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[str, Authority, str]]:
    """A Redis that speaks TLS alone, on IPv4 and IPv6; without or with certificates of its clients."""
    authority, [port] = Authority(tmp_path), allot(["redis"], {}, {}).values()
    clients = "yes" if request.param == "required" else "no"
    certificate, key = authority.certify("client")
    options = f"ssl_ca_certs={authority.file}"
    if request.param == "required":
        options += f"&ssl_certfile={certificate}&ssl_keyfile={key}"
    lines = tls(authority, f"tls-port {port}", f"tls-auth-clients {clients}", *USER)
    async with redis(tmp_path, program("redis-server"), "tls", port, *lines):
        yield f"127.0.0.1:{port}", authority, options


@pytest.mark.slow
async def test_tls_with_a_ca_of_its_own_a_user_and_a_certificate_of_the_client(encrypted: tuple[str, Authority, str]):
    server, _, options = encrypted
    for host in (server, server.replace("127.0.0.1", "[::1]")):
        await works(f"rediss://{LOGIN}@{host}/3?{options}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("url", "text", "driver"),
    [
        ("rediss://chat:s3cret@{server}?{options}", "Redis refuses the login", "WRONGPASS"),
        ("rediss://{server}?{options}", "Redis refuses the login", "NOAUTH"),
        ("rediss://chat:s3cret@{server}?ssl_ca_certs={stranger}{certificate}", "TLS with Redis fails", "certificate"),
        ("redis://chat:s3cret@{server}", "Redis does not answer", ""),
        ("rediss://chat:s3cret@localhost:{port}?{options}", "TLS with Redis fails", "certificate is not valid for"),
    ],
)
async def test_a_wrong_login_or_certificate_is_one_line_with_the_words_of_the_server(
    url: str, text: str, driver: str, encrypted: tuple[str, Authority, str], tmp_path: Path
):
    server, _, options = encrypted
    stranger = Authority(tmp_path, "stranger").file
    _, _, certificate = options.partition("&")
    address = url.format(
        server=server,
        port=server.partition(":")[2],
        options=options,
        stranger=stranger,
        certificate=f"&{certificate}" if certificate else "",
    )
    async with open_slot_client(address) as client:
        with pytest.raises(Unavailable, match=text) as failed:
            await client.run([("GET", "key")])
    assert driver in failed.value.driver
    assert "s3cret" not in failed.value.driver + str(failed.value)


@pytest.mark.slow
async def test_a_subscription_that_is_refused_says_why(encrypted: tuple[str, Authority, str]):
    server, _, options = encrypted
    with structlog.testing.capture_logs() as logged:
        async with open_subscriptions(f"rediss://chat:s3cret@{server}?{options}", "node") as pubsub:
            _, pumping = await listen(pubsub)
            with pytest.raises(Unavailable):
                await pubsub.subscribe("conversation:1:messages")
            pumping.cancel()
    refused = [line for line in logged if line["event"] == "redis_subscription_refused"]
    assert refused and "WRONGPASS" in refused[0]["driver"]
    assert "s3cret" not in str(logged)


async def test_a_unix_socket(tmp_path: Path):
    path = tmp_path / "plain" / "redis.sock"
    lines = "port 0", f"unixsocket {path}", *USER
    async with redis(tmp_path, str(_binary()), "plain", 0, *lines):
        await works(f"unix://{LOGIN}@{path}?db=2")


@pytest.mark.slow
async def test_a_cluster_over_tls_with_a_user(tmp_path: Path):
    """User, password and TLS are those of every node, also of one that only another node names."""
    authority, binary = Authority(tmp_path), program("redis-server")
    names = [f"{kind}-{n}" for n in range(3) for kind in ("node", "bus")]
    ports = allot(names, {}, {})
    async with AsyncExitStack() as stack:
        for n in range(3):
            lines = tls(
                authority,
                f"tls-port {ports[f'node-{n}']}",
                "tls-auth-clients no",
                "tls-cluster yes",
                "cluster-enabled yes",
                f"cluster-port {ports[f'bus-{n}']}",
                *USER,
            )
            await stack.enter_async_context(redis(tmp_path, binary, f"node-{n}", ports[f"node-{n}"], *lines))
        options = f"ssl_ca_certs={authority.file}"
        every = ",".join(f"127.0.0.1:{ports[f'node-{n}']}" for n in range(3))
        members = [Member("127.0.0.1", ports[f"node-{n}"], ports[f"bus-{n}"]) for n in range(3)]
        await form(f"rediss+cluster://{LOGIN}@{every}?{options}", members)
        one = f"rediss+cluster://{LOGIN}@127.0.0.1:{ports['node-0']}?{options}"
        for _ in range(8):  # users and conversations on all nodes
            await works(one)
        async with open_slot_client(one) as client:
            await client.refresh()
            assert len(client.owners) == 3


@asynccontextmanager
async def replicated(folder: Path) -> AsyncIterator[tuple[str, dict[str, int]]]:
    """A primary, a replica and three Sentinels, which have a password of their own; the URL."""
    ports = allot(["primary", "replica", "s-0", "s-1", "s-2"], {}, {})
    binary, login = str(_binary()), ("masteruser chat", "masterauth pass%40word")
    follows = f"replicaof 127.0.0.1 {ports['primary']}"
    async with AsyncExitStack() as stack:
        for name, more in (("primary", ()), ("replica", (follows,))):
            await stack.enter_async_context(redis(folder, binary, name, ports[name], *USER, *login, *more))
        for name in ("s-0", "s-1", "s-2"):
            lines = (
                "user default off",
                "user watch on >w%40tch ~* &* +@all",
                "sentinel sentinel-user watch",
                "sentinel sentinel-pass w%40tch",
                f"sentinel monitor chat 127.0.0.1 {ports['primary']} 2",
                "sentinel auth-user chat chat",
                "sentinel auth-pass chat pass%40word",
                "sentinel down-after-milliseconds chat 500",
                "sentinel failover-timeout chat 3000",
            )
            await stack.enter_async_context(redis(folder, binary, name, ports[name], *lines, mode="--sentinel"))
        sentinels = ",".join(f"127.0.0.1:{ports[name]}" for name in ("s-0", "s-1", "s-2"))
        watch = "sentinel_username=watch&sentinel_password=w%2540tch"
        yield f"redis+sentinel://{LOGIN}@{sentinels}/chat/1?{watch}", ports


@pytest.mark.slow
async def test_sentinels_name_the_primary_also_after_it_has_changed(tmp_path: Path):
    async with replicated(tmp_path) as (url, ports):
        await works(url)
        async with open_fanout(url) as fanout, open_subscriptions(url, "node") as pubsub:
            node, pumping = await listen(pubsub)
            await pubsub.subscribe("conversation:1:messages")
            await fanout.client.refresh()
            [before] = fanout.client.owners
            await command(url, "SENTINEL", "FAILOVER", "chat")

            async def moved() -> Any:
                while True:
                    try:
                        await fanout.publish([("conversation:1:messages", b"after")])
                        await fanout.client.run([("SET", "key", "1")])
                    except Unavailable:
                        pass
                    await fanout.client.refresh()
                    [owner] = fanout.client.owners
                    if owner != before and (await asyncio.wait_for(node.got.get(), 1)).data == b"after":
                        return owner
                    await asyncio.sleep(0.1)

            async with asyncio.timeout(30):
                assert (await moved()).port == ports["replica"]
            pumping.cancel()
        await works(url)
        wrong = url.replace("/chat/", "/other/")
        async with open_slot_client(wrong) as client:
            with pytest.raises(Unavailable, match="no Sentinel names the primary") as failed:
                await client.run([("GET", "key")])
        assert "knows no service other" in failed.value.driver


async def command(url: str, *words: str) -> Any:
    """The reply of the first Sentinel, once it knows of a replica to fail over to."""
    from adapters.redis.client import connect_sentinel

    to = target(url)
    client = connect_sentinel(to, to.nodes[0])
    try:
        async with asyncio.timeout(30):
            while True:
                try:
                    return await execute(client, *words)
                except Exception:
                    await asyncio.sleep(0.2)
    finally:
        await client.aclose()


async def test_a_url_that_cannot_be_used_whole_is_refused():
    with pytest.raises(Invalid, match="MILLRACE_REDIS__URL"):
        async with open_slot_client("redis://a:1,b:2/0"):
            pass


async def test_parameters_of_a_client_are_those_of_the_url(tmp_path: Path):
    to = target(f"rediss+cluster://u:p@one:1,two:2?ssl_ca_certs={Authority(tmp_path).file}")
    for address in to.nodes:
        client = connect(to, address)
        given = client.connection_pool.connection_kwargs
        assert (given["host"], given["username"], given["password"]) == (address.host, "u", "p")
        assert (given["ssl_cert_reqs"], given["ssl_check_hostname"]) == ("required", True)
        await client.aclose()
