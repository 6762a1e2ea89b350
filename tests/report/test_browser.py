"""The page as a reader sees it: headless Chromium, no network, no console error, everything drawn."""

import json
import tempfile

import pytest

pytestmark = pytest.mark.chromium


@pytest.fixture(scope="module")
def browser():
    selenium = pytest.importorskip("selenium.webdriver")
    options = selenium.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={profile}",
            "--window-size=1280,900",
        ):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = selenium.Chrome(options=options, service=selenium.ChromeService("/usr/bin/chromedriver"))
        yield driver
        driver.quit()


@pytest.fixture(scope="module")
def opened(browser, made):
    address = (made[1] / "report" / "index.html").as_uri()
    browser.get("about:blank")
    for log in ("performance", "browser"):
        browser.get_log(log)
    browser.get(address)
    return browser, address


def test_no_request_no_error_all_images(opened):
    browser, address = opened
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:") and url != address] == []
    sizes = browser.execute_script("return [...document.images].map((image) => image.complete && image.naturalWidth)")
    assert len(sizes) > 10 and all(sizes)
    assert browser.execute_script("return document.querySelectorAll('.drawing svg').length") == 4


def test_sorting_stays_inside_the_groups(opened):
    browser, _ = opened
    button = browser.find_element("css selector", "#table-main th:nth-child(4) button")
    browser.execute_script("arguments[0].click()", button)
    groups = browser.execute_script(
        "return [...document.querySelectorAll('#table-main tbody')].map((body) =>"
        "[...body.querySelectorAll('tr:not(.group) td:nth-child(4)')].map((cell) => Number(cell.dataset.value)))"
    )
    assert len(groups) == 3
    assert all(group == sorted(group, reverse=True) for group in groups)
    head = browser.find_element("css selector", "#table-main th:nth-child(4)")
    assert head.get_attribute("aria-sort") == "descending"


def test_a_number_opens_its_records(opened):
    browser, _ = opened
    link = browser.find_element("css selector", "#table-main tr[data-quantizer=vq] a.num")
    browser.execute_script("arguments[0].click()", link)
    dialog = browser.find_element("id", "source")
    assert dialog.get_attribute("open") is not None
    assert "records/vq-" in dialog.text and "psnr-v1" in dialog.text
    assert browser.execute_script("return document.querySelectorAll('#source tr.asked').length") == 2
    browser.execute_script("arguments[0].click()", dialog.find_element("css selector", "button"))


def test_the_picker_hides_a_quantizer_everywhere(opened):
    browser, _ = opened
    chip = browser.find_element("css selector", "[data-pick=vq]")
    browser.execute_script("arguments[0].click()", chip)
    seen = "return [...document.querySelectorAll('[data-quantizer=vq]')].filter((p) => getComputedStyle(p).display !== 'none')"
    assert browser.execute_script(seen) == []
    browser.execute_script("arguments[0].click()", chip)
    assert len(browser.execute_script(seen)) > 8


def test_a_link_to_a_record_opens_it(opened):
    browser, address = opened
    browser.get("about:blank")
    anchor = "record-" + "geometry-leech"
    browser.get(f"{address}#{anchor}")
    assert browser.execute_script("return document.getElementById(arguments[0]).open", anchor)


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_sticks_out(opened, width):
    browser, address = opened
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    browser.get(address)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_prints_on_paper(opened):
    browser, _ = opened
    assert len(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]) > 50_000
