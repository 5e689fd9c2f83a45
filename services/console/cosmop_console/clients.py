"""Channels to all services: what the pipeline and the ``cosmop`` command speak through."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
from cosmop_common.endpoints import Endpoints, channel
from cosmop_common.errors import CosmopError, InvalidInputError, NotFoundError, NotReadyError, UnreachableError
from cosmop_common.pb.cosmop.v1 import (
    classifier_pb2_grpc,
    console_pb2_grpc,
    dedup_pb2_grpc,
    fid_evaluator_pb2_grpc,
    gan_trainer_pb2_grpc,
    human_detector_pb2_grpc,
    scraper_pb2_grpc,
)

_ERRORS: dict[grpc.StatusCode, type[CosmopError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInputError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.FAILED_PRECONDITION: NotReadyError,
    grpc.StatusCode.UNAVAILABLE: UnreachableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: UnreachableError,
}


@dataclass(frozen=True)
class Services:
    """One stub for each service."""

    scraper: scraper_pb2_grpc.ScraperAsyncStub
    dedup: dedup_pb2_grpc.DedupAsyncStub
    human_detector: human_detector_pb2_grpc.HumanDetectorAsyncStub
    gan_trainer: gan_trainer_pb2_grpc.GanTrainerAsyncStub
    fid_evaluator: fid_evaluator_pb2_grpc.FidEvaluatorAsyncStub
    classifier: classifier_pb2_grpc.ClassifierAsyncStub
    console: console_pb2_grpc.ConsoleAsyncStub


@contextlib.asynccontextmanager
async def connect(endpoints: Endpoints) -> AsyncIterator[Services]:
    """Opens a channel to each service; nothing is sent before the first call."""
    async with contextlib.AsyncExitStack() as stack:

        async def to(address: str) -> grpc.aio.Channel:
            return await stack.enter_async_context(channel(address))

        yield Services(
            scraper_pb2_grpc.ScraperStub(await to(endpoints.scraper_addr)),
            dedup_pb2_grpc.DedupStub(await to(endpoints.dedup_addr)),
            human_detector_pb2_grpc.HumanDetectorStub(await to(endpoints.human_detector_addr)),
            gan_trainer_pb2_grpc.GanTrainerStub(await to(endpoints.gan_trainer_addr)),
            fid_evaluator_pb2_grpc.FidEvaluatorStub(await to(endpoints.fid_evaluator_addr)),
            classifier_pb2_grpc.ClassifierStub(await to(endpoints.classifier_addr)),
            console_pb2_grpc.ConsoleStub(await to(endpoints.console_addr)),
        )


def known_error(error: grpc.aio.AioRpcError, service: str) -> CosmopError:
    """A status as the error that it was on the other side; one of ours again."""
    kind = _ERRORS.get(error.code(), CosmopError)
    details = error.details() or error.code().name
    if kind is UnreachableError:
        details = f"the {service} service does not answer ({details}): is it up?"
    return kind(details)
