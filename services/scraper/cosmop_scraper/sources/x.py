"""``x``: photos of posts on X, by API v2's recent search (the last seven days). A query is one of the API's.

Every post and every photo costs money: a job says beforehand what it may cost (its stage's ``estimate``), and never asks
for a page that could pass ``COSMOP_X_MAX_DOLLARS``. Interrupted, it goes on at its page and pays for none twice. The key is
in no log and no error.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from cosmop_common.errors import CosmopError, InvalidInputError, NotReadyError

from cosmop_scraper.bookmark import Bookmark
from cosmop_scraper.candidate import Candidate, SourceContext
from cosmop_scraper.errors import FetchError, FetchTimeoutError, RateLimitedError
from cosmop_scraper.settings import Settings

if TYPE_CHECKING:
    import tweepy

log = logging.getLogger(__name__)
# At this level tweepy writes the Authorization header of each request.
logging.getLogger("tweepy").setLevel(logging.INFO)

#: The server that tweepy knows.
_API = "https://api.twitter.com"
_POST_DOLLARS = _MEDIA_DOLLARS = 0.005
_MEDIA_PER_POST = 4
_LEAST_RESULTS, _MOST_RESULTS = 10, 100
_QUERY_LENGTH = 512
_TIMEOUT_SECONDS = 30.0
_WINDOW_SECONDS = 15 * 60.0
#: The worst that one post can cost.
POST_AND_MEDIA_DOLLARS = _POST_DOLLARS + _MEDIA_PER_POST * _MEDIA_DOLLARS


class SpendingCapError(NotReadyError):
    """The next page could cost more than the cap leaves."""


class PaymentRequiredError(NotReadyError):
    """The account has no credit (402)."""


class AccessDeniedError(NotReadyError):
    """The key is wrong, or its plan does not include the search (401, 403)."""


class BadQueryError(InvalidInputError):
    """The API does not understand the query (400), or it is too long."""


class XSource:
    """Recent search, page by page: what is flattened loses its media."""

    name: ClassVar[str] = "x"
    description: ClassVar[str] = "photos of posts on X (API v2, recent search); needs a key, and money"
    options: ClassVar[Mapping[str, str]] = {
        "filter": "words added to each query (default: has:images -is:retweet)",
        "since_id": "only posts newer than this one: resume from an earlier run's result newest_id",
    }

    def __init__(self, context: SourceContext) -> None:
        self._context = context
        self._filter = context.option("filter", "has:images -is:retweet")
        self._client = _client(context.settings.x_bearer_token.get_secret_value(), context.settings.x_api)
        self._spent = float(context.recall("dollars") or 0)
        #: The newest post of each query; what a later job may begin at is the oldest of them, so that it misses none.
        self._newest: list[int] = [int(n) for n in context.recall("newest_ids").split()]

    @classmethod
    def unavailable(cls, settings: Settings) -> str:
        """Why it cannot run: no key, or no money."""
        if not settings.x_bearer_token.get_secret_value():
            return "no key: set COSMOP_X_BEARER_TOKEN"
        if settings.x_max_dollars < _LEAST_RESULTS * POST_AND_MEDIA_DOLLARS:
            least = _LEAST_RESULTS * POST_AND_MEDIA_DOLLARS
            return f"the smallest page of {_LEAST_RESULTS} posts may cost ${least:.2f}: set COSMOP_X_MAX_DOLLARS to what a job may spend"
        return ""

    async def find(self, query: str) -> AsyncGenerator[Candidate, None]:
        """All photos of each post, newest first.

        Raises:
            SpendingCapError, PaymentRequiredError, AccessDeniedError, RateLimitedError, BadQueryError, FetchError: and why.
        """
        words = f"{query} {self._filter}".strip()
        if len(words) > _QUERY_LENGTH:
            raise BadQueryError(f"{words[:60]!r}… has {len(words)} characters; the API takes {_QUERY_LENGTH}")
        self._context.remember("estimate", self.estimate())
        bookmark = Bookmark(self._context, query)
        token = bookmark.page
        while True:  # pages that do not end are ended by the spending cap
            page = await self._page_at(words, token, bookmark)
            meta = page.meta or {}
            if not token and meta.get("newest_id"):
                self._note_newest(int(meta["newest_id"]))
            bookmark.turn(token)
            for found in candidates(page, query):
                yield bookmark.saw(found)
            token = str(meta.get("next_token") or "")
            if not token:
                return

    def estimate(self) -> str:
        """What the job may cost, before anything is asked."""
        cap, images = self._context.settings.x_max_dollars, self._context.limit
        if images and (likely := images * (_POST_DOLLARS + _MEDIA_DOLLARS)) < cap:
            return f"about ${likely:.2f} for {images:,} photos of as many posts, at most ${cap:.2f}"
        return f"at most ${cap:.2f}, {int(cap / (_POST_DOLLARS + _MEDIA_DOLLARS)):,} posts of one photo"

    async def close(self) -> None:
        """Ends the session."""
        self._client.session.close()

    async def _page_at(self, words: str, token: str, bookmark: Bookmark) -> Any:
        try:
            return await self._page(words, token)
        except BadQueryError:
            if not token or token != bookmark.page:
                raise
            log.info("the page where this query stood is gone at the X API: it begins anew")
            bookmark.forget()
            return await self._page(words, "")

    def _note_newest(self, post: int) -> None:
        self._newest.append(post)
        self._context.remember("newest_ids", " ".join(map(str, self._newest)))
        self._context.remember("newest_id", str(min(self._newest)))

    async def _page(self, words: str, token: str) -> Any:
        left = self._context.settings.x_max_dollars - self._spent
        wanted = max(_LEAST_RESULTS, self._context.limit or _MOST_RESULTS)
        size = min(_MOST_RESULTS, wanted, int(left / POST_AND_MEDIA_DOLLARS + 1e-9))
        if size < _LEAST_RESULTS:
            raise SpendingCapError(f"${self._spent:.2f} of ${self._context.settings.x_max_dollars:.2f} are spent: COSMOP_X_MAX_DOLLARS allows no further page")
        log.info("a page of %d posts may cost $%.2f; $%.2f are spent", size, size * POST_AND_MEDIA_DOLLARS, self._spent)
        # Told before it is spent: a job that is killed meanwhile counts the page as paid.
        self._context.remember("dollars", f"{self._spent + size * POST_AND_MEDIA_DOLLARS:.3f}")
        try:
            page = await self._ask(words, token, size)
        except CosmopError:
            self._context.remember("dollars", f"{self._spent:.3f}")
            raise
        self._spent += _POST_DOLLARS * len(page.data or []) + _MEDIA_DOLLARS * len((page.includes or {}).get("media", []))
        self._context.remember("dollars", f"{self._spent:.3f}")
        return page

    async def _ask(self, words: str, token: str, size: int) -> Any:
        import requests
        import tweepy

        def search() -> Any:
            return self._client.search_recent_tweets(
                query=words,
                expansions=["attachments.media_keys", "author_id"],
                media_fields=["url", "width", "height", "alt_text", "type"],
                tweet_fields=["created_at"],
                user_fields=["username"],
                max_results=size,
                next_token=token or None,
                since_id=self._context.option("since_id", "") or None,
            )

        while True:
            try:
                return await asyncio.to_thread(search)
            except tweepy.TooManyRequests as error:
                wait = (error.reset_time - time.time() + 1) if error.reset_time else _WINDOW_SECONDS
                if wait > self._context.settings.max_retry_after:
                    raise RateLimitedError(f"the X API has no requests left for {wait:.0f} s, longer than COSMOP_MAX_RETRY_AFTER: try again then") from None
                await asyncio.sleep(max(wait, 1.0))
            except tweepy.HTTPException as error:
                raise _translated(error) from None
            except requests.Timeout:
                raise FetchTimeoutError(f"the X API does not answer within {_TIMEOUT_SECONDS:.0f} s") from None
            except requests.RequestException as error:
                raise FetchError(f"the X API cannot be reached: {type(error).__name__}") from None


def candidates(page: Any, query: str) -> list[Candidate]:
    """The photos of a page of posts, each with its post and its author."""
    includes = page.includes or {}
    media = {m.media_key: m for m in includes.get("media", [])}
    users = {str(u.id): u.username for u in includes.get("users", [])}
    found = []
    for post in page.data or []:
        author = users.get(str(post.author_id), "")
        link = f"https://x.com/{author or 'i'}/status/{post.id}"
        for key in (post.attachments or {}).get("media_keys", []):
            photo = media.get(key)
            if photo is not None and photo.type == "photo" and photo.url:
                found.append(Candidate(original(photo.url), link, query, photo.alt_text or "", author=author))
    return found


def original(url: str) -> str:
    """A photo's URL at full size."""
    return f"{url.partition('?')[0]}?name=orig"


def _client(token: str, base: str) -> tweepy.Client:
    import tweepy

    client = tweepy.Client(bearer_token=token, wait_on_rate_limit=False)
    plain = client.session.request

    def request(method: str, url: str, **rest: Any) -> Any:
        # tweepy sets no time-out, and knows one server.
        return plain(method, base.rstrip("/") + url.removeprefix(_API), timeout=_TIMEOUT_SECONDS, **rest)

    client.session.request = request
    return client


def _translated(error: tweepy.HTTPException) -> CosmopError:
    status = error.response.status_code
    said = "; ".join(error.api_messages) or error.response.reason or ""
    if status == 402:  # noqa: PLR2004
        return PaymentRequiredError(f"the X API asks for payment: the account has no credit ({said})")
    if status in {401, 403}:
        return AccessDeniedError(f"the X API refuses the key: is COSMOP_X_BEARER_TOKEN right, and does its plan include the recent search? ({said})")
    if status == 400:  # noqa: PLR2004
        return BadQueryError(f"the X API does not understand the query: {said}")
    return FetchError(f"the X API answers with status {status} ({said})")
