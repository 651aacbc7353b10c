"""Takes two pictures of the page of `octavius demo`, in chromium: an answer, and the same question to one expert.

    octavius fit --config 2d.yaml
    python docs/images/demo.py last.ckpt

Chromium or Google Chrome has to be on the PATH.
"""

import argparse
import re
import shutil
import signal
import subprocess
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).resolve().parent
WIDTH = 1160
"""Width of the window in pixels."""
COLOURS = 128
"""Colours of the palette of the PNG files, which keeps them small."""
PATIENCE = 120_000
"""Milliseconds to wait for an answer."""


def save(page: Page, name: str) -> None:
    """Saves what is seen of the page."""
    page.wait_for_timeout(1500)  # animations
    with Image.open(BytesIO(page.screenshot())) as image:
        image.convert("RGB").quantize(COLOURS).save(HERE / f"{name}.png", optimize=True)


def take(page: Page, address: str) -> None:
    """Asks about the first example, then lets single experts answer."""
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    page.wait_for_function("document.querySelector('#question textarea')?.value.length > 0")
    page.click("#ask")
    page.locator("#chat .octavius-bars").first.wait_for()
    save(page, "demo")
    page.set_viewport_size({"width": WIDTH, "height": 1230})
    page.get_by_role("tab", name="Other experts").click()
    page.get_by_label("expert 1 alone").click()
    page.locator("#forced .octavius-bars").first.wait_for()
    save(page, "demo_experts")


def main() -> None:
    """Starts the page, takes the pictures, and ends it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ckpt", help="a checkpoint of `octavius fit --config 2d.yaml`")
    command = [sys.executable, "-m", "octavius", "demo", "--ckpt", parser.parse_args().ckpt, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        lines = iter(process.stdout.readline, "")
        address = next(found[0] for line in lines if (found := re.search(r"http://127\S+", line)))
        with sync_playwright() as started:
            chromium = shutil.which("chromium") or shutil.which("google-chrome")
            browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            take(browser.new_page(viewport={"width": WIDTH, "height": 950}), address)
            browser.close()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


if __name__ == "__main__":
    main()
