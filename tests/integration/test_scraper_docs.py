"""The source that docs/adding-a-source.md shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

from cosmop_common.collection import ScrapeSettings
from cosmop_scraper.candidate import Source, SourceContext
from cosmop_scraper.fetch import Fetcher
from cosmop_scraper.politeness import Politeness
from cosmop_scraper.settings import Settings
from scraper_servers import serving

PAGE = Path(__file__).resolve().parents[2] / "docs" / "adding-a-source.md"


async def test_the_example_is_a_source() -> None:
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert code is not None
    module: dict[str, type[Source]] = {}
    exec(compile(code.group(1), str(PAGE), "exec"), module)

    async def keep(name: str, data: bytes, media_type: str) -> str:
        return name

    settings = Settings(fetch_attempts=1)
    fetcher = Fetcher(settings, Politeness(1000, 4), respect_robots=True, allow_private=True)
    first = {"entries": [{"image": "http://a.example/1.jpg", "author": "Ann"}]}
    second = {"entries": [{"image": "http://a.example/2.jpg"}]}
    async with serving({"/feed": lambda r: r.json(first | {"next": f"{server.origin}/more"}), "/more": lambda r: r.json(second)}) as server:
        source = module["FeedSource"](SourceContext(settings, ScrapeSettings(), {"tag": "border"}, fetcher, keep))
        found = [candidate async for candidate in source.find(f"{server.origin}/feed")]
        await source.close()
        await fetcher.close()
        assert server.asked == ["/feed?tag=border", "/more?tag=border"]
    assert [(c.image_url, c.author) for c in found] == [("http://a.example/1.jpg", "Ann"), ("http://a.example/2.jpg", "")]
