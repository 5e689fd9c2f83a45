"""The one declaration of streams, consumers and buckets, and the one command that makes them (``cosmop provision``).

Workers never make their own: one that is scaled to zero could not, and the autoscaler needs its consumer to exist.
Every bound is stated, because the server's defaults redeliver for ever and keep without limit.
"""

from __future__ import annotations

from dataclasses import dataclass

from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    KeyValueConfig,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import BadRequestError

from cosmop_common.names import FACT_KINDS, facts_stream
from cosmop_common.settings import ConnectionSettings

_STREAM_NAME_IN_USE = 10058
DEDUPE_WINDOW = 120.0
WEEK = 7 * 24 * 3600.0

#: Services that take jobs.
JOB_SERVICES = ("scraper", "human-detector", "gan-trainer", "fid-evaluator", "classifier", "console")
#: Key-value buckets: each collection's settings; the state of each run; which model version is active.
#: Versions of a model that were active, the present one included: what a roll-back goes back to.
MODEL_HISTORY = 16
KV_BUCKETS = ("collections", "runs", "models")


@dataclass(frozen=True)
class ConsumerSpec:
    """A durable pull consumer: one stage's place in one stream, over all collections."""

    name: str
    stream: str
    subject: str
    job: bool = False


CONSUMERS: dict[str, ConsumerSpec] = {
    spec.name: spec
    for spec in (
        ConsumerSpec("dedup-hash", facts_stream("scraped"), "cosmop.facts.scraped.>"),
        ConsumerSpec("dedup-index", facts_stream("hashed"), "cosmop.facts.hashed.>"),
        ConsumerSpec("human-detector", facts_stream("deduplicated"), "cosmop.facts.deduplicated.>"),
        *(ConsumerSpec(f"jobs-{s}", "JOBS", f"cosmop.jobs.{s}.>", job=True) for s in JOB_SERVICES),
    )
}


def streams(settings: ConnectionSettings) -> list[StreamConfig]:
    """All streams, every bound stated."""
    facts = [
        StreamConfig(
            name=facts_stream(kind),
            subjects=[f"cosmop.facts.{kind}.>"],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            max_msgs_per_subject=1,
            discard=DiscardPolicy.NEW,
            # An erasure must always find room.
            max_bytes=-1 if kind == "erased" else settings.stream_max_bytes,
            duplicate_window=DEDUPE_WINDOW,
            allow_direct=True,
            num_replicas=settings.nats_replicas,
        )
        for kind in FACT_KINDS
    ]
    jobs = StreamConfig(name="JOBS", subjects=["cosmop.jobs.>"], retention=RetentionPolicy.WORK_QUEUE, discard=DiscardPolicy.NEW)
    runs = StreamConfig(name="RUNS", subjects=["cosmop.runs.>"], max_age=WEEK, discard=DiscardPolicy.OLD)
    dead = StreamConfig(name="DEAD", subjects=["cosmop.dead.>"], max_age=4 * WEEK, discard=DiscardPolicy.OLD)
    for config in (jobs, runs, dead):
        config.storage, config.max_bytes, config.duplicate_window = StorageType.FILE, settings.stream_max_bytes, DEDUPE_WINDOW
    return [*facts, jobs, runs, dead]


def consumer_config(spec: ConsumerSpec, settings: ConnectionSettings) -> ConsumerConfig:
    """How a durable consumer is made.

    ``max_deliver`` is -1 because a taken-away pod is a delivery too; the worker counts attempts and writes the dead
    letter itself (``cosmop_common.consume``), so that nothing ends in silence.
    """
    return ConsumerConfig(
        durable_name=spec.name,
        filter_subject=spec.subject,
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=settings.ack_wait,
        max_deliver=-1,
        max_ack_pending=64 if spec.job else 1000,
    )


async def provision(js: JetStreamContext, settings: ConnectionSettings) -> list[str]:
    """Makes or updates all streams, consumers and buckets; returns their names. Safe to repeat."""
    made = []
    for config in streams(settings):
        try:
            await js.add_stream(config)
        except BadRequestError as error:
            if error.err_code != _STREAM_NAME_IN_USE:
                raise
            await js.update_stream(config)
        made.append(f"stream {config.name}")
    for spec in CONSUMERS.values():
        await js.add_consumer(spec.stream, consumer_config(spec, settings))
        made.append(f"consumer {spec.name}")
    for bucket in KV_BUCKETS:
        await _provision_bucket(js, bucket, settings)
        made.append(f"bucket {bucket}")
    return made


async def _provision_bucket(js: JetStreamContext, bucket: str, settings: ConnectionSettings) -> None:
    """A bucket; one that was made with a shorter history gets the longer one."""
    history = MODEL_HISTORY if bucket == "models" else 1
    try:
        await js.create_key_value(KeyValueConfig(bucket=bucket, history=history, max_bytes=settings.stream_max_bytes, replicas=settings.nats_replicas))
    except BadRequestError as error:
        if error.err_code != _STREAM_NAME_IN_USE:
            raise
        config = (await js.stream_info(f"KV_{bucket}")).config
        config.max_msgs_per_subject = history
        await js.update_stream(config)
