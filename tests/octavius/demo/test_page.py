"""The page in chromium: uploads, boxes, experts, checkpoints, errors, a phone's width; nothing leaves the machine."""

import importlib
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from octavius.cli.serve import listening
from octavius.demo.examples import chips, pictured
from octavius.demo.page import build_page
from octavius.demo.server import check_installed, scratch, serving
from tests.octavius.demo.scripted import scripted, write_media

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("gradio") is None, reason="the extra demo is not installed"),
    pytest.mark.skipif(find_spec("playwright") is None, reason="playwright is not installed"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium or chrome on the PATH"),
]


def expect(locator: Any) -> Any:
    """Playwright's assertions, imported only when they run."""
    return importlib.import_module("playwright.sync_api").expect(locator)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser without a window, which draws clouds on the CPU."""
    with importlib.import_module("playwright.sync_api").sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a page over scripted answers of two checkpoints."""
    check_installed()
    callbacks = scripted(tmp_path_factory.mktemp("page"), other=True)
    takes = callbacks.asked.modalities
    shown = pictured(callbacks.examples, takes)
    callbacks.shown = [example for example, _ in shown]
    with scratch():
        page = build_page(
            callbacks, [picture for _, picture in shown], chips(callbacks.examples, takes), remember=False
        )
        with listening("127.0.0.1", 0) as listener:
            port = listener.getsockname()[1]
        with serving(page, callbacks, "127.0.0.1", port) as (url, public):
            assert public is None
            yield url


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page after its first example was loaded; every request that it makes stays on this machine."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    open_page(page, address)
    yield page
    assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []
    page.close()


def open_page(page: Any, address: str) -> None:
    """Opens the page and waits for its first example."""
    page.set_default_timeout(90_000)
    page.goto(address)
    expect(page.locator("#question textarea")).to_have_value("Find all objects.", timeout=60_000)


def expect_text(page: Any, place: str, text: str) -> None:
    """Waits until an element holds a text."""
    expect(page.locator(place)).to_contain_text(text, timeout=60_000)


def test_a_picture_is_uploaded_asked_about_and_drawn_on(page: Any, tmp_path: Path) -> None:
    image, _ = write_media(tmp_path)
    page.get_by_role("button", name="Remove Image").click()
    page.locator("#picture input[type=file]").first.set_input_files(image)
    page.locator("#picture img").wait_for()
    page.locator("#chips button", has_text="Find all objects.").click()
    page.click("#ask")
    expect_text(page, "#chat", "<b>box</b> [0.55")  # shown literally
    assert page.locator("#chat svg.octavius-picture rect").count() == 6
    assert page.locator("#chat .octavius-picture text").all_text_contents() == ["ball", "<b>box</b>"]
    expect_text(page, "#chat .octavius-bars", "margin between the first two: 0.50")


def test_a_scan_is_shown_with_the_boxes_of_the_answer(page: Any, tmp_path: Path) -> None:
    _, scan = write_media(tmp_path)
    page.locator("#scan input[type=file]").first.set_input_files(scan)
    page.locator("#view .js-plotly-plot canvas").first.wait_for()
    page.fill("#question textarea", "Describe all objects.")
    page.click("#ask")
    page.wait_for_function("document.querySelector('#view .js-plotly-plot')?.data.length === 3")


def test_choices_and_sliders_change_the_routing(page: Any) -> None:
    page.fill("#question textarea", "Describe the picture.")
    page.get_by_role("tab", name="Other experts").click()
    page.get_by_label("expert 1 alone").click()
    expect_text(page, "#forced", "Expert 1 says:")
    assert page.locator("#expert-1 input[type=number]").input_value() == "1"
    slider = page.locator("#expert-2 input[type=range]")
    slider.focus()
    slider.press("End")
    box = slider.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.up()
    expect_text(page, "#forced", "instead of the gate's: my own weights")
    page.get_by_label("as the gate chooses").click()
    expect_text(page, "#forced", "chosen by the gate")


def test_two_checkpoints_answer_side_by_side(page: Any) -> None:
    page.get_by_role("tab", name="Two checkpoints").click()
    page.click("#ask-both")
    for place in ("#first", "#second"):
        expect_text(page, place, "ball [0.10")
        expect_text(page, place, "margin")


def test_errors_are_messages_and_the_page_goes_on(page: Any, tmp_path: Path) -> None:
    page.click("#ask")
    expect_text(page, "#chat", "ball [0.10")
    page.fill("#question textarea", "fail")
    page.click("#ask")
    expect_text(page, "body", "more than 2,048 tokens <b>")
    expect_text(page, "#chat", "ball [0.10")  # what was there stays
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    page.get_by_role("button", name="Remove Image").click()
    page.locator("#picture input[type=file]").first.set_input_files(bad)
    expect_text(page, "body", "bad.png is not an image that can be read")
    page.fill("#question textarea", "Describe the picture.")
    page.click("#ask")
    expect_text(page, "#chat", "A red ball")


def test_it_fits_a_phone(browser: Any, address: str) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    open_page(page, address)
    page.click("#ask")
    page.locator("#chat rect").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_neither_files_of_this_machine_nor_of_others_are_sent(page: Any, address: str) -> None:
    for path in (Path(__file__), Path(__file__).parents[3] / "setup.cfg", "http://127.0.0.1:9/x"):
        assert page.request.get(f"{address}gradio_api/file={path}").status == 403
