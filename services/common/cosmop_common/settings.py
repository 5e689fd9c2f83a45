"""Typed settings that every service shares. Each service's ``settings.py`` extends ``ServiceSettings``."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from cosmop_common.errors import InvalidInputError

#: Words that nobody may keep as a secret outside development.
_WELL_KNOWN_SECRETS = {"", "minioadmin", "password", "secret", "cosmop", "changeme"}


class DefaultSecretError(InvalidInputError):
    """A service outside development was started with no secret, or with a well-known one."""


class ConnectionSettings(BaseSettings):
    """Where NATS and the object store are: all that a client needs (the ``cosmop`` command, tests)."""

    model_config = SettingsConfigDict(env_prefix="COSMOP_", extra="ignore")

    environment: Literal["development", "production"] = "development"
    """``production`` refuses to start on default secrets."""

    nats_url: str = "nats://127.0.0.1:4222"
    """Address of the NATS server, or several, separated by commas."""
    nats_user: str = ""
    nats_password: SecretStr = SecretStr("")

    s3_endpoint: str = "127.0.0.1:9000"
    """``host:port`` of the object store's S3 API."""
    s3_access_key: str = ""
    s3_secret_key: SecretStr = SecretStr("")
    s3_secure: bool = False
    """TLS towards the object store."""
    s3_bucket: str = "cosmop"

    connect_seconds: float = 30.0
    """How long to try to reach NATS and the store at start before giving up."""

    stream_max_bytes: int = 1 << 30
    """Bound of each stream of facts; a full one refuses new facts and the stages before it pause."""
    nats_replicas: int = Field(default=1, ge=1, le=5)
    """NATS servers that hold each stream; 3 on a cluster of three."""
    ack_wait: float = 30.0
    """Seconds without a heartbeat after which a message is given to another worker."""
    max_attempts: int = 5
    """Deliveries of a message after which it is put among the dead letters."""

    @model_validator(mode="after")
    def _refuse_default_secrets(self) -> Self:
        if self.environment == "development":
            return self
        for name in ("nats_password", "s3_secret_key"):
            if getattr(self, name).get_secret_value().lower() in _WELL_KNOWN_SECRETS:
                msg = f"COSMOP_{name.upper()} is empty or a well-known word: set a secret of its own, or COSMOP_ENVIRONMENT=development"
                raise DefaultSecretError(msg)
        return self


class ServiceSettings(ConnectionSettings):
    """What a service process needs on top: its addresses, logs and patience."""

    bind: str = "127.0.0.1"
    """Address to listen on; ``0.0.0.0`` in containers."""
    grpc_port: int = 50051
    http_port: int = 8080
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    drain_seconds: float = 20.0
    """After SIGTERM: how long work in flight may take to finish."""
    max_message_bytes: int = 64 << 20
    """Largest gRPC message taken or sent."""
    workers: int = Field(default=2, ge=1)
    """Messages in flight at once in each consumer of this process."""
