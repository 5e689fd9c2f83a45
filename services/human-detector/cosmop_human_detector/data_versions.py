"""A dataset version of the store as labelled images: ``dataset:<collection>/<version>[?people=a,b&none=c]``.

The classes named by ``people`` show people, those named by ``none`` do not; ``*`` is all that the other does not name. Without either, the
classes ``human`` and ``people`` show people, ``no_human`` and ``none`` do not. Images of other classes are left out. The version's own
groups of near-duplicates are kept together.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar
from urllib.parse import parse_qs

from cosmop_common.datasets import load_dataset
from cosmop_common.errors import NotFoundError, RefusedImageError
from cosmop_common.pb.cosmop.v1 import facts_pb2
from cosmop_common.settings import ConnectionSettings
from cosmop_common.store import Store

from cosmop_human_detector.errors import TrainingDataError
from cosmop_human_detector.samples import Sample

T = TypeVar("T")
_ALL = "*"
_DEFAULT = {"people": {"human", "people"}, "none": {"no_human", "none"}}


class BlockingStore:
    """The object store for threads: an event loop of its own, started at the first call."""

    def __init__(self, settings: ConnectionSettings) -> None:
        """Connects to nothing yet."""
        self._settings = settings
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._store: Store | None = None
        self._thread: threading.Thread | None = None

    def call(self, work: Callable[[Store], Coroutine[Any, Any, T]]) -> T:
        """Runs a coroutine on the store and waits for it."""
        with self._starting:
            if self._loop is None:
                self._loop, self._store = asyncio.new_event_loop(), Store(self._settings)
                self._thread = threading.Thread(target=self._loop.run_forever, name="blocking-store", daemon=True)
                self._thread.start()
        assert self._store is not None
        return asyncio.run_coroutine_threadsafe(work(self._store), self._loop).result()

    def close(self) -> None:
        """Ends the loop and its thread."""
        if self._loop is not None and self._store is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._store.close()
            self._loop = None


class VersionSource:
    """See the module."""

    def __init__(self, place: str, store: BlockingStore) -> None:
        """Reads nothing yet. Raises ``TrainingDataError`` where the string names other filters."""
        self.dataset, _, query = place.partition("?")
        told = {key: set(values[0].split(",")) for key, values in parse_qs(query).items()}
        if unknown := set(told) - set(_DEFAULT):
            raise TrainingDataError(f"dataset:{place}: unknown {', '.join(sorted(unknown))}; known are people and none, each a list of classes")
        self._classes: dict[str, set[str]] = ({"people": set(), "none": set()} | told) if told else _DEFAULT
        self._store = store
        self.left_out: Counter[str] = Counter()

    def samples(self) -> Iterator[Sample]:
        """See ``Source``. Raises ``NotFoundError`` where there is no such version."""
        self.left_out.clear()
        record, rows = self._store.call(lambda store: load_dataset(store, self.dataset))
        used = 0
        for row in rows:
            people = self.shows_people(row.label)
            if people is None:
                self.left_out["other_class"] += 1
                continue
            used += 1
            yield Sample(row.image, people, f"dataset:{record.collection}", row.image, row.group)
        if not used:
            raise TrainingDataError(
                f"dataset:{self.dataset} has the classes {', '.join(record.classes)}, none of which says whether people are on an image: "
                f"say it, as in dataset:{self.dataset}?people={record.classes[0]}&none={record.classes[-1]}"
            )

    def shows_people(self, label: str) -> bool | None:
        """What a class says of people; None: nothing."""
        for word, people, other in (("people", True, "none"), ("none", False, "people")):
            if label in self._classes[word] or (_ALL in self._classes[word] and label not in self._classes[other]):
                return people
        return None

    def read(self, sample: Sample) -> bytes:
        """See ``Source``."""
        try:
            return self._store.call(lambda store: store.get_image(sample.identity))
        except NotFoundError as error:
            raise RefusedImageError(facts_pb2.REFUSAL_REASON_CORRUPT, f"{sample.name} is not in the store any more: {error}") from error
