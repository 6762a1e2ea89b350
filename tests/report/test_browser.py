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
        driver.set_script_timeout(240)  # axe takes long where many processes share the processor
        yield driver
        driver.quit()


@pytest.fixture(scope="module")
def site(made):
    return made[1] / "report"


def _open(browser, site, name):
    browser.get((site / name).as_uri())
    return browser


def _click(browser, element):
    browser.execute_script("arguments[0].click()", element)


def _size(browser, width):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600},
    )


def _scheme(browser, name):
    features = [{"name": "prefers-color-scheme", "value": name}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})


PAGES = (
    "index.html",
    "suite-main.html",
    "quantizer-vq.html",
    "compare-main.html",
    "claims.html",
    "geometry.html",
    "published.html",
    "records.html",
    "records-geometry.html",
    "about.html",
)


@pytest.mark.parametrize("name", PAGES)
def test_no_request_outside_no_error_all_images(browser, site, name):
    browser.get("about:blank")
    for log in ("performance", "browser"):
        browser.get_log(log)
    _open(browser, site, name)
    browser.execute_script("document.querySelectorAll('img').forEach((image) => { image.loading = 'eager'; })")
    browser.execute_async_script(
        "const done = arguments[0]; Promise.all([...document.images].map((i) => i.decode().catch(() => 0))).then(() => done())"
    )
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith(("data:", site.as_uri()))] == []
    assert all(browser.execute_script("return [...document.images].map((image) => image.naturalWidth)"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious(browser, site, name, scheme):
    Axe = pytest.importorskip("axe_core_python.selenium").Axe
    _size(browser, 1280)
    _scheme(browser, scheme)
    _open(browser, site, name)
    found = Axe().run(browser)["violations"]
    bad = [v for v in found if v["impact"] in ("serious", "critical")]
    assert [(v["id"], v["nodes"][0]["html"][:200], v["nodes"][0]["failureSummary"]) for v in bad] == []


def test_sorting_stays_inside_the_groups(browser, site):
    _open(browser, site, "suite-main.html")
    _click(browser, browser.find_element("css selector", "#table-main th:nth-child(4) button"))
    groups = browser.execute_script(
        "return [...document.querySelectorAll('#table-main tbody')].map((body) =>"
        "[...body.querySelectorAll('tr:not(.group) td:nth-child(4)')].map((cell) => Number(cell.dataset.value)))"
    )
    assert len(groups) == 3
    assert all(group == sorted(group, reverse=True) for group in groups)
    head = browser.find_element("css selector", "#table-main th:nth-child(4)")
    assert head.get_attribute("aria-sort") == "descending"


def test_a_number_leads_to_its_record(browser, site):
    _open(browser, site, "suite-main.html")
    link = browser.find_element("css selector", "#table-main tr[data-quantizer=vq] a.num[href$='reconstruction.psnr']")
    _click(browser, link)
    assert "records-vq-" in browser.current_url
    row = browser.find_element("css selector", "tr:target")
    assert "PSNR" in row.text and "psnr-v1" in row.text
    assert browser.execute_script("return document.querySelector('tr:target').cells.length") == 6


def test_the_picker_hides_a_quantizer_everywhere_and_the_address_remembers(browser, site):
    _open(browser, site, "index.html")
    seen = "return [...document.querySelectorAll('[data-quantizer=vq]')].filter((p) => getComputedStyle(p).display !== 'none')"
    assert len(browser.execute_script(seen)) > 2
    _click(browser, browser.find_element("css selector", "[data-pick=vq]"))
    assert browser.execute_script(seen) == []
    if "show=" in browser.current_url:
        browser.refresh()
        assert browser.execute_script(seen) == []


def test_filter_keeps_the_rows_that_match(browser, site):
    _open(browser, site, "published.html")
    box = browser.find_element("css selector", ".filter input")
    box.send_keys("simvq 65536 psnr")
    shown = browser.execute_script("return [...document.querySelectorAll('tbody tr')].filter((r) => !r.hidden).length")
    assert 0 < shown < 10


def test_comparing_with_a_chosen_row(browser, site):
    _open(browser, site, "compare-main.html")
    browser.execute_script(
        "const s = document.getElementById('baseline'); s.value = 'vq'; s.dispatchEvent(new Event('change'))"
    )
    cell = "#comparison tr[data-metric=psnr] td[data-quantizer-column={}] .delta"
    own = browser.find_element("css selector", cell.format("vq"))
    other = browser.find_element("css selector", cell.format("fsq"))
    assert own.text == "" and other.text.startswith("+")
    assert "up" in other.get_attribute("class") and "95%" in other.get_attribute("title")
    for name in ("bsq", "bsq-18"):
        _click(browser, browser.find_element("css selector", f"[data-pick='{name}']"))
    hidden = browser.execute_script(
        "return [...document.querySelectorAll('#comparison thead th.away')].map((h) => h.dataset.quantizerColumn)"
    )
    assert set(hidden) == {"bsq", "bsq-18"}
    image = browser.execute_script("return document.querySelector('.lens div').style.backgroundImage")
    assert image.startswith("url(")


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_nothing_sticks_out(browser, site, name, width):
    _size(browser, width)
    _open(browser, site, name)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_prints_on_paper(browser, site):
    _open(browser, site, "suite-main.html")
    assert len(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]) > 50_000
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    hidden = "return getComputedStyle(document.querySelector(arguments[0])).display"
    assert [browser.execute_script(hidden, part) for part in (".bar nav", "section.picker", ".filter")] == ["none"] * 3
    _scheme(browser, "light")
