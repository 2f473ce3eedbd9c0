"""Chromium without a window, for the tests of what people open in a browser."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["chromium", "colours", "open_file", "screenshots", "wait"]


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """Start Chromium, and end it."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    # In a container, root may make no user namespaces, and /dev/shm is small.
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver") or "chromedriver")
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_window_size(1280, 860)
    try:
        yield driver
    finally:
        driver.quit()


def screenshots() -> Path:
    """Return the folder for pictures that people look at."""
    folder = Path(os.environ.get("BPFMATRIX_SCREENSHOTS", ".bpfmatrix/results/screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def open_file(browser: Any, path: Path, fragment: str, ready: str) -> None:
    """Open a file and wait for a condition in JavaScript; the console must have no error."""
    browser.get("about:blank")
    browser.get_log("browser")  # what an earlier page had said
    browser.get(f"file://{path}" + (f"#{fragment}" if fragment else ""))
    wait(browser, ready)
    wrong = [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"]
    assert not wrong


def wait(browser: Any, script: str) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 20).until(lambda b: b.execute_script(f"return {script}"))


def colours(browser: Any, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
