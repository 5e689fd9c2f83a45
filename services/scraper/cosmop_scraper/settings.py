"""Settings of the scraper's processes. What shapes the data (rates, robots, filters) is the collection's: ``cosmop_common.collection.ScrapeSettings``."""

from __future__ import annotations

from pathlib import Path

from cosmop_common.settings import ServiceSettings
from pydantic import Field, SecretStr


class Settings(ServiceSettings):
    """Read from the environment: ``COSMOP_CONTACT`` and so on."""

    contact: str = ""
    """A mail address or URL that the User-Agent names, so that a site's operator can reach who runs this."""
    user_agent: str = ""
    """Replaces the whole User-Agent."""

    connect_timeout: float = Field(default=10.0, gt=0)
    """Seconds until a connection must stand."""
    read_timeout: float = Field(default=20.0, gt=0)
    """Seconds without a byte after which a download is given up."""
    download_seconds: float = Field(default=120.0, gt=0)
    """Seconds that one download may take in all, however steadily it trickles."""
    max_redirects: int = Field(default=5, ge=0)
    fetch_attempts: int = Field(default=4, ge=1)
    """Tries of one URL where its host answers 429, 500, 502, 503, 504, or not at all."""
    max_retry_after: float = Field(default=300.0, gt=0)
    """Longest wait in seconds that a host may ask for with Retry-After before its URL counts as failed."""

    outage_seconds: float = Field(default=3600.0, ge=0)
    """How long a job waits for a network that is away, or a store that is full or away, before what it wanted counts as failed."""

    backlog: int = Field(default=512, ge=1)
    """Candidates on their way at once, waiting for their host included."""
    memory_bytes: int = Field(default=256 << 20, gt=0)
    """Most bytes that are being downloaded, or wait to be verified and stored; one body may pass it."""
    high_water: int = Field(default=5000, ge=1)
    """The scrape pauses while a stage behind it has more messages than this to do."""

    folder_root: Path = Path("/")
    """The sources ``folder`` and ``urls`` read nothing outside it."""

    chrome_binary: str = ""
    """Chrome or Chromium; empty: found on PATH."""
    chrome_driver: str = ""
    """chromedriver; empty: found on PATH."""

    x_api: str = "https://api.twitter.com"
    """Server of the X API. Settings and no job say where keys are sent."""
    x_bearer_token: SecretStr = SecretStr("")
    """Key of the X API v2."""
    x_max_dollars: float = Field(default=0.0, ge=0)
    """Spending cap of one job on the X API; 0 forbids all spending."""
    openverse_api: str = "https://api.openverse.org/v1/images/"
    openverse_token: SecretStr = SecretStr("")
    """Raises Openverse's limits from 20 to 100 requests a minute."""

    @property
    def agent(self) -> str:
        """The User-Agent of all requests: it says what this is and whom to ask."""
        return self.user_agent or f"cosmop-scraper/0.1 ({self.contact or 'operator gave no contact'})"
