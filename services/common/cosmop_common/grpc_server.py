"""The gRPC server that every service starts: health with Watch, reflection, TLS and tokens by settings, our errors as statuses."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from cosmop_common.errors import CosmopError
from cosmop_common.grpc_security import ServerSecurity, TokenGuard
from cosmop_common.settings import ServiceSettings
from cosmop_common.telemetry import REQUESTS

log = logging.getLogger(__name__)


class GrpcServer:
    """A grpc.aio server."""

    def __init__(self, settings: ServiceSettings, security: ServerSecurity | None = None) -> None:
        """Prepares; ``security`` is read from the environment unless given. Raises ``SecuritySettingsError``."""
        security = security or ServerSecurity()
        self._credentials = security.credentials()
        options = [
            ("grpc.max_send_message_length", settings.max_message_bytes),
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.so_reuseport", 0),
        ]
        tokens = security.accepted()
        self.server = grpc.aio.server(interceptors=[_Errors(), *([TokenGuard(tokens)] if tokens else [])], options=options)
        self.health = HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        self._names = [health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME]
        self._address = f"{settings.bind}:{settings.grpc_port}"
        self._drain_seconds = settings.drain_seconds

    def name(self, *services: str) -> None:
        """Full names of the services served, for reflection and health."""
        self._names.extend(services)

    async def start(self) -> int:
        """Binds and serves; returns the port."""
        reflection.enable_server_reflection(self._names, self.server)
        try:
            add, more = (self.server.add_insecure_port, ()) if self._credentials is None else (self.server.add_secure_port, (self._credentials,))
            port = add(self._address, *more)
        except RuntimeError as error:
            raise PortTakenError(self._address, "COSMOP_GRPC_PORT") from error
        await self.server.start()
        return port

    async def set_ready(self, ready: bool) -> None:
        """What health answers for the server and each of its services."""
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *self._names):
            await self.health.set(name, status)

    async def stop(self) -> None:
        """Says NOT_SERVING, finishes calls in flight, ends."""
        await self.health.enter_graceful_shutdown()
        await self.server.stop(self._drain_seconds)


class PortTakenError(CosmopError):
    """Another process listens on the port. Status: UNAVAILABLE."""

    grpc_code = grpc.StatusCode.UNAVAILABLE

    def __init__(self, address: str, setting: str) -> None:
        super().__init__(f"{address} is taken by another process: end that one, or choose another port with {setting}")


class _Errors(grpc.aio.ServerInterceptor):
    """Turns our errors into their statuses, and counts calls."""

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]], details: grpc.HandlerCallDetails
    ) -> Any:
        handler: Any = await continuation(details)
        if handler is None:
            return None
        method = details.method
        if handler.response_streaming:
            behaviour = _wrap_stream(handler.stream_stream or handler.unary_stream, method)
            make = grpc.stream_stream_rpc_method_handler if handler.request_streaming else grpc.unary_stream_rpc_method_handler
        else:
            behaviour = _wrap_unary(handler.stream_unary or handler.unary_unary, method)
            make = grpc.stream_unary_rpc_method_handler if handler.request_streaming else grpc.unary_unary_rpc_method_handler
        return make(behaviour, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer)


def _wrap_unary(call: Any, method: str) -> Any:
    async def wrapped(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            answer = await call(request, context)
        except Exception as error:  # noqa: BLE001 - everything that leaves a servicer becomes a status
            await _abort(context, error, method)
        REQUESTS.labels(method, "OK").inc()
        return answer

    return wrapped


def _wrap_stream(call: Any, method: str) -> Any:
    async def wrapped(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            answers = call(request, context)
            if hasattr(answers, "__aiter__"):
                async for answer in answers:
                    yield answer
            else:  # a servicer that writes to the context itself (health.Watch)
                await answers
        except Exception as error:  # noqa: BLE001
            await _abort(context, error, method)
        REQUESTS.labels(method, "OK").inc()

    return wrapped


async def _abort(context: grpc.aio.ServicerContext[Any, Any], error: Exception, method: str) -> None:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, CosmopError):
        REQUESTS.labels(method, error.grpc_code.name).inc()
        await context.abort(error.grpc_code, str(error))
    log.error("%s failed", method, exc_info=error)
    REQUESTS.labels(method, "INTERNAL").inc()
    await context.abort(grpc.StatusCode.INTERNAL, f"internal error: {type(error).__name__}; the service's log has the rest")


def descriptor_names(modules: Sequence[Any]) -> list[str]:
    """Full names of all services that generated modules declare."""
    return [service.full_name for module in modules for service in module.DESCRIPTOR.services_by_name.values()]
