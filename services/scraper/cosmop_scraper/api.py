"""Asking a JSON API, whose own terms govern instead of robots.txt; and plain text out of the HTML that some answer with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

from cosmop_scraper.errors import FetchError
from cosmop_scraper.fetch import Fetcher

_MAX_ANSWER_BYTES = 32 << 20


class ApiAnswerError(FetchError):
    """An API answered with something that is not the JSON it promises."""

    why = "answer"
    transient = False


async def get_json(fetcher: Fetcher, url: str, words: Mapping[str, str], headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The JSON object at a URL with these query parameters. Raises ``FetchError``, ``ApiAnswerError``."""
    answer = await fetcher.get(f"{url}?{urlencode(words)}", max_bytes=_MAX_ANSWER_BYTES, accept="application/json", headers=headers, robots=False)
    try:
        value = json.loads(answer.body)
    except ValueError as error:
        raise ApiAnswerError(f"{url} answers with no JSON but {answer.content_type or 'something'}: {answer.body[:80]!r}") from error
    if not isinstance(value, dict):
        raise ApiAnswerError(f"{url} answers with a JSON {type(value).__name__}, not an object")
    return value


def plain_text(html: object) -> str:
    """The words of a piece of HTML, on one line."""
    reader = _Words()
    reader.feed(str(html or ""))
    reader.close()
    return " ".join("".join(reader.words).split())


class _Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - HTMLParser's interface
        if tag in {"br", "p", "div", "li", "td"}:
            self.words.append(" ")

    def handle_data(self, data: str) -> None:
        self.words.append(data)
