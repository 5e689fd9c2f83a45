"""TLS, mutual TLS and tokens over a real channel: who is let in, who is turned away, and what settings cannot be."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest
from cosmop_classifier.client import ClassifierClient
from cosmop_classifier.oip_service import InferenceServicer
from cosmop_common.endpoints import channel
from cosmop_common.grpc_security import ClientSecurity, SecuritySettingsError, ServerSecurity
from cosmop_common.grpc_server import GrpcServer
from cosmop_common.pb.inference import grpc_service_pb2 as pb
from cosmop_common.pb.inference import grpc_service_pb2_grpc
from cosmop_common.settings import ServiceSettings
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a server's certificate for 127.0.0.1, a caller's, and one that nobody signed."""
    folder = tmp_path_factory.mktemp("pems")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "stranger"):
        openssl("req", "-x509", *curve, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}", "-days", "2")
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1,DNS:classifier")
    for name in ("server", "caller"):
        openssl("req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", f"{name}.pem", "-days", "2", "-extfile", "san"
        )
    return folder


@asynccontextmanager
async def serving(**security) -> AsyncIterator[str]:
    server = GrpcServer(ServiceSettings(grpc_port=0, drain_seconds=0), ServerSecurity(**security))
    grpc_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(InferenceServicer(SimpleNamespace(), SimpleNamespace(), lambda: True), server.server)
    port = await server.start()
    await server.set_ready(True)
    yield f"127.0.0.1:{port}"
    await server.stop()


async def live(address: str, **security) -> bool:
    async with channel(address, security=ClientSecurity(**security)) as link:
        return (await grpc_service_pb2_grpc.GRPCInferenceServiceStub(link).ServerLive(pb.ServerLiveRequest(), timeout=60)).live


async def refused(address: str, **security) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await live(address, **security)
    return failed.value


def tls(pems: Path) -> dict[str, Path]:
    return {"tls_cert": pems / "server.pem", "tls_key": pems / "server.key"}


async def test_over_tls_only_who_trusts_the_authority_gets_an_answer(pems: Path) -> None:
    async with serving(**tls(pems)) as address:
        assert await live(address, tls_ca=pems / "ca.pem")
        assert await live(address, tls_ca=pems / "ca.pem", tls_server_name="classifier")
        assert (await refused(address, tls_ca=pems / "stranger.pem")).code() == grpc.StatusCode.UNAVAILABLE
        assert (await refused(address)).code() == grpc.StatusCode.UNAVAILABLE, "plain text must find nobody"


async def test_mutual_tls_asks_the_caller_for_a_certificate(pems: Path) -> None:
    async with serving(**tls(pems), tls_client_ca=pems / "ca.pem") as address:
        ours = {"tls_ca": pems / "ca.pem"}
        assert await live(address, **ours, tls_client_cert=pems / "caller.pem", tls_client_key=pems / "caller.key")
        assert (await refused(address, **ours)).code() == grpc.StatusCode.UNAVAILABLE
        stranger = {"tls_client_cert": pems / "stranger.pem", "tls_client_key": pems / "stranger.key"}
        assert (await refused(address, **ours, **stranger)).code() == grpc.StatusCode.UNAVAILABLE


async def test_without_one_of_the_tokens_nothing_but_health_answers(pems: Path) -> None:
    async with serving(tokens="old-one, new-one") as address:
        assert await live(address, token="old-one")
        assert await live(address, token="new-one")
        for token in ("", "old-on", "old-one, new-one", "OLD-ONE"):
            error = await refused(address, token=token)
            assert error.code() == grpc.StatusCode.UNAUTHENTICATED
            assert "authorization: Bearer" in error.details()
            assert "old-one" not in error.details()
        async with channel(address, security=ClientSecurity()) as link:
            health = health_pb2_grpc.HealthStub(link)
            assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
            watch = health.Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            watch.cancel()
            asked = reflection_pb2_grpc.ServerReflectionStub(link).ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await asked.read()
            assert failed.value.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_the_typed_client_reads_it_from_the_environment(pems: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSMOP_GRPC_TLS_CA", str(pems / "ca.pem"))
    monkeypatch.setenv("COSMOP_GRPC_TOKEN", "secret")
    async with serving(**tls(pems), tokens="secret") as address:
        async with ClassifierClient(address, collection="c") as client:
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await client.models()
        # Let in, and told that this server has no Classifier.
        assert failed.value.code() == grpc.StatusCode.UNIMPLEMENTED
        async with channel(address, security=ClientSecurity(tls_ca=pems / "ca.pem", token="another")) as link:
            asked = reflection_pb2_grpc.ServerReflectionStub(link).ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await asked.read()
        assert failed.value.code() == grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tls_cert": "server.pem"}, "belong together"),
        ({"tls_client_ca": "ca.pem"}, "only over TLS"),
        ({"tls_cert": "none.pem", "tls_key": "server.key"}, "none.pem cannot be read"),
        ({"tls_cert": "san", "tls_key": "server.key"}, "is no PEM file"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_start(pems: Path, fields: dict[str, str], message: str) -> None:
    with pytest.raises(SecuritySettingsError, match=message):
        ServerSecurity(**{name: pems / value for name, value in fields.items()}).credentials()


async def test_a_key_of_another_certificate_is_refused_at_start(pems: Path) -> None:
    with pytest.raises(SecuritySettingsError, match="do not belong to each other"):
        await GrpcServer(ServiceSettings(grpc_port=0), ServerSecurity(tls_cert=pems / "server.pem", tls_key=pems / "caller.key")).start()
