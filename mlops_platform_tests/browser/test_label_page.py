"""The labeling page as a person meets it: keys, undo, reload, errors, in headless Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from mlops_platform_tests.labeling.home import BIG_ID, CV, MLOPS, NLP, OTHER, ROWS, LabelHome, served

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1200,900"
)
WAIT_SECONDS = 20


class Page:
    """The page in a browser."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, address: str) -> None:
        self.driver.get("about:blank")  # a change behind # alone loads nothing
        self.driver.get(address)

    def text(self, name: str) -> str:
        return self.driver.find_element(By.ID, name).text

    def press(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()

    def until(self, holds: Callable[[], bool]) -> None:
        def met(_: Chrome) -> bool:
            return holds()

        WebDriverWait(self.driver, WAIT_SECONDS, poll_frequency=0.05).until(
            met, f"{self.text('count')!r} {self.text('title')!r} {self.text('error')!r}"
        )

    def shows(self, title: str, count: str) -> None:
        self.until(lambda: (self.text("title"), self.text("count")) == (title, count))


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    binary, service = shutil.which("chromium"), shutil.which("chromedriver")
    assert binary, "Chromium is missing: apt-get install chromium chromium-driver"
    assert service, "Chromium's driver is missing: apt-get install chromium chromium-driver"
    options = ChromeOptions()
    options.binary_location = binary
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(flag)
    chrome = Chrome(options=options, service=ChromeService(executable_path=service))
    yield chrome
    chrome.quit()


@pytest.fixture
def page(driver: Chrome) -> Page:
    return Page(driver)


@pytest.fixture
def home(tmp_path: Path) -> LabelHome:
    return LabelHome(tmp_path / "home")


def test_a_person_labels_by_keys_undoes_reloads_and_ends(home: LabelHome, page: Page) -> None:
    with served(home) as server:
        page.open(server.address)
        page.shows(ROWS[0][1], "0 of 7 labeled")
        assert page.text("reason") == "Here because the model is unsure of it."
        assert (page.text("guess"), page.text("probability")) == (MLOPS, "61%")
        assert page.text("neighbours").splitlines() == ["Neighbour 0", CV, "Neighbour 1", NLP]
        page.press("1")
        page.shows("Without a title", "1 of 7 labeled")
        page.press(Keys.ENTER)
        page.shows(ROWS[2][1], "2 of 7 labeled")
        assert home.labels() == [(11, NLP, "ann"), (12, OTHER, "ann")]
        # several steps back
        page.press("u")
        page.shows("Without a title", "1 of 7 labeled")
        page.press("u")
        page.shows(ROWS[0][1], "0 of 7 labeled")
        assert home.labels()[2:] == [(12, "", "ann"), (11, "", "ann")]
        page.press("3")
        page.shows("Without a title", "1 of 7 labeled")
        # forth and back, and another mind: the label before comes back by undoing
        page.press(Keys.ARROW_LEFT)
        page.until(lambda: page.text("mine") == f"You said: {MLOPS}.")
        page.press("4")
        page.shows("Without a title", "1 of 7 labeled")
        page.driver.refresh()
        page.shows("Without a title", "1 of 7 labeled")
        page.press("u")  # also after a reload
        page.shows(ROWS[0][1], "1 of 7 labeled")
        assert page.text("mine") == f"You said: {MLOPS}."
        page.press(Keys.ARROW_RIGHT)
        page.press("s")
        page.shows(ROWS[2][1], "1 of 7 labeled")
        for number, (_, title, *_) in enumerate(ROWS[3:], start=2):
            page.press("2")
            page.shows(title, f"{number} of 7 labeled")
        page.press("2")
        page.until(lambda: page.text("done-title") == "That was the last one")
        assert "mlops run" in page.text("done")
        page.driver.find_element(By.ID, "look").click()
        page.shows("Without a title", "6 of 7 labeled")
        page.press(Keys.ENTER)
        page.until(lambda: page.text("done-title") == "All done. Thank you!")
        assert (BIG_ID, CV, "ann") in home.labels()


def test_what_other_people_wrote_is_shown_as_text(home: LabelHome, page: Page) -> None:
    with served(home) as server:
        page.open(server.address)
        page.shows(ROWS[0][1], "0 of 7 labeled")
        page.press(Keys.ARROW_RIGHT)
        page.press(Keys.ARROW_RIGHT)
        page.shows(ROWS[2][1], "0 of 7 labeled")
        assert page.text("description") == ROWS[2][2]
        assert page.driver.title == "Labeling"
        assert not page.driver.find_elements(By.CSS_SELECTOR, "main img, main b, main script")


def test_a_suspect_shows_its_label_and_can_be_confirmed(home: LabelHome, page: Page) -> None:
    with served(home) as server:
        page.open(server.address)
        page.shows(ROWS[0][1], "0 of 7 labeled")
        assert not page.driver.find_element(By.ID, "given-line").is_displayed()
        for _ in range(4):
            page.press(Keys.ARROW_RIGHT)
        page.shows("A doubtful one", "0 of 7 labeled")
        assert page.text("given-line") == f"The label it has: {NLP}"
        page.driver.find_element(By.CSS_SELECTOR, f"#tags [data-tag={NLP}]").click()
        page.shows(ROWS[5][1], "1 of 7 labeled")
        assert home.labels() == [(15, NLP, "ann")]
        page.press(Keys.ENTER)  # after a click too it takes the guess
        page.shows("The last", "2 of 7 labeled")


def test_a_label_that_is_not_kept_is_never_shown_as_kept(home: LabelHome, page: Page) -> None:
    with served(home) as server:
        page.open(server.address)
        page.shows(ROWS[0][1], "0 of 7 labeled")
        page.press("1")
        page.shows("Without a title", "1 of 7 labeled")
        # a folder in the file's place: the label can't be written
        aside = home.log.rename(home.log.with_suffix(".aside"))
        home.log.mkdir()
        page.press("1")
        page.until(lambda: page.text("error-text").startswith("Not saved: The event log"))
        page.shows("Without a title", "1 of 7 labeled")
        home.log.rmdir()
        aside.rename(home.log)
        page.driver.find_element(By.ID, "retry").click()
        page.shows(ROWS[2][1], "2 of 7 labeled")
        assert not page.driver.find_element(By.ID, "error").is_displayed()
        server.kill()
        page.press("2")
        page.until(lambda: "Not saved: `mlops label` does not answer" in page.text("error-text"))
        page.shows(ROWS[2][1], "2 of 7 labeled")
        assert home.labels() == [(11, NLP, "ann"), (12, NLP, "ann")]
    # another one on the same port is another one: the page that is open says so, a new one goes on where it was
    with served(home, port=server.port) as second:
        page.press("2")
        page.until(lambda: "open the address of the running one" in page.text("error-text"))
        page.open(second.address)
        page.shows(ROWS[2][1], "2 of 7 labeled")


def test_it_fits_a_narrow_window_and_help_opens_by_key(home: LabelHome, page: Page) -> None:
    page.driver.set_window_size(500, 844)  # Chromium's narrowest window; the emulation below is 390
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": False}
    )
    try:
        with served(home) as server:
            page.open(server.address)
            page.shows(ROWS[0][1], "0 of 7 labeled")
            for _, title, *_ in ROWS:
                page.shows(title or "Without a title", "0 of 7 labeled")
                width = page.driver.execute_script("return document.documentElement.scrollWidth")
                assert width <= 390, title
                page.press(Keys.ARROW_RIGHT)
            page.press("?")
            page.until(lambda: "take the last label back" in page.text("help"))
            page.press("1")  # a key behind the help gives no label
            page.press(Keys.ESCAPE)
            page.until(lambda: not page.driver.find_element(By.ID, "help").is_displayed())
            assert home.labels() == []
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
