"""The drawing page in Chromium, for tests and for the screenshots in the documents:

    python -m tests.experiments.browsers

This draws the screenshots anew. They show the pretrained models, and the report of their evaluation.
"""

import re
import shutil
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

from playwright import sync_api as playwright

from experiments.demo.predictor import load_all
from experiments.demo.server import listen, make_app, make_server
from experiments.draw import describe
from jaxnets.store.weights import PRETRAINED
from tests.experiments.strokes import strokes

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
FLAGS += " --disable-component-update --disable-sync"
TIMEOUT = 60_000  # milliseconds
SCREENSHOTS = Path(__file__).parents[2] / "experiments" / "studies" / "figures" / "pages"
DRAWN = {"light": 3, "dark": "between 4 and 9"}
"""What is drawn in each colour scheme, a key of STROKES."""

SHOWN = {"light": "h1", "dark": "#missed"}
"""The heading where the part of the report that is shown begins."""


@contextmanager
def serving():
    """Yield the address of a server of the drawing page with the pretrained models."""
    predictor = load_all()
    predictor.milliseconds(1)
    with listen(0) as listener:
        port = listener.getsockname()[1]
        running = make_server(make_app(predictor, describe(predictor), port=port))
        thread = threading.Thread(target=running.run, args=([listener],))
        thread.start()
        yield f"http://127.0.0.1:{port}/"
        running.should_exit = True
        thread.join()


def open_window(driver, profile, **options):
    """Start Chromium with an empty profile directory, and return its context."""
    launch = {"executable_path": CHROMIUM, "args": FLAGS.split(), "timeout": TIMEOUT}
    return driver.chromium.launch_persistent_context(str(profile), **launch, **options)


def draw(page, digit):
    """Draw the strokes of a digit with the mouse."""
    box = page.locator("#paper").bounding_box()
    for points in strokes(digit):
        first, *others = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
        page.mouse.move(*first)
        page.mouse.down()
        for point in others:
            page.mouse.move(*point)
        page.mouse.up()


def take_screenshots(page, address, scheme):
    page.set_default_timeout(TIMEOUT)
    page.goto(address)
    page.wait_for_selector("html[data-ready]")
    draw(page, DRAWN[scheme])
    playwright.expect(page.get_by_role("status")).to_have_text(re.compile("^Prediction"), timeout=TIMEOUT)
    page.screenshot(path=SCREENSHOTS / f"draw-{scheme}.png", full_page=True)
    page.goto((PRETRAINED / "evaluation" / "report.html").resolve().as_uri())
    begin = page.locator(SHOWN[scheme]).bounding_box()["y"]
    part = {"x": 0, "y": max(begin - 40, 0), "width": 1100, "height": 1250}
    page.screenshot(path=SCREENSHOTS / f"report-{scheme}.png", full_page=True, clip=part)


def main():
    with serving() as address, playwright.sync_playwright() as driver:
        for scheme in DRAWN:
            with tempfile.TemporaryDirectory() as profile:
                size = {"width": 1100, "height": 860}
                context = open_window(driver, profile, viewport=size, color_scheme=scheme)
                take_screenshots(context.pages[0], address, scheme)
                context.close()


if __name__ == "__main__":
    main()
