"""URLs of Redis: each part is used, or the URL is refused; no error quotes a password."""

from __future__ import annotations

import pytest

from adapters.redis.target import Address, Kind, Login, target


@pytest.mark.parametrize(
    ("url", "kind", "shown", "login", "database"),
    [
        ("redis://one", Kind.ALONE, "one:6379", Login(), 0),
        ("redis://:p%40%2Fss@one:7001/5", Kind.ALONE, "one:7001", Login(None, "p@/ss"), 5),
        ("rediss://u%3A1:p@[::1]:7001", Kind.ALONE, "[::1]:7001", Login("u:1", "p"), 0),
        ("redis://u@one?password_file=/p", Kind.ALONE, "one:6379", Login("u", file="/p"), 0),
        ("redis+cluster://one?password_file=/p", Kind.CLUSTER, "one:6379", Login(file="/p"), 0),
        ("unix://u@/run/redis.sock?password_file=/p", Kind.ALONE, "/run/redis.sock", Login("u", file="/p"), 0),
        ("unix://u:p@/run/redis.sock?db=2", Kind.ALONE, "/run/redis.sock", Login("u", "p"), 2),
        ("redis+cluster://:p@one:7001,[::2]:7002/0", Kind.CLUSTER, "one:7001,[::2]:7002", Login(None, "p"), 0),
        ("rediss+cluster://u:p@one,two:7002", Kind.CLUSTER, "one:6379,two:7002", Login("u", "p"), 0),
        ("redis+sentinel://u:p@one,two:7002/chat", Kind.SENTINEL, "one:26379,two:7002/chat", Login("u", "p"), 0),
        ("rediss+sentinel://one:1/chat/4", Kind.SENTINEL, "one:1/chat", Login(), 4),
    ],
)
def test_each_part_is_used(url: str, kind: Kind, shown: str, login: Login, database: int):
    read = target(url)
    assert (read.kind, str(read), read.login, read.database) == (kind, shown, login, database)
    assert (read.tls is not None) == url.startswith("rediss")


def test_tls_is_always_checked_and_its_files_are_used():
    read = target("rediss://one?ssl_ca_certs=/ca&ssl_certfile=/c&ssl_keyfile=/k&ssl_check_hostname=false")
    files = {"ssl_ca_certs": "/ca", "ssl_certfile": "/c", "ssl_keyfile": "/k"}
    assert read.tls == {"ssl": True, "ssl_cert_reqs": "required", "ssl_check_hostname": False, **files}
    plain = target("rediss://one")
    assert plain.tls == {"ssl": True, "ssl_cert_reqs": "required", "ssl_check_hostname": True}


def test_sentinels_have_a_login_of_their_own():
    read = target("redis+sentinel://u:p@one/chat?sentinel_username=w&sentinel_password=x")
    assert (read.login, read.sentinel_login) == (Login("u", "p"), Login("w", "x"))
    assert target("redis+sentinel://u:p@one/chat").sentinel_login == Login()
    read = target("redis+sentinel://u@one/chat?password_file=/p&sentinel_password_file=/q")
    assert (read.login, read.sentinel_login) == (Login("u", file="/p"), Login(file="/q"))


def test_an_address_is_shown_as_it_is_written_in_a_url():
    assert [str(Address(*pair)) for pair in (("::1", 1), ("a", 2), ("/s", 0))] == ["[::1]:1", "a:2", "/s"]


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "",
        "redis://",
        "http://u:s3cret@one",
        "redis+other://u:s3cret@one",
        "redis://u:s3cret@one:port",
        "redis://u:s3cret@one:70000",
        "redis://u:s3cret@one/name",
        "redis://u:s3cret@one,two",
        "redis://u:s3cret@one,",
        "redis://s3cret@one",
        "redis://u:s3cret@one?password_file=/p",
        "redis://u:s3cret@one?sentinel_password_file=/p",
        "redis+sentinel://one/chat?sentinel_password=s3cret&sentinel_password_file=/p",
        "redis://u:s3cret@one?ssl_ca_certs=/ca",
        "rediss://u:s3cret@one?ssl_cert_reqs=none",
        "rediss://u:s3cret@one?ssl_certfile=/only",
        "rediss://u:s3cret@one?ssl_check_hostname=maybe",
        "rediss://u:s3cret@one?timeout=3",
        "redis://u:1?s3cret@one/0",
        "redis://u:1/s3cret@one/0",
        "redis+cluster://u:s3cret@one/1",
        "redis+cluster://",
        "redis+sentinel://u:s3cret@one",
        "redis+sentinel://u:s3cret@one/chat/name",
        "redis://u:s3cret@one?sentinel_username=w",
        "unix://u:s3cret@relative",
        "unix://u:s3cret@/path?ssl_ca_certs=/ca",
    ],
)
def test_what_cannot_be_used_is_refused_without_being_quoted(url: str):
    with pytest.raises(ValueError) as refused:
        target(url)
    assert "s3cret" not in str(refused.value)
