"""Real servers for every test that needs them: a NATS of its own for each, one object store with a bucket for each."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest
from cosmop_common.bus import Bus
from cosmop_common.settings import ConnectionSettings
from cosmop_common.store import Store
from cosmop_common.topology import provision
from cosmop_local import servers
from minio import Minio
from ulid import ULID

# The same examples on every machine and at every run, and none too slow; with FUZZ_EXAMPLES, the hunt for new ones.
hypothesis.settings.register_profile(
    "suite", deadline=None, derandomize="FUZZ_EXAMPLES" not in os.environ, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("suite")

PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "photos"


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Settings of a running S3 server."""
    folder = tmp_path_factory.mktemp("object-store")
    spec = servers.store_spec(folder / "data", access_key="test", secret_key=servers.random_secret())
    process = servers.start(spec, folder / "log")
    yield spec.settings
    servers.stop(process)


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Settings of a running NATS server that nobody else uses."""
    spec = servers.nats_spec(tmp_path / "nats", user="test", password=servers.random_secret())
    process = servers.start(spec, tmp_path / "nats.log")
    yield spec.settings
    servers.stop(process)


@pytest.fixture
def environment(nats_server: dict[str, str], object_store: dict[str, str]) -> Iterator[dict[str, str]]:
    """COSMOP_... of both servers, with a bucket of the test's own: also for child processes."""
    bucket = f"test-{str(ULID()).lower()}"
    yield nats_server | object_store | {"COSMOP_S3_BUCKET": bucket, "COSMOP_CONNECT_SECONDS": "60"}
    # SeaweedFS gives each bucket volumes of its own, and a small server has few: the next test wants them.
    client = Minio(
        object_store["COSMOP_S3_ENDPOINT"], access_key=object_store["COSMOP_S3_ACCESS_KEY"], secret_key=object_store["COSMOP_S3_SECRET_KEY"], secure=False
    )
    if client.bucket_exists(bucket):
        for item in client.list_objects(bucket, recursive=True):
            client.remove_object(bucket, item.object_name or "")
        client.remove_bucket(bucket)


@pytest.fixture
def settings(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> ConnectionSettings:
    """The same as typed settings; the test's own process has them in its environment too."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return ConnectionSettings()


@pytest.fixture
async def store(settings: ConnectionSettings) -> AsyncIterator[Store]:
    """The object store, its bucket made."""
    store = Store(settings)
    await store.ensure_bucket()
    yield store
    store.close()


@pytest.fixture
async def bus(settings: ConnectionSettings, store: Store) -> AsyncIterator[Bus]:
    """A connection to NATS, everything provisioned."""
    bus = await Bus.connect(settings, "test")
    await provision(bus.js, settings)
    yield bus
    await bus.close()


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder of real photos; skips where it is missing."""
    if not PHOTOS.is_dir():
        pytest.skip(f"no real photos at {PHOTOS}")
    return PHOTOS
