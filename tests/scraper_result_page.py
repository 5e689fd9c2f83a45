"""A result page with the signals of Google's: what is shown depends on the query, and photos lie on a host of their own.

Query "links": result links, more of them at each scroll and at a pressed button. "pages": pages with a next link. "script":
no links, full URLs in the page's script only. "blocked-later": a first page, then the block page. "consent", "blocked",
"unknown", "nothing": pages without results. Thumbnails are data URIs, or small copies on this host, and never results.
"""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from scraper_bench import draw

PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
PAGES = {
    "consent": '<form action="https://consent.google.com/save"><button>Accept all</button></form>',
    "blocked": "<p>Our systems have detected unusual traffic from your computer network.</p>",
    "unknown": '<div class="fresh">everything is new</div>',
    "nothing": "<p>Your search did not match any image results.</p>",
}
_GROW = """
let shown = 6;
function more() {{ document.getElementById('grid').insertAdjacentHTML('beforeend', window.rest.splice(0, 4).join('')); }}
window.rest = {rest};
window.addEventListener('scroll', () => {{ if (window.rest.length > 6) setTimeout(more, 150); }});
"""


class ResultPage:
    """Serves results and photos on loopback; ``asked`` is what it was asked, in order."""

    def __init__(self, folder: Path, photos: int = 18) -> None:
        self.asked: list[str] = []
        self._photos = []
        for i in range(photos):
            draw(folder / f"{i}.jpg", 1000 + i)
            self._photos.append((folder / f"{i}.jpg").read_bytes())
        draw(folder / "small.jpg", 1, (80, 64))
        self._small = (folder / "small.jpg").read_bytes()
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page.asked.append(self.path)
                status, kind, body = page.answer(self.path)
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, target: str) -> tuple[int, str, bytes]:
        parts = urlsplit(target)
        if parts.path == "/robots.txt":
            return 200, "text/plain", b"User-agent: *\nDisallow: /search\nDisallow: /small/\n"
        if parts.path.startswith("/photo/"):
            return 200, "image/jpeg", self._photos[int(parts.path[7:-4])]
        if parts.path.startswith("/small/"):
            return 200, "image/jpeg", self._small
        if parts.path.startswith("/sorry/"):
            return 200, "text/html", PAGES["blocked"].encode()
        if parts.path != "/search":
            return 404, "text/plain", b"no"
        words = parse_qs(parts.query)
        return 200, "text/html", self._page(words["q"][0], int(words.get("start", ["0"])[0])).encode()

    def _page(self, query: str, start: int) -> str:
        if query in PAGES:
            return PAGES[query]
        if query == "script":
            return f"<div><img src='{PIXEL}'></div><script>var d=[{self._script(range(12))}];</script>"
        if query == "pages":
            last = start + 6 >= len(self._photos)
            following = "" if last else f'<a id="pnnext" href="/search?q=pages&start={start + 6}">Next</a>'
            return self._results(range(start, start + 6)) + following
        if query == "blocked-later":
            if start:
                return '<meta http-equiv="refresh" content="9"><p>redirected</p><form id="captcha-form"></form>'
            return self._results(range(6)) + '<a rel="next" href="/search?q=blocked-later&start=6">Next</a>'
        rest = [self._result(i) for i in range(6, len(self._photos))]
        grow = _GROW.format(rest=repr(rest))
        button = '<input type="button" value="Show more results" onclick="more()">'
        return f"<div id='grid'>{self._results(range(6))}</div><div style='height:6000px'></div>{button}<script>{grow}</script>"

    def _results(self, numbers: range) -> str:
        return "".join(self._result(i) for i in numbers)

    def _result(self, number: int) -> str:
        image = f"{self.origin.replace('127.0.0.1', 'localhost')}/photo/{number}.jpg"
        thumbnail = PIXEL if number % 2 else f"{self.origin}/small/{number}.jpg"
        href = f"/imgres?imgurl={quote(image, safe='')}&imgrefurl={quote('https://news.example/story', safe='')}&w=160&h=120&tbnid=x{number}"
        return f'<a href="{href}"><img alt="photo {number}" src="{thumbnail}"></a>'

    def _script(self, numbers: range) -> str:
        """As Google writes them: thumbnail first, then the full URL with its height and width."""
        origin = self.origin.replace("127.0.0.1", "localhost").replace("=", "\\u003d")
        return ",".join(f'["https://encrypted-tbn0.gstatic.com/images?q\\u003dtbn:{n}",183,275],["{origin}/photo/{n}.jpg",120,160]' for n in numbers)
