"""TLS and tokens of gRPC, on both sides of a connection, by settings alone.

A server with ``COSMOP_GRPC_TLS_CERT`` and ``COSMOP_GRPC_TLS_KEY`` speaks TLS and nothing else; with ``COSMOP_GRPC_TLS_CLIENT_CA`` it also
asks its callers for a certificate (mutual TLS). With ``COSMOP_GRPC_TOKENS`` each call must carry ``authorization: Bearer <token>`` (RFC 6750,
section 2.1); health stays open, because probes have no secrets. Callers read ``COSMOP_GRPC_TLS_CA``, ``..._CLIENT_CERT``, ``..._CLIENT_KEY`` and
``COSMOP_GRPC_TOKEN``. The names of both sides differ, so that one environment can serve a whole system.
"""

from __future__ import annotations

import hmac
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import grpc
from pydantic import SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from cosmop_common.errors import CosmopError, InvalidInputError

_OPEN = "/grpc.health.v1.Health/"
_HEADER = "authorization"


class SecuritySettingsError(InvalidInputError):
    """TLS settings that contradict each other, or name a file that cannot be read."""


class UnauthenticatedError(CosmopError):
    """A call without a valid token. Status: UNAUTHENTICATED."""

    grpc_code = grpc.StatusCode.UNAUTHENTICATED
    permanent = True


class ServerSecurity(BaseSettings):
    """What a gRPC server demands of its callers. Read from the environment as ``COSMOP_GRPC_...``."""

    model_config = SettingsConfigDict(env_prefix="COSMOP_GRPC_", env_ignore_empty=True, extra="ignore")

    tls_cert: Path | None = None
    """PEM file: the server's certificate, and the chain behind it."""
    tls_key: Path | None = None
    """PEM file: its private key."""
    tls_client_ca: Path | None = None
    """PEM file: who signs the callers' certificates; set, a caller without one is turned away."""
    tokens: SecretStr = SecretStr("")
    """Tokens that are taken, separated by commas (the old and the new one while they are exchanged); empty: none is asked for."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise SecuritySettingsError("COSMOP_GRPC_TLS_CERT and COSMOP_GRPC_TLS_KEY belong together: set both, or neither")
        if self.tls_client_ca and not self.tls_cert:
            raise SecuritySettingsError("COSMOP_GRPC_TLS_CLIENT_CA without COSMOP_GRPC_TLS_CERT: callers can show certificates only over TLS")
        return self

    def credentials(self) -> grpc.ServerCredentials | None:
        """What the port is opened with; None for plain text. Raises ``SecuritySettingsError``."""
        if self.tls_cert is None or self.tls_key is None:
            return None
        pair = [(read_pem(self.tls_key), read_pem(self.tls_cert))]
        try:
            # gRPC itself says of a wrong pair only that the port cannot be bound.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.tls_cert.expanduser(), self.tls_key.expanduser())
        except ssl.SSLError as error:
            raise SecuritySettingsError(f"{self.tls_cert} and {self.tls_key} do not belong to each other, or are no certificate and key ({error})") from error
        authority = read_pem(self.tls_client_ca) if self.tls_client_ca else None
        return grpc.ssl_server_credentials(pair, authority, require_client_auth=authority is not None)

    def accepted(self) -> list[bytes]:
        """The tokens, as they come over the wire."""
        return [token.strip().encode() for token in self.tokens.get_secret_value().split(",") if token.strip()]


class ClientSecurity(BaseSettings):
    """What a caller trusts and shows. Read from the environment as ``COSMOP_GRPC_...``."""

    model_config = SettingsConfigDict(env_prefix="COSMOP_GRPC_", env_ignore_empty=True, extra="ignore")

    tls_ca: Path | None = None
    """PEM file: who signs the servers' certificates; set, connections are TLS."""
    tls_client_cert: Path | None = None
    """PEM file: the caller's own certificate, for servers that ask for one."""
    tls_client_key: Path | None = None
    tls_server_name: str = ""
    """The name that the server's certificate is issued for, where it is not the one that is dialled."""
    token: SecretStr = SecretStr("")
    """Sent with every call. Without TLS it crosses the network in plain text: only inside a mesh that encrypts, or on loopback."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.tls_client_cert is None) != (self.tls_client_key is None):
            raise SecuritySettingsError("COSMOP_GRPC_TLS_CLIENT_CERT and COSMOP_GRPC_TLS_CLIENT_KEY belong together: set both, or neither")
        if self.tls_client_cert and not self.tls_ca:
            raise SecuritySettingsError("COSMOP_GRPC_TLS_CLIENT_CERT without COSMOP_GRPC_TLS_CA: a certificate can be shown only over TLS")
        return self

    def credentials(self) -> grpc.ChannelCredentials | None:
        """What a channel is opened with; None for plain text. Raises ``SecuritySettingsError``."""
        if self.tls_ca is None:
            return None
        key = read_pem(self.tls_client_key) if self.tls_client_key else None
        return grpc.ssl_channel_credentials(read_pem(self.tls_ca), key, read_pem(self.tls_client_cert) if self.tls_client_cert else None)

    def interceptors(self) -> list[grpc.aio.ClientInterceptor]:
        """What adds the token to every call, one for each shape of call; none where there is no token."""
        token = self.token.get_secret_value()
        return [kind(token) for kind in (_TokenUnary, _TokenAnswers, _TokenRequests, _TokenBoth)] if token else []


class TokenGuard(grpc.aio.ServerInterceptor):
    """Turns away calls without one of the tokens."""

    def __init__(self, tokens: list[bytes]) -> None:
        self._tokens = tokens

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]], details: grpc.HandlerCallDetails
    ) -> Any:
        """Lets the call through, or answers UNAUTHENTICATED in its handler's stead."""
        handler: Any = await continuation(details)
        if handler is None or details.method.startswith(_OPEN) or self._known(details):
            return handler
        return _refusing(handler)

    def _known(self, details: grpc.HandlerCallDetails) -> bool:
        said = [value if isinstance(value, bytes) else value.encode() for name, value in details.invocation_metadata if name == _HEADER]
        if len(said) != 1 or said[0][:7].lower() != b"bearer ":
            return False
        # All are compared, each in constant time: neither a token's place nor its beginning can be timed.
        return sum(hmac.compare_digest(said[0][7:], token) for token in self._tokens) > 0


