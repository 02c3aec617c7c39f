"""Headless Chromium for the pages: its sizes, colour schemes and screenshots.

Screenshots go to the folder GAPRUN_SCREENSHOTS names, if it does.
"""

import base64
import os
import shutil
from pathlib import Path

import pytest

SCREENS = {1440: 900, 390: 844}  # width: height


def started():
    """Chromium with its console and network recorded; skips where it is not installed."""
    selenium = pytest.importorskip(
        "selenium.webdriver", reason="selenium is not installed: pip install selenium"
    )
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("chromium and chromedriver are not installed (Debian: chromium chromium-driver)")
    options = selenium.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    found.set_script_timeout(300)  # drawing all figures takes long on a machine that is busy
    return found


def on_screen(browser, width):
    """Give the page `width` pixels, as a phone below 600."""
    size = {"width": width, "height": SCREENS[width], "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.width = width


def in_scheme(browser, name):
    """Show the page as a system with this colour scheme does."""
    scheme = [{"name": "prefers-color-scheme", "value": "dark"}] if name == "dark" else []
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})


def screenshot(browser, name):
    """Keep the whole page, in parts, if anybody asked for it."""
    folder = os.environ.get("GAPRUN_SCREENSHOTS")
    if not folder:
        return
    height = browser.execute_script("return document.documentElement.scrollHeight")
    for number, top in enumerate(range(0, height, 4000)):
        clip = {"x": 0, "y": top, "width": browser.width, "height": min(4000, height - top), "scale": 1}
        shot = browser.execute_cdp_cmd(
            "Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip}
        )
        Path(folder).mkdir(parents=True, exist_ok=True)
        path = Path(folder) / f"{name}-{browser.width}-{number}.png"
        path.write_bytes(base64.b64decode(shot["data"]))
