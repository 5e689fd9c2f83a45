"""The HTTP server that every service starts: ``/healthz``, ``/readyz``, ``/metrics``; the console adds its pages to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator

import uvicorn
from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from cosmop_common.grpc_server import PortTakenError
from cosmop_common.settings import ServiceSettings
from cosmop_common.telemetry import READY


class HttpServer:
    """uvicorn in the process's own event loop, with the probes on its app."""

    def __init__(self, service: str, settings: ServiceSettings, ready: Callable[[], Awaitable[dict[str, bool]]]) -> None:
        self.app = FastAPI(title=f"COSMOP {service}", docs_url=None, redoc_url=None)
        self._settings = settings
        self._task: asyncio.Task[None] | None = None
        self._server: uvicorn.Server | None = None
        self._add_probes(ready)

    def _add_probes(self, ready: Callable[[], Awaitable[dict[str, bool]]]) -> None:
        @self.app.get("/healthz", include_in_schema=False)
        async def healthz() -> dict[str, str]:
            return {"status": "alive"}

        @self.app.get("/readyz", include_in_schema=False)
        async def readyz(response: Response) -> dict[str, bool]:
            parts = await ready()
            READY.set(all(parts.values()))
            response.status_code = 200 if all(parts.values()) else 503
            return parts

        @self.app.get("/metrics", include_in_schema=False)
        async def metrics() -> Response:
            return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    async def start(self) -> int:
        """Binds and serves; returns the port."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self._settings.bind, self._settings.http_port))
        except OSError as error:
            listener.close()
            raise PortTakenError(f"{self._settings.bind}:{self._settings.http_port}", "COSMOP_HTTP_PORT") from error
        # h11 by name: which parser is installed besides must not decide.
        config = uvicorn.Config(self.app, http="h11", log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=3)
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))
        return int(listener.getsockname()[1])

    async def stop(self) -> None:
        """Finishes requests in flight and ends."""
        if self._server and self._task:
            self._server.should_exit = True
            await self._task


class _Server(uvicorn.Server):
    """Signals belong to the runtime, not to uvicorn."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield
