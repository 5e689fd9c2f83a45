"""Chrome under Selenium, kept on a short leash: a folder, a thread and a way out of its own, no process left behind.

Selenium blocks, so that all calls run in one thread that belongs to the browser. What a killed scraper left behind
(its Chrome and its folder) is cleared by the next one to start: each folder holds a lock that ends with its owner.
What pages load goes through a proxy that reaches permitted addresses only (``guard_proxy``).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TypeVar

import psutil
import urllib3
from selenium import webdriver
from selenium.common.exceptions import InvalidSessionIdException, NoSuchWindowException, WebDriverException
from selenium.webdriver.chrome.service import Service

from cosmop_scraper.addresses import GuardedBackend
from cosmop_scraper.errors import BrowserError, FetchError, SourceUnavailableError
from cosmop_scraper.guard_proxy import GuardProxy
from cosmop_scraper.settings import Settings

log = logging.getLogger(__name__)
T = TypeVar("T")

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_DRIVERS = ("chromedriver", "chromium.chromedriver")
_PREFIX = "cosmop-chrome-"
_PAGE_SECONDS = 60
_LONGEST_TMP = 40
_RESTARTS = 3
#: A browser that has shown so many pages, or holds so much memory, is replaced before the next page.
_MOST_PAGES = 200
_MOST_BYTES = 3 << 30


def find_browser(settings: Settings) -> tuple[str, str]:
    """Paths of Chrome and of its driver. Raises ``SourceUnavailableError``."""
    browser = settings.chrome_binary or next(filter(None, map(shutil.which, _BROWSERS)), "")
    driver = settings.chrome_driver or next(filter(None, map(shutil.which, _DRIVERS)), "")
    if not browser or not shutil.which(browser):
        raise SourceUnavailableError(f"{browser or 'Chrome'} is not installed: install chromium, or name it with COSMOP_CHROME_BINARY")
    if not driver or not shutil.which(driver):
        raise SourceUnavailableError(f"{driver or 'chromedriver'} is not installed: install chromium-driver, or name it with COSMOP_CHROME_DRIVER")
    return browser, driver


class Chrome:
    """A headless browser that comes back when it crashes. Close it.

    Args:
        backend: says which addresses pages may load from.
    """

    def __init__(self, settings: Settings, backend: GuardedBackend) -> None:
        self._browser, self._driver_path = find_browser(settings)
        self._proxy = GuardProxy(backend)
        self._proxy_address = ""
        self._pages = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="chrome")
        self._driver: webdriver.Chrome | None = None
        self._folder: Path | None = None
        self._lock: IO[bytes] | None = None

    async def run(self, work: Callable[[webdriver.Chrome], T]) -> T:
        """Runs work on the browser, in its thread; starts it, or starts it anew after a crash, where needed.

        Raises:
            BrowserError: Chrome does not start, or crashes again and again.
        """
        self._proxy_address = await self._proxy.start()
        for attempt in range(1, _RESTARTS + 1):
            try:
                return await self._call(lambda: work(self._started()))
            except (WebDriverException, urllib3.exceptions.HTTPError, OSError) as error:
                reason = (getattr(error, "msg", "") or str(error) or type(error).__name__).splitlines()[0]
                if "net::ERR" in reason:
                    raise FetchError(f"Chrome cannot load the page: {reason}") from error
                if isinstance(error, WebDriverException) and not _crashed(error):
                    raise BrowserError(f"Chrome failed: {reason}") from error
                log.warning("Chrome is gone, starting it anew (%d of %d): %s", attempt, _RESTARTS, reason)
                await self._call(self._end)
        raise BrowserError(f"Chrome crashed {_RESTARTS} times in a row: its memory may be short; the job goes on from here when it is tried again")

    async def load(self, url: str, read: Callable[[webdriver.Chrome], T]) -> T:
        """Opens a page and reads it. A browser that has grown too large is replaced before. Raises as ``run`` does, and ``FetchError``."""
        await self._call(self._replace_when_large)

        def work(driver: webdriver.Chrome) -> T:
            driver.get(url)
            return read(driver)

        self._pages += 1
        return await self.run(work)

    async def close(self) -> None:
        """Ends Chrome and all its processes, and removes its folder."""
        await self._call(self._end)
        await self._proxy.close()
        self._thread.shutdown()

    async def _call(self, work: Callable[[], T]) -> T:
        # Shielded: a cancelled job must not leave a call running on a browser that is being closed.
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        return await asyncio.shield(future)

    def _started(self) -> webdriver.Chrome:
        if self._driver is not None:
            return self._driver
        sweep()
        self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_parent()))
        self._lock = (self._folder / "lock").open("wb")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        service = Service(self._driver_path, env=os.environ | {"TMPDIR": str(self._folder)}, log_output=str(self._folder / "driver.log"))
        try:
            self._driver = webdriver.Chrome(options=self._options(), service=service)
        except (WebDriverException, OSError) as error:
            self._end()
            reason = str(getattr(error, "msg", "") or error).splitlines()[0]
            raise BrowserError(f"{self._browser} does not start: {reason}; does its version match {self._driver_path}?") from error
        self._driver.set_page_load_timeout(_PAGE_SECONDS)
        return self._driver

    def _options(self) -> webdriver.ChromeOptions:
        options = webdriver.ChromeOptions()
        options.binary_location = self._browser
        # The page's own resources are of no use here: links are read as soon as they stand.
        options.page_load_strategy = "eager"
        arguments = [
            "--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions", "--disable-background-networking",
            "--no-first-run", "--window-size=1400,2400", f"--user-data-dir={self._folder}/profile",
            f"--proxy-server={self._proxy_address}", "--proxy-bypass-list=<-loopback>", "--disable-quic",
            "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
        ]  # fmt: skip
        if os.geteuid() == 0:
            # Chrome's sandbox refuses to run as root; the container around it is the sandbox then.
            arguments.append("--no-sandbox")
        for argument in arguments:
            options.add_argument(argument)
        # Thumbnails are of no use: 2 is "block".
        options.add_experimental_option("prefs", {"profile.managed_default_content_settings.images": 2})
        return options

    def _replace_when_large(self) -> None:
        if self._driver is None or (self._pages < _MOST_PAGES and _memory(_descendants(self._driver)) < _MOST_BYTES):
            return
        log.info("Chrome has shown %d pages and is replaced", self._pages)
        self._end()

    def _end(self) -> None:
        self._pages = 0
        processes = _descendants(self._driver)
        if self._driver is not None:
            with contextlib.suppress(Exception):
                self._driver.quit()
            self._driver = None
        _end_processes(processes)
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def sweep() -> int:
    """Ends browsers, and removes folders, whose scraper died without closing them. Returns how many folders there were."""
    swept = 0
    for left in _parent().glob(f"{_PREFIX}*"):
        try:
            lock = (left / "lock").open("rb+")
        except OSError:
            continue
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue  # its owner lives
            _end_processes([p for p in psutil.process_iter() if _uses(p, left)])
            shutil.rmtree(left, ignore_errors=True)
            swept += 1
    return swept


def _parent() -> Path:
    """Where browsers' folders lie. Chrome makes a socket in its own, and a socket's path holds at most 107 bytes."""
    usual = Path(tempfile.gettempdir())
    return usual if len(os.fsencode(usual)) <= _LONGEST_TMP else Path("/tmp")  # noqa: S108 - mkdtemp makes a folder of our own in it


def _crashed(error: WebDriverException) -> bool:
    words = (error.msg or "").lower()
    return isinstance(error, (InvalidSessionIdException, NoSuchWindowException)) or any(
        w in words for w in ("not reachable", "disconnected", "crashed", "refused", "max retries", "chrome instance exited")
    )


def _descendants(driver: webdriver.Chrome | None) -> list[psutil.Process]:
    process = getattr(getattr(driver, "service", None), "process", None)
    if process is None:
        return []
    with contextlib.suppress(psutil.NoSuchProcess):
        return [*psutil.Process(process.pid).children(recursive=True)]
    return []


def _memory(processes: list[psutil.Process]) -> int:
    """Bytes that the processes hold; what several share counts for each."""
    held = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            held += process.memory_info().rss
    return held


def _uses(process: psutil.Process, folder: Path) -> bool:
    try:
        return any(str(folder) in part for part in process.cmdline()) or process.environ().get("TMPDIR") == str(folder)
    except (psutil.Error, OSError):
        return False


def _end_processes(processes: list[psutil.Process]) -> None:
    """Kills what still runs, and collects those that became our children when their parent died (as process 1 of a container)."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=5)
    for process in processes:
        with contextlib.suppress(ChildProcessError, OSError):
            os.waitpid(process.pid, os.WNOHANG)
