"""The Faust app of a stage. Only this file, ``faust_consumer.py`` and ``faust_client.py`` import Faust."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faust
from faust.auth import OAuthCredentials, SASLCredentials, SSLCredentials
from faust.tables.manager import TableManager
from faust.transport.drivers import aiokafka as driver

from adapters.kafka.access import access
from domain.errors import AccessRefused
from domain.log_position import Epochs
from runtime.kafka_settings import OAUTHBEARER, Kafka
from streams.deliveries import CHUNK
from streams.faust_consumer import StageConsumer
from streams.stage import Stage


class _NoTables(TableManager):  # type: ignore[misc]
    """No tables: the app starts without the second that Faust waits for them."""

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


class _Transport(driver.Transport):  # type: ignore[misc]
    """Transport of aiokafka with StageConsumer."""

    Consumer = StageConsumer


def _credentials(kafka: Kafka) -> Any:
    """Return the access of all other clients in the form that Faust takes, for the producer that it opens."""
    options = access(kafka)
    tls = options.get("ssl_context")
    if not kafka.uses_sasl:
        return SSLCredentials(tls) if tls else None
    if kafka.sasl_mechanism == OAUTHBEARER:
        return OAuthCredentials(oauth_cb=options["sasl_oauth_token_provider"], ssl_context=tls)
    return SASLCredentials(
        username=options["sasl_plain_username"],
        password=options["sasl_plain_password"],
        mechanism=kafka.sasl_mechanism,
        ssl_context=tls,
    )


def build_app(stage: Stage, kafka: Kafka, data_dir: Path, epochs: Epochs) -> Any:
    """Return the app of a stage: its id is the consumer group, so stages lag, fail and scale alone."""
    folder = data_dir / "faust" / stage.name
    folder.mkdir(parents=True, exist_ok=True)
    app = faust.App(
        stage.name,
        broker=";".join(f"kafka://{address}" for address in kafka.bootstrap.split(",")),
        broker_credentials=_credentials(kafka),
        store="memory://",
        datadir=str(folder),
        autodiscover=False,
        TableManager=_NoTables,
        processing_guarantee="at_least_once",
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=4 * 1024 * 1024,
        # Topics that are made anew are noticed within seconds: a broker may come back without them.
        consumer_metadata_max_age_ms=5_000,
        broker_session_timeout=6,  # a killed worker's partitions wait so long
        broker_heartbeat_interval=1.5,
        broker_rebalance_timeout=30,
        broker_commit_interval=1.0,
        # Chunks. A fifth of them, which must be more than there are partitions, has room for what was fetched already.
        stream_buffer_maxsize=96,
        broker_max_poll_records=4 * CHUNK,  # unpacking a fetch of megabytes at once would hold up all else
        table_standby_replicas=0,
        topic_disable_leader=True,
        topic_allow_declare=False,
        producer_request_timeout=20,
        web_enabled=False,
    )
    # What StageConsumer and its client need. ``on_refused`` may be replaced before the start.
    app.epochs, app.stage, app.gather_s, app.on_refused = epochs, stage.name, stage.policy.gather_s, _raise
    app.access = access(kafka)
    app.transport = _Transport(app.conf.broker_consumer, app)
    return app


def _raise(refused: AccessRefused) -> None:
    raise refused
