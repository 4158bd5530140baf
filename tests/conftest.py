"""Real servers for tests: one stack for each run, started as a user starts it, ended with the run.

``MILLRACE_TEST_DATA`` names the folder of a stack that runs already (`millrace up --data DIR`); then that one is used.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest

from adapters.postgres.migrate import migrate
from adapters.postgres.pool import Pool, open_pool
from cli.target import Server
from runtime.kafka_settings import Kafka
from stack.running import RunningStack, running_stack
from stack.servers.data_dir import DataDir
from tests.folders import open_folder
from tests.rediscluster import RedisCluster
from tests.reporting import Reporting


def pytest_configure(config: pytest.Config) -> None:
    """Tell what takes long and what is skipped; forget a stack that the shell names: tests run on their own."""
    for server in Server:
        os.environ.pop(server.value, None)
    config.pluginmanager.register(Reporting(config), "millrace-reporting")


@pytest.fixture(scope="session")
def stack() -> Iterator[RunningStack]:
    """The whole pipeline, as `millrace up` starts it. It ends with this process, whatever happens to it."""
    given = os.environ.get("MILLRACE_TEST_DATA")
    if given:
        yield running_stack(Path(given))
        return
    with open_folder("stack") as data:
        command = [sys.executable, "-m", "cli.main", "up", "--data", str(data), "--with-parent", "--json"]
        with (data / "up.log").open("wb") as log:
            env = {**os.environ, "MILLRACE_LOG_LEVEL": "debug"}  # what no log may hold is in none of these
            env["MILLRACE_LIMITS__FACTORS"] = "*=10"  # a test is faster than a person
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=env)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, f"the stack did not start:\n{(data / 'up.log').read_text()[-3000:]}"
            assert json.loads(line)["state"] == "ready"
            yield running_stack(data)
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture(scope="session")
def kafka(stack: RunningStack) -> Kafka:
    """The connection to the run's broker."""
    return stack.kafka


@pytest.fixture(scope="session")
def redis_url(stack: RunningStack) -> str:
    """A Redis of the run, in a database that the stack itself does not use."""
    return stack.redis_url.rsplit("/", 1)[0] + "/7"


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """A Redis Cluster of three nodes, for the run."""
    folder = DataDir(tmp_path_factory.mktemp("valkeys"))
    folder.prepare()
    with RedisCluster.running(folder) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def pg_dsn(stack: RunningStack) -> Iterator[str]:
    """A fresh, migrated database for one test file."""
    name = f"test_{secrets.token_hex(4)}"
    with psycopg.connect(stack.pg_dsn, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
    dsn = psycopg.conninfo.make_conninfo(stack.pg_dsn, dbname=name)
    migrate(dsn)
    yield dsn
    with psycopg.connect(stack.pg_dsn, autocommit=True) as admin:
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
async def pool(pg_dsn: str) -> AsyncIterator[Pool]:
    """A pool on this file's database."""
    async with open_pool(pg_dsn) as opened:
        yield opened