def read_pem(path: Path) -> bytes:
    """A PEM file. Raises ``SecuritySettingsError``."""
    try:
        data = path.expanduser().read_bytes()
    except OSError as error:
        raise SecuritySettingsError(f"{path} cannot be read ({error.strerror}): COSMOP_GRPC_TLS_... names PEM files") from error
    if b"-----BEGIN " not in data:
        raise SecuritySettingsError(f"{path} is no PEM file: it has no -----BEGIN line")
    return data


def _refusing(handler: Any) -> Any:
    """A handler of the same shape that only says no."""

    async def refuse(_request: Any, _context: Any) -> Any:
        raise UnauthenticatedError("no valid token: send the metadata 'authorization: Bearer <token>' with one of the server's COSMOP_GRPC_TOKENS")

    async def refuse_stream(request: Any, context: Any) -> Any:
        await refuse(request, context)
        yield

    if handler.response_streaming:
        make = grpc.stream_stream_rpc_method_handler if handler.request_streaming else grpc.unary_stream_rpc_method_handler
        return make(refuse_stream, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer)
    make_unary = grpc.stream_unary_rpc_method_handler if handler.request_streaming else grpc.unary_unary_rpc_method_handler
    return make_unary(refuse, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer)


class _Token:
    def __init__(self, token: str) -> None:
        self._token = token

    def _with_token(self, details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        metadata = grpc.aio.Metadata(*(details.metadata or ()))
        metadata.add(_HEADER, f"Bearer {self._token}")
        return grpc.aio.ClientCallDetails(details.method, details.timeout, metadata, details.credentials, details.wait_for_ready)


class _TokenUnary(_Token, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, details: grpc.aio.ClientCallDetails, request: Any) -> Any:
        return await continuation(self._with_token(details), request)


class _TokenAnswers(_Token, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, details: grpc.aio.ClientCallDetails, request: Any) -> Any:
        return await continuation(self._with_token(details), request)


class _TokenRequests(_Token, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, details: grpc.aio.ClientCallDetails, requests: Any) -> Any:
        return await continuation(self._with_token(details), requests)


class _TokenBoth(_Token, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, details: grpc.aio.ClientCallDetails, requests: Any) -> Any:
        return await continuation(self._with_token(details), requests)
