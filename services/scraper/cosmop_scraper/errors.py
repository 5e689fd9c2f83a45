"""What can go wrong on the way to an image: one class per failure."""

from __future__ import annotations

import grpc
from cosmop_common.errors import CosmopError, InvalidInputError, NotReadyError, UnreachableError


class UnknownSourceError(InvalidInputError):
    """A job names a source that does not exist."""


class SourceOptionError(InvalidInputError):
    """An option that the source does not have, or a value that it cannot use."""


class SourceUnavailableError(NotReadyError):
    """The source cannot run here: no Chrome, no key."""


class NothingFoundError(NotReadyError):
    """All queries together led to no single image."""


class SearchPageError(NotReadyError):
    """A result page that is no result page; its screenshot and source are kept with the run."""


class ConsentWallError(SearchPageError):
    """The search engine asks for consent to cookies and shows no results."""


class BlockedError(SearchPageError):
    """The search engine takes us for a robot and shows no results. It is not evaded."""


class LayoutUnknownError(SearchPageError):
    """A result page with neither results nor the words that there are none: its layout has changed."""


class BrowserError(CosmopError):
    """Chrome did not start, or died and did not come back."""

    grpc_code = grpc.StatusCode.UNAVAILABLE


class RateLimitedError(CosmopError):
    """An API has no requests left for us, and the wait is longer than a job waits."""

    grpc_code = grpc.StatusCode.RESOURCE_EXHAUSTED


class FetchError(UnreachableError):
    """One URL could not be fetched. ``why`` is the word that counts and logs use."""

    why = "unreachable"
    #: Whether the same request may succeed a little later.
    transient = True


class FetchTimeoutError(FetchError):
    """The server took too long to connect, to answer, or to end."""

    why = "timeout"


class HttpStatusError(FetchError):
    """The server answers with an error status."""

    why = "http_status"

    def __init__(self, url: str, status: int, retry_after: float | None = None) -> None:
        super().__init__(f"{url} answers with status {status}")
        self.status = status
        self.retry_after = retry_after
        self.transient = status in {429, 500, 502, 503, 504}


class WireError(CosmopError):
    """A connection that could not be made, broke, or carries no HTTP."""


class WireTimeoutError(WireError):
    """The other side is silent for too long."""


class ConnectionTakenError(WireError):
    """This connection takes no further request; another one will."""


class AddressRefusedError(FetchError):
    """The host's address is private, loopback, link-local or otherwise not of the public internet."""

    why = "address"
    transient = False
    permanent = True


class TooManyRedirectsError(FetchError):
    """More redirects than are followed."""

    why = "redirects"
    transient = False
    permanent = True


class UnsupportedUrlError(FetchError):
    """Not an absolute http or https URL."""

    why = "url"
    transient = False
    permanent = True


class RobotsForbiddenError(FetchError):
    """robots.txt forbids the URL, and it is obeyed."""

    why = "robots"
    transient = False
    permanent = True

    def __init__(self, url: str, rule: str) -> None:
        super().__init__(f"{url} is not to be fetched ({rule}): respect_robots: false in the collection overrides it, knowingly")
        self.rule = rule


class SearchForbiddenError(NotReadyError):
    """robots.txt forbids the search itself, and it is obeyed."""


class HostDownError(FetchError):
    """The host has not answered for a while, or wants to be left alone for longer than a job waits: it is not asked now."""

    why = "host_down"
    transient = False
