"""Where the gRPC endpoints are, and channels to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
from pydantic_settings import BaseSettings, SettingsConfigDict

from cosmop_common.grpc_security import ClientSecurity


class Endpoints(BaseSettings):
    """``host:port`` of each service's gRPC; the defaults are the names of the Kubernetes and compose services."""

    model_config = SettingsConfigDict(env_prefix="COSMOP_", env_ignore_empty=True, extra="ignore")

    scraper_addr: str = "scraper:50051"
    dedup_addr: str = "dedup:50051"
    human_detector_addr: str = "human-detector:50051"
    gan_trainer_addr: str = "gan-trainer:50051"
    fid_evaluator_addr: str = "fid-evaluator:50051"
    classifier_addr: str = "classifier:50051"
    console_addr: str = "console:50051"


def channel(
    address: str, max_message_bytes: int = 64 << 20, *, security: ClientSecurity | None = None, options: Sequence[tuple[str, Any]] = ()
) -> grpc.aio.Channel:
    """A channel to one service; spreads calls over its pods where the name has several addresses.

    Args:
        address: host:port.
        max_message_bytes: largest message sent or taken.
        security: TLS and token; read from the environment unless given.
        options: further options of gRPC's.
    """
    security = security or ClientSecurity()
    every: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.lb_policy_name", "round_robin"),
        # A proxy of the environment is for the internet, never for our own services.
        ("grpc.enable_http_proxy", 0),
        *options,
    ]
    credentials, interceptors = security.credentials(), security.interceptors()
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=every, interceptors=interceptors)
    if security.tls_server_name:
        every.append(("grpc.ssl_target_name_override", security.tls_server_name))
    return grpc.aio.secure_channel(address, credentials, options=every, interceptors=interceptors)
