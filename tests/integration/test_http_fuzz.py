"""Any request to the console's pages and API and to the probes that all services share: never a 5xx, never a crash.

The requests are schemathesis's, drawn from an OpenAPI document of the very routes that the console serves (it publishes none: its pages
are no interface that others may rely on).
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import schemathesis
from cosmop_common.bus import Bus
from cosmop_common.collection import Collection
from cosmop_common.collections_kv import Collections
from cosmop_common.facts import Facts
from cosmop_common.pb.cosmop.v1 import facts_pb2
from cosmop_console import web_api, web_files, web_pages
from cosmop_local.servers import free_ports
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "8"))
FEW = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate], database=None)
IMAGE = "ab" * 32


@pytest.fixture
async def console(bus: Bus, environment: dict[str, str], tmp_path: Path) -> AsyncIterator[str]:
    """The address of a running console that knows one collection with one image."""
    await Collections(bus).put(Collection.model_validate({"name": "c", "classes": ["yes", "no"], "positive": "yes"}))
    facts, where = Facts(bus), {"collection": "c", "image": IMAGE}
    await facts.create(facts_pb2.Scraped(**where, width=64, height=64))
    await facts.put(facts_pb2.Deduplicated(**where, kind=facts_pb2.DUPLICATE_KIND_UNIQUE, kept=IMAGE, cause=1))
    await facts.put(facts_pb2.Screened(**where, people=True, score=0.9, threshold=0.5, cause=1))
    (port,) = free_ports(1)
    ports = {"COSMOP_GRPC_PORT": "0", "COSMOP_HTTP_PORT": str(port), "COSMOP_CONSOLE_DATA": str(tmp_path / "data")}
    log = (tmp_path / "log").open("w+")
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "cosmop_console", env=environment | ports, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=address, timeout=60, trust_env=False) as client:
        async with asyncio.timeout(120):
            while not await _ready(client):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.1)
        yield address
        assert process.returncode is None, "the console died"
        assert (await client.get("/readyz")).status_code == 200
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 60) == 0
    log.seek(0)
    assert "Traceback" not in log.read()
    log.close()


async def _ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False


def fuzz_documented(address: str) -> int:
    """Sends requests to every operation; returns how many there are."""
    app = FastAPI()
    for part in (web_api, web_files, web_pages):
        app.include_router(part.router(SimpleNamespace()))
    schema = schemathesis.openapi.from_dict(app.openapi())
    operations = [result.ok() for result in schema.get_all_operations()]
    with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:

        def ask(case: schemathesis.Case) -> None:
            fields = case.as_transport_kwargs()
            answer = client.request(fields["method"], fields["url"], params=fields.get("params"), json=fields.get("json"), content=fields.get("data"))
            # 503: the read model is behind.
            assert answer.status_code < 500 or answer.status_code == 503, f"{case.method} {fields['url']}: {answer.status_code} {answer.text[:300]}"

        for operation in operations:
            FEW(given(operation.as_strategy())(ask))()
    return len(operations)


def fuzz_probes(address: str) -> None:
    """Methods, queries and headers that nobody expects, to the probes."""
    with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:

        @FEW
        @given(
            st.sampled_from(["/healthz", "/readyz", "/metrics"]),
            st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"]),
            st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=3),
            st.dictionaries(st.from_regex(r"[A-Za-z-]{1,12}", fullmatch=True), st.from_regex(r"[ -~]{0,40}", fullmatch=True), max_size=3),
            st.binary(max_size=300),
        )
        def run(path: str, method: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> None:
            answer = client.request(method, path, params=query, headers={f"x-{name}": value for name, value in headers.items()}, content=body)
            assert answer.status_code in {200, 400, 403, 405}, f"{method} {path}: {answer.status_code}"

        run()


async def test_no_request_makes_the_console_fail(console: str) -> None:
    assert await asyncio.to_thread(fuzz_documented, console) > 15
    await asyncio.to_thread(fuzz_probes, console)
