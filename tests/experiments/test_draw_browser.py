"""The drawing page in Chromium with the pretrained models: mouse, keyboard, undo, small windows, contrast."""

import re

import pytest
from playwright import sync_api as playwright

from tests.experiments.browsers import CHROMIUM, TIMEOUT, draw, open_window, serving

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")


@pytest.fixture(scope="module")
def address():
    """The address of a running server."""
    with serving() as address:
        yield address


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """browser(**options) -> a window with a temporary profile."""
    with playwright.sync_playwright() as driver:
        started = []

        def start(**options):
            started.append(open_window(driver, tmp_path_factory.mktemp("chromium"), **options))
            return started[-1].pages[0]

        yield start
        for context in started:
            context.close()


@pytest.fixture(scope="module")
def window(browser):
    return browser(viewport={"width": 1100, "height": 860})


@pytest.fixture
def page(window, address):
    """The page, just opened. Fails on console messages, external requests and too many requests."""
    messages, urls = [], []
    window.set_default_timeout(TIMEOUT)
    listeners = {
        "console": lambda message: messages.append(message.text),
        "pageerror": lambda error: messages.append(str(error)),
        "request": lambda request: urls.append(request.url),
    }
    for event, listener in listeners.items():
        window.on(event, listener)
    window.goto(address)
    window.wait_for_selector("html[data-ready]")
    yield window
    for event, listener in listeners.items():
        window.remove_listener(event, listener)
    assert messages == []
    assert all(url.startswith(address) for url in urls)
    assert len(urls) < 500


def expect_status(page, text):
    """Wait for the announcement to screen readers."""
    playwright.expect(page.get_by_role("status")).to_have_text(re.compile(text), timeout=TIMEOUT)


def predictions(page):
    return [cell.inner_text() for cell in page.locator("#members td:last-child").all()]


@pytest.mark.parametrize("digit", range(10))
def test_a_digit_drawn_with_the_mouse_is_classified(page, digit):
    draw(page, digit)
    expect_status(page, rf"^Prediction {digit}, confidence (9\d|100)\s%")
    assert page.locator("#digit").inner_text() == str(digit)
    assert predictions(page) == [str(digit)] * 6
    assert page.locator("#views figcaption").all_inner_texts() == [str(digit)] * 9
    meters = [int(meter.get_attribute("aria-valuenow")) for meter in page.get_by_role("meter").all()]
    assert meters.index(max(meters)) == digit
    assert re.match(r"\d+ ms per prediction, \d+ ms from pen to screen", page.locator("#latency").inner_text())


def test_clear_and_undo(page):
    draw(page, 7)
    expect_status(page, "^Prediction 7")
    page.get_by_role("button", name="Clear").click()
    expect_status(page, "empty")
    assert predictions(page) == [""] * 6
    assert page.locator("#digit").inner_text() == "?"
    draw(page, 4)
    expect_status(page, "^Prediction 4")
    page.get_by_role("button", name="Undo").click()  # the second stroke
    page.get_by_role("button", name="Undo").click()
    expect_status(page, "empty")
    assert page.get_by_role("button", name="Undo").is_disabled()


def test_drawings_are_preprocessed_like_mnist(page):
    draw(page, 3)
    expect_status(page, "^Prediction 3")
    ink = page.evaluate("""() => {
        const data = document.querySelector("#views canvas").getContext("2d").getImageData(0, 0, 28, 28).data;
        return Array.from({length: 784}, (_, i) => data[4 * i + 3]);
    }""")
    rows = [row for row in range(28) if any(ink[28 * row : 28 * row + 28])]
    assert (len(rows), max(ink)) == (20, 255)
    assert abs(sum((i // 28) * value for i, value in enumerate(ink)) / sum(ink) - 14) <= 0.5
    assert 60 < sum(ink) / 255 < 140  # MNIST's mean is 103, of its threes 111


def test_every_control_has_a_name_and_is_reachable_by_keyboard(page):
    focused = lambda: page.evaluate("document.activeElement.ariaLabel || document.activeElement.innerText")
    draw(page, 1)
    page.get_by_role("heading", name="Draw a digit").click()
    reached = []
    for _ in range(3):
        page.keyboard.press("Tab")
        reached.append(focused())
    assert reached == ["Drawing area for one digit", "Undo", "Clear"]
    page.keyboard.press("Enter")
    expect_status(page, "empty")
    assert focused() == "Drawing area for one digit"
    digits = [str(digit) for digit in range(10)]
    assert [meter.get_attribute("aria-label") for meter in page.get_by_role("meter").all()] == digits
    assert page.get_by_role("columnheader").all_inner_texts() == ["model", *digits, "prediction"]
    assert page.get_by_role("group", name="Ensemble of the five CNNs").count() == 1
    assert page.get_by_role("application", name="Drawing area for one digit").count() == 1


def test_a_digit_drawn_with_arrow_keys_is_classified(page):
    page.locator("#paper").focus()
    page.keyboard.press("Space")
    for _ in range(16):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    expect_status(page, "^Prediction 1")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Backspace")
    expect_status(page, "empty")


def test_a_small_window_needs_no_horizontal_scrolling(page):
    page.set_viewport_size({"width": 360, "height": 700})
    draw(page, 5)
    expect_status(page, "^Prediction 5")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator("#digit").bounding_box()["y"] < 700
    page.set_viewport_size({"width": 1100, "height": 860})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(page, scheme):
    page.emulate_media(color_scheme=scheme)
    contrasts = page.evaluate("""() => {
        const style = getComputedStyle(document.documentElement);
        const light = (name) => {
            const parts = style.getPropertyValue(name).match(/[0-9a-f]{2}/gi).map((part) => parseInt(part, 16) / 255);
            const [r, g, b] = parts.map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
        };
        const ratio = (a, b) => Math.max(light(a) / light(b), light(b) / light(a));
        const text = ["--text", "--quiet", "--accent", "--second", "--trouble"];
        return text.flatMap((name) => [ratio(name, "--card"), ratio(name, "--ground"), ratio(name, "--track")]);
    }""")
    assert min(contrasts) >= 4.5  # WCAG 2.2, 1.4.3


def test_a_missing_server_is_reported(page):
    page.route("**/predict", lambda route: route.fulfill(body="another server"))
    errors = page.get_by_role("alert")
    draw(page, 1)
    playwright.expect(errors).to_contain_text("python -m experiments.draw", timeout=TIMEOUT)
    page.unroute("**/predict")
    draw(page, 1)
    playwright.expect(errors).to_be_hidden(timeout=TIMEOUT)
