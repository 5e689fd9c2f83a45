"""The pages of the demonstration site: what they show, and how their links are written. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import PurePosixPath
from urllib.parse import quote, urlencode

_STYLE = """<style>
body{font:14px/1.4 system-ui,sans-serif;margin:0;color:#202124}header{padding:16px 24px;border-bottom:1px solid #dadce0}
main{display:flex;flex-wrap:wrap;gap:12px;padding:24px}figure{margin:0;width:150px}figure img{width:150px;height:112px;object-fit:cover;border-radius:8px}
figcaption{overflow:hidden;text-overflow:ellipsis;white-space:nowrap;color:#4d5156}footer{padding:24px}
</style>"""


@dataclass(frozen=True)
class Photo:
    """A photo of the folder."""

    number: int
    #: Relative to the folder, with slashes.
    path: str
    image_origin: str

    @property
    def image_url(self) -> str:
        """Where its bytes are."""
        return f"{self.image_origin}/{quote(self.path)}"

    @property
    def title(self) -> str:
        """What the page calls it."""
        return PurePosixPath(self.path).stem.replace("_", " ")


def imgres(photo: Photo, size: tuple[int, int]) -> str:
    """The link of a result, written as image searches write it."""
    identity = hashlib.sha256(photo.path.encode()).hexdigest()[:14]
    words = {
        "imgurl": photo.image_url,
        "imgrefurl": f"{photo.image_origin}/photo/{photo.number}",
        "w": size[0],
        "h": size[1],
        "tbnid": identity,
        "docid": identity[::-1],
    }
    return f"/imgres?{urlencode(words)}"


def search_page(query: str, shown: Sequence[tuple[Photo, tuple[int, int]]], inline: Mapping[int, str], total: int, following: int | None) -> str:
    """A page of results; ``inline`` holds the thumbnails that stand in the page itself; ``following`` is where the next page starts."""
    if not shown:
        return _page(query, f"<main><p>Your search - <b>{escape(query)}</b> - did not match any image results.</p></main>")
    figures = []
    for photo, size in shown:
        source = inline.get(photo.number) or f"/thumbnails/{photo.number}.jpg"
        figures.append(
            f'<figure data-ri="{photo.number}"><a href="{escape(imgres(photo, size))}">'
            f'<img alt="{escape(photo.title)}" src="{source}"></a><figcaption>{escape(photo.title)}</figcaption></figure>'
        )
    more = ""
    if following is not None:
        more = f'<a id="pnnext" rel="next" href="/search?{escape(urlencode({"q": query, "udm": 2, "start": following}))}">Next</a>'
    return _page(query, f"<main>{''.join(figures)}</main><footer>About {total} results {more}</footer>")


def photo_page(photo: Photo) -> str:
    """The page that a photo is from."""
    return _page(photo.title, f'<main><img alt="{escape(photo.title)}" src="{escape(photo.image_url)}"></main>')


def home_page(total: int, keywords: Sequence[str]) -> str:
    """The search box."""
    links = " ".join(f'<a href="/search?{escape(urlencode({"q": k}))}">{escape(k)}</a>' for k in keywords)
    return _page("", f"<main><p>{total} photos. {links}</p></main>")


def _page(query: str, body: str) -> str:
    title = f"{escape(query)} - Image search" if query else "Image search"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>{_STYLE}</head><body>'
        f'<header><form action="/search"><input name="q" value="{escape(query)}"><button>Search</button></form></header>{body}</body></html>'
    )
