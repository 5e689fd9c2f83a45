"""``cosmop models`` against a real serving process's parts: list, show, promote, roll back, and a tampered file refused."""

from __future__ import annotations

import json
import re
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from classifier_world import serving, tiny_model
from cosmop_common.bus import Bus
from cosmop_common.errors import CosmopError, NotFoundError, NotReadyError
from cosmop_common.models_kv import ActiveModels
from cosmop_common.pb.cosmop.v1 import human_detector_pb2
from cosmop_common.settings import ConnectionSettings
from cosmop_common.store import Store
from cosmop_common.topology import MODEL_HISTORY, provision
from cosmop_console.cli import models


class NoDetectors:
    """A human detector with nothing registered."""

    async def ListModels(self, _):  # noqa: N802
        return human_detector_pb2.ListDetectorsResponse()


@pytest.fixture
async def place(bus: Bus, store: Store, settings: ConnectionSettings, tmp_path: Path):
    """A target whose classifier runs here, with three versions of a model, the second one active."""
    for version in ("v1", "v2", "v3"):
        await tiny_model(store, tmp_path, version=version)
    active = ActiveModels(bus)
    for version in ("v1", "v2"):
        await active.activate("tiny-binary", version)
    async with serving(bus, store, tmp_path) as served:

        @asynccontextmanager
        async def services():
            yield SimpleNamespace(classifier=served.classifier, human_detector=NoDetectors())

        yield SimpleNamespace(services=services, connection=settings, served=served, active=active)


async def test_versions_are_listed_shown_promoted_and_rolled_back(place, capsys: pytest.CaptureFixture[str]) -> None:
    await models._list(place, "")
    assert re.findall(r"^\* (\S+)", capsys.readouterr().out, re.MULTILINE) == ["tiny-binary/v2"]
    await models._show(place, "tiny-binary", "")
    card = json.loads(capsys.readouterr().out)
    assert card["version"] == "v2"
    assert all(re.fullmatch("[0-9a-f]{64}", sha256) for sha256 in card["files"].values())
    await models._promote(place, "tiny-binary", "v3")
    assert place.served.hub.active_version("tiny-binary") == "v3"
    await models._rollback(place, "tiny-binary")
    assert "tiny-binary is back at v2 (was v3)" in capsys.readouterr().out
    assert place.served.hub.active_version("tiny-binary") == "v2"
    assert await place.active.get("tiny-binary") == "v2"
    assert await place.active.history("tiny-binary") == ["v1", "v2", "v3", "v2"]


async def test_what_is_not_there_is_said(place, store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no tiny-binary/v9; registered are: v1, v2, v3"):
        await models._promote(place, "tiny-binary", "v9")
    with pytest.raises(NotFoundError, match="none of that model"):
        await models._show(place, "other-binary", "")
    await tiny_model(store, tmp_path, name="fresh-binary")
    with pytest.raises(NotReadyError, match="no other version of fresh-binary was active before"):
        await models._rollback(place, "fresh-binary")


async def test_a_tampered_file_is_refused_and_the_old_version_goes_on(place, store: Store) -> None:
    head = next(k for k in [key async for key in store.list("models/tiny-binary/v3/")] if "head-" in k)
    data = bytearray(await store.get(head))
    data[-1] ^= 1
    await store.put(head, bytes(data))
    with pytest.raises(CosmopError, match="is not the file that was registered"):
        await models._promote(place, "tiny-binary", "v3")
    assert place.served.hub.active_version("tiny-binary") == "v2"
    assert await place.active.get("tiny-binary") == "v2"


async def test_a_bucket_made_before_there_was_a_history_gets_one(bus: Bus, settings: ConnectionSettings) -> None:
    config = (await bus.js.stream_info("KV_models")).config
    config.max_msgs_per_subject = 1
    await bus.js.update_stream(config)
    await ActiveModels(bus).activate("kept", "v1")
    await provision(bus.js, settings)
    assert (await bus.js.stream_info("KV_models")).config.max_msgs_per_subject == MODEL_HISTORY
    await ActiveModels(bus).activate("kept", "v2")
    assert await ActiveModels(bus).history("kept") == ["v1", "v2"]
    assert await ActiveModels(bus).before("kept") == "v1"
    assert await ActiveModels(bus).before("none") is None
