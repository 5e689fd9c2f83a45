"""``urls``: a list of image URLs in a text, CSV or Parquet file. A query is the file's path, or a URL itself."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import ClassVar

from cosmop_common.errors import InvalidInputError

from cosmop_scraper.candidate import Candidate, SourceContext
from cosmop_scraper.settings import Settings
from cosmop_scraper.sources.folder import local_path

_BATCH = 1000


class UrlListError(InvalidInputError):
    """A list that cannot be read, or has no column of URLs."""


class UrlsSource:
    """URLs one after the other. A table may say more of each image than its URL."""

    name: ClassVar[str] = "urls"
    description: ClassVar[str] = "a text, CSV or Parquet file of image URLs; a query is a path, or one URL"
    options: ClassVar[Mapping[str, str]] = {
        "url_column": "column of the image's URL (default: url or image_url)",
        "page_column": "column of its page's URL (default: page_url or page)",
        "title_column": "column of its title (default: title, caption or text)",
        "licence_column": "column of its licence (default: licence or license)",
        "author_column": "column of its author (default: author or creator)",
    }

    def __init__(self, context: SourceContext) -> None:
        self._root = context.settings.folder_root
        self._columns = {field: (named,) if (named := context.option(f"{field}_column", "")) else usual for field, usual in _USUAL.items()}

    @classmethod
    def unavailable(cls, settings: Settings) -> str:  # noqa: ARG003 - the interface of all sources
        """Always available."""
        return ""

    async def find(self, query: str) -> AsyncGenerator[Candidate, None]:
        """One candidate a line or row. Raises ``UrlListError``."""
        if query.startswith(("http://", "https://")):
            yield Candidate(query, query=query)
            return
        path = local_path(query, self._root)
        rows = _rows(path, self._columns)
        while batch := await asyncio.to_thread(_take, rows, path):
            for row in filter(itemgetter("url"), batch):
                yield Candidate(
                    row["url"], row.get("page") or "", query, title=row.get("title") or "", licence=row.get("licence") or "", author=row.get("author") or ""
                )

    async def close(self) -> None:
        """Holds nothing."""


#: Names that a column may have, capitals or not, where no option names it.
_USUAL = {
    "url": ("url", "image_url"),
    "page": ("page_url", "page"),
    "title": ("title", "caption", "text"),
    "licence": ("licence", "license"),
    "author": ("author", "creator"),
}
Row = dict[str, str]


def _take(rows: Iterator[Row], path: Path) -> list[Row]:
    try:
        return list(islice(rows, _BATCH))
    except (OSError, ValueError, csv.Error) as error:  # of pyarrow and of decoding, too
        raise UrlListError(f"{path} cannot be read: {error}") from error


def _rows(path: Path, wanted: Mapping[str, Sequence[str]]) -> Iterator[Row]:
    """Rows of a file, by its suffix; only the columns wanted."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        yield from _parquet(path, wanted)
    elif suffix in {".csv", ".tsv"}:
        with path.open(newline="", encoding="utf-8-sig") as source:
            reader = csv.DictReader(source, delimiter="\t" if suffix == ".tsv" else ",")
            columns = _columns(path, wanted, reader.fieldnames or [])
            for row in reader:
                yield {field: (row.get(column) or "").strip() for field, column in columns.items()}
    else:
        with path.open(encoding="utf-8-sig") as source:
            for line in source:
                if line.strip() and not line.startswith("#"):
                    yield {"url": line.strip()}


def _parquet(path: Path, wanted: Mapping[str, Sequence[str]]) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise UrlListError(f"{path} is no Parquet file: {error}") from error
    columns = _columns(path, wanted, table.schema_arrow.names)
    for batch in table.iter_batches(batch_size=_BATCH, columns=list(columns.values())):
        for row in batch.to_pylist():
            yield {field: str(row[column] or "").strip() for field, column in columns.items()}


def _columns(path: Path, wanted: Mapping[str, Sequence[str]], names: Sequence[str]) -> dict[str, str]:
    """Which column of a table holds what; what has none is left out. Raises ``UrlListError`` where no column holds the URLs."""
    by_name = {name.lower(): name for name in reversed(names)} | {name: name for name in names}
    found = {field: next((by_name[u] for u in usual if u in by_name), "") for field, usual in wanted.items()}
    if not found["url"]:
        what = " or ".join(map(repr, wanted["url"]))
        raise UrlListError(f"{path} has no column {what} but {', '.join(names) or 'none'}: name it with the option url_column")
    return {field: column for field, column in found.items() if column}
