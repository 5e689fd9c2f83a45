"""The console in a real Chromium: labels by keys, undo, skip, the gallery's filters, and no word of the browser's about errors."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from cosmop_common.bus import Bus
from cosmop_common.collections_kv import Collections
from cosmop_common.facts import Facts
from cosmop_common.pb.cosmop.v1 import facts_pb2
from cosmop_common.store import Store
from cosmop_local.servers import free_ports
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select
from test_console_web import COLLECTION, fill

pytestmark = pytest.mark.browser


def find_browser() -> tuple[str, str]:
    """Chromium or Chrome, and its driver; skips where one is missing."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip("no Chromium with its driver")
    return browser, driver


@pytest.fixture
def browser() -> Iterator[webdriver.Chrome]:
    """A headless browser, as wide as a small laptop."""
    binary, driver = find_browser()
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,860"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()


@pytest.fixture
async def images(bus: Bus, store: Store) -> list[str]:
    await Collections(bus).put(COLLECTION)
    return await fill(Facts(bus), store, 20)


@pytest.fixture
def console(images: list[str], environment: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """The address of a running console."""
    (port,) = free_ports(1)
    ports = {"COSMOP_GRPC_PORT": "0", "COSMOP_HTTP_PORT": str(port), "COSMOP_CONSOLE_DATA": str(tmp_path / "data")}
    process = subprocess.Popen([sys.executable, "-m", "cosmop_console"], env=environment | ports, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"

    def up() -> bool:
        try:
            return httpx.get(f"{address}/readyz", timeout=60).status_code == 200
        except httpx.TransportError:
            return False

    until(up)
    yield address
    process.terminate()
    assert process.wait(60) == 0


def until(check: Callable[[], object]) -> None:
    """Waits until a condition holds; a page that changes in the middle of the look is looked at again."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with contextlib.suppress(NoSuchElementException, StaleElementReferenceException):
            if check():
                return
        time.sleep(0.05)
    pytest.fail("it never came to be")


def start_labelling(browser: webdriver.Chrome, console: str) -> None:
    browser.get(f"{console}/c/border/label")
    until(lambda: browser.find_element(By.ID, "who").get_attribute("open"))
    browser.find_element(By.ID, "labeller").send_keys("Ann O.", Keys.ENTER)
    until(lambda: browser.find_element(By.ID, "labelling").get_attribute("data-ready") is not None)


def test_labels_by_keys_with_undo_and_skip(browser: webdriver.Chrome, console: str, images: list[str]) -> None:
    start_labelling(browser, console)
    root = browser.find_element(By.ID, "labelling")

    def shown() -> str:
        return str(root.get_attribute("data-image"))

    def press(key: str) -> str:
        """Presses a key and waits for the next picture; returns the image it was pressed at."""
        before = shown()
        browser.find_element(By.TAG_NAME, "body").send_keys(key)
        until(lambda: shown() != before)
        return before

    def said() -> dict[str, str]:
        until(lambda: browser.find_element(By.ID, "saving").text == "All saved")
        rows = httpx.get(f"{console}/api/c/border/history", params={"labeller": "ann-o"}, timeout=60).json()["labels"]
        return {row["image"]: "unsure" if row["unsure"] else row["label"] for row in rows}

    first = press("1")
    second = press(Keys.ARROW_LEFT)
    third = press("u")
    skipped = press(" ")
    until(lambda: said() == {first: "immigration", second: "other", third: "unsure"})
    until(lambda: browser.find_element(By.ID, "mine").text == "3")
    until(lambda: browser.find_element(By.CSS_SELECTOR, "#frame img").get_attribute("naturalWidth") == "480")

    press(Keys.BACKSPACE)
    assert shown() == skipped, "a skip can be undone as well"
    press(Keys.BACKSPACE)
    assert shown() == third
    until(lambda: said() == {first: "immigration", second: "other"})
    press("a")
    until(lambda: said() == {first: "immigration", second: "other", third: "immigration"})

    browser.refresh()
    until(lambda: root_ready(browser))
    root = browser.find_element(By.ID, "labelling")
    until(lambda: browser.find_element(By.ID, "mine").text == "3")
    assert shown() not in {first, second, third}
    press("z")
    assert shown() == third, "undo goes back through what was said before the reload"

    total = int(browser.find_element(By.ID, "total").text)
    for _ in range(total):
        if browser.find_elements(By.CSS_SELECTOR, "#frame .note h2"):
            break
        before = shown()
        browser.find_element(By.TAG_NAME, "body").send_keys("2")
        until(lambda before=before: shown() != before or browser.find_elements(By.CSS_SELECTOR, "#frame .note h2"))
    assert browser.find_element(By.CSS_SELECTOR, "#frame .note h2").text == "All labelled"
    until(lambda: len(said()) == total)
    assert severe(browser) == []


def root_ready(browser: webdriver.Chrome) -> bool:
    return bool(browser.execute_script("return document.getElementById('labelling')?.dataset.ready !== undefined"))


def severe(browser: webdriver.Chrome) -> list[str]:
    """What the browser complains about: scripts that fail, the security policy broken, files missing."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_a_label_that_is_refused_is_told(browser: webdriver.Chrome, console: str, bus: Bus) -> None:
    start_labelling(browser, console)
    image = browser.find_element(By.ID, "labelling").get_attribute("data-image")
    browser.execute_script('fetch = () => Promise.resolve(new Response(\'{"error": "it was erased"}\', {status: 404}))')
    browser.find_element(By.CSS_SELECTOR, "[data-choice='0']").click()
    until(lambda: "it was erased" in browser.find_element(By.ID, "said").text)
    until(lambda: browser.find_element(By.ID, "labelling").get_attribute("data-image") != image)


def test_the_gallery_filters_and_shows_pictures(browser: webdriver.Chrome, console: str) -> None:
    browser.get(f"{console}/c/border/gallery")
    until(lambda: len(browser.find_elements(By.CSS_SELECTOR, ".tile")) == 21)
    Select(browser.find_element(By.NAME, "stage")).select_by_value("near")
    until(lambda: "stage=near" in browser.current_url and len(browser.find_elements(By.CSS_SELECTOR, ".tile")) == 2)
    until(lambda: browser.execute_script("return [...document.querySelectorAll('.tile img')].every(i => i.naturalWidth === 320)"))
    browser.find_element(By.CSS_SELECTOR, ".tile").click()
    until(lambda: browser.find_elements(By.CSS_SELECTOR, ".image-figure img"))
    until(lambda: browser.execute_script("return document.querySelector('.image-figure img').naturalWidth") == 480)
    assert "4 bits from" in browser.find_element(By.CSS_SELECTOR, ".image-facts").text
    assert severe(browser) == []


@pytest.mark.parametrize("width", [1280, 390])
def test_no_page_is_wider_than_the_screen(browser: webdriver.Chrome, console: str, images: list[str], width: int) -> None:
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": False})
    for path in ("/", "/c/border", "/c/border/gallery", "/c/border/copies", f"/c/border/images/{images[0]}", "/c/border/label", "/runs", "/reports"):
        browser.get(console + path)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width, path
    assert severe(browser) == []


async def test_the_funnel_keeps_itself_current(browser: webdriver.Chrome, console: str, bus: Bus) -> None:
    browser.get(f"{console}/c/border")
    until(lambda: browser.find_element(By.CSS_SELECTOR, ".step-n").text == "21")
    await Facts(bus).create(facts_pb2.Scraped(collection="border", image="b" * 64))
    until(lambda: browser.find_element(By.CSS_SELECTOR, ".step-n").text == "22")
    assert severe(browser) == []
