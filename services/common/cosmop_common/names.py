"""Names of subjects and object keys: the one place that spells them (docs/architecture.md, "Streams, subjects, keys")."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from google.protobuf.message import Message

from cosmop_common.errors import InvalidInputError
from cosmop_common.pb.cosmop.v1 import facts_pb2

Fact = (
    facts_pb2.Scraped
    | facts_pb2.Sighted
    | facts_pb2.Hashed
    | facts_pb2.Deduplicated
    | facts_pb2.Screened
    | facts_pb2.Classified
    | facts_pb2.Labelled
    | facts_pb2.Erased
)

#: Kinds of facts, in the order of the stages.
FACT_KINDS: dict[str, type[Fact]] = {
    "scraped": facts_pb2.Scraped,
    "sighted": facts_pb2.Sighted,
    "hashed": facts_pb2.Hashed,
    "deduplicated": facts_pb2.Deduplicated,
    "screened": facts_pb2.Screened,
    "classified": facts_pb2.Classified,
    "labelled": facts_pb2.Labelled,
    "erased": facts_pb2.Erased,
}
_KIND_OF: dict[type[Message], str] = {cls: kind for kind, cls in FACT_KINDS.items()}

_TOKEN = re.compile(r"^[A-Za-z0-9_-]+$")

FOLDERS = "folders/"
"""Folders uploaded for training lie below it, each under a digest of its names and bytes: what is there never changes."""


def sha256_hex(data: bytes) -> str:
    """An image's id: sha256 of its bytes, 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def token(text: str) -> str:
    """Checks one token of a subject: no dot, space or wildcard. Raises ``InvalidInputError``."""
    if not _TOKEN.match(text):
        raise InvalidInputError(f"{text!r} cannot be part of a subject: use letters, digits, dashes and underscores")
    return text


def kind_of(fact: Message | type[Message]) -> str:
    """``Scraped`` -> ``scraped``."""
    return _KIND_OF[fact if isinstance(fact, type) else type(fact)]


def facts_stream(kind: str) -> str:
    """``scraped`` -> ``FACTS_SCRAPED``."""
    return f"FACTS_{kind.upper()}"


def fact_subject(fact: Fact) -> str:
    """The subject on which this fact is the last value."""
    more: Sequence[str] = ()
    if isinstance(fact, facts_pb2.Sighted):
        more = (hashlib.sha256(fact.image_url.encode()).hexdigest()[:16],)
    elif isinstance(fact, facts_pb2.Labelled):
        more = (fact.labeller,)
    return subject_of(kind_of(fact), fact.collection, fact.image, *more)


def subject_of(kind: str, collection: str, image: str, *more: str) -> str:
    """``cosmop.facts.<kind>.<collection>.<image>[.<more>]``."""
    return ".".join(("cosmop.facts", kind, token(collection), token(image), *map(token, more)))


def job_subject(service: str, kind: str) -> str:
    """``cosmop.jobs.<service>.<kind>``."""
    return f"cosmop.jobs.{token(service)}.{token(kind)}"


def image_key(image: str) -> str:
    """``images/<aa>/<sha256>``."""
    return f"images/{image[:2]}/{image}"


def label_key(collection: str, ulid: str) -> str:
    """``labels/<collection>/<ulid>``."""
    return f"labels/{collection}/{ulid}"


def dataset_key(collection: str, version: str, name: str) -> str:
    """``datasets/<collection>/<version>/<name>``."""
    return f"datasets/{collection}/{version}/{name}"


def run_key(run: str, name: str) -> str:
    """``runs/<run>/<name>``."""
    return f"runs/{run}/{name}"


def snapshot_key(run: str, kimg: float, name: str) -> str:
    """``runs/<run>/snapshots/<images shown, 9 digits>/<name>``: sorts in kimg order."""
    return run_key(run, f"snapshots/{round(kimg * 1000):09d}/{name}")


def model_key(model: str, version: str, name: str) -> str:
    """``models/<model>/<version>/<name>``."""
    return f"models/{model}/{version}/{name}"


def report_key(run: str, name: str) -> str:
    """``reports/<run>/<name>``."""
    return f"reports/{run}/{name}"


def evaluation_key(gan_run: str, kimg: float) -> str:
    """``runs/<gan run>/evaluations/<images shown, 9 digits>.json``."""
    return run_key(gan_run, f"evaluations/{round(kimg * 1000):09d}.json")
