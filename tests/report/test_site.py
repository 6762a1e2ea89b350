"""The site's pages as files: links, sizes, escapes, and the looks of quantizers."""

import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from evaluation.report import looks

MOST_BYTES = 15_000_000


class _Page(HTMLParser):
    """Ids, links, loads, and the numbers of data tables that lead nowhere."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loads, self.unlinked = [], [], [], []
        self.cell, self.data = None, 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "table":
            self.data += "data" in found.get("class", "").split()
        if tag == "td" and self.data and "text" not in found.get("class", "").split():
            self.cell = {"value": found.get("data-value", ""), "link": False}
        if tag == "a":
            self.links.append(found.get("href", ""))
            if self.cell:
                self.cell["link"] = True
        if tag in ("img", "script", "iframe", "source", "video") and "src" in found:
            self.loads.append(found["src"])
        if tag == "link":
            self.loads.append(found.get("href", ""))

    def handle_endtag(self, tag):
        if tag == "td" and self.cell:
            if re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", self.cell["value"]) and not self.cell["link"]:
                self.unlinked.append(self.cell["value"])
            self.cell = None
        if tag == "table":
            self.data = 0


def _pages(run):
    folder = run[1] / "report"
    return folder, {path.name: _Page(path.read_text()) for path in folder.glob("*.html")}


@pytest.fixture(scope="module", params=["made", pytest.param("three", marks=pytest.mark.slow), "unfinished"])
def pages(request):
    return _pages(request.getfixturevalue(request.param))


def test_every_link_leads_somewhere_inside_the_folder(pages):
    folder, parsed = pages
    broken = []
    for name, page in parsed.items():
        assert len(page.ids) == len(set(page.ids)), name
        for link in (*page.links, *page.loads):
            if re.match(r"https?:|data:", link):
                continue
            path, _, anchor = unquote(link).partition("#")
            target = path or name
            inside = (folder / target).resolve().is_relative_to(folder.resolve())
            fine = inside and (folder / target).is_file()
            if fine and anchor:
                fine = anchor in parsed[target].ids
            if not fine:
                broken.append(f"{name} -> {link}")
    assert broken == []


def test_every_number_of_a_table_links_to_its_record(pages):
    _, parsed = pages
    wanted = {name: page.unlinked for name, page in parsed.items() if name != "published.html" and page.unlinked}
    assert wanted == {}


@pytest.mark.slow
def test_a_page_for_every_suite_and_quantizer(three):
    _, parsed = _pages(three)
    config = three[0]
    for suite in config.suites():
        assert f"suite-{suite.name}.html" in parsed and f"compare-{suite.name}.html" in parsed
    assert sum(name.startswith("quantizer-") for name in parsed) == len(config.subjects())


def test_pages_load_nothing_from_elsewhere(pages):
    folder, parsed = pages
    loads = {load for page in parsed.values() for load in page.loads}
    assert all(re.match(r"data:|assets/|figures/|pictures/", load) for load in loads)
    style = (folder / "assets" / "report.css").read_text()
    assert not re.search(r"url\((?!#|[\"']?data:)", style) and "@import" not in style


@pytest.mark.slow
def test_three_suites_of_ten_stay_small(three):
    folder = three[1] / "report"
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < MOST_BYTES
    first = (folder / "index.html").stat().st_size + sum(p.stat().st_size for p in (folder / "assets").iterdir())
    assert first < 500_000


def test_no_machine_path(made):
    folder, parsed = _pages(made)
    assert not any(str(made[1]) in (folder / name).read_text() for name in parsed)


def test_text_is_escaped(unfinished):
    texts = [path.read_text() for path in (unfinished[1] / "report").glob("records-vq-*.html")]
    assert texts and all("<script>alert(1)" not in text for text in texts)
    assert any("&lt;script&gt;alert(1)" in text for text in texts)


def test_a_quantizers_page_defines_it(made):
    text = (made[1] / "report" / "quantizer-bsq.html").read_text()
    assert "Binary spherical quantization" in text and "https://arxiv.org/abs/2406.07548" in text
    assert "H_codebook" in text and "weight of the commitment term" in text


def test_generators_stand_in_their_suite(made):
    text = (made[1] / "report" / "suite-main.html").read_text()
    for name in ("direct", "factorised", "over-bsq", "plain", "validation images"):
        assert name in text
    assert 'id="table-paper-heads"' in text and 'id="figure-frontier"' in text and 'id="table-stability"' in text
    assert "training diverged at step 120" in text


def test_every_quantizer_looks_different_and_always_the_same():
    from tests.report.synthetic import QUANTIZERS

    found = looks.looks((name, method) for name, (method, _, _, _) in QUANTIZERS.items())
    assert len({(look.colour, look.marker) for look in found.values()}) == len(found)
    assert looks.looks([("leech", "leech")])["leech"] == found["leech"]
    assert looks.looks([("mine", "mine")]) == looks.looks([("mine", "mine")])


def test_colours_differ_for_colour_blind_readers():
    import numpy as np
    from skimage.color import rgb2lab

    # Machado, Oliveira and Fernandes 2009: full deuteranomaly and protanomaly, in linear light.
    matrices = [
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    ]
    methods = [method for method in looks.COLOURS if method != "identity"]
    rgb = np.array([[int(looks.COLOURS[m][i : i + 2], 16) / 255 for i in (1, 3, 5)] for m in methods])
    for matrix in [np.eye(3), *np.array(matrices)]:
        seen = np.clip(rgb**2.2 @ np.asarray(matrix).T, 0, 1) ** (1 / 2.2)
        lab = rgb2lab(seen[None])[0]
        distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + 1e9 * np.eye(len(methods))
        i, j = np.unravel_index(distance.argmin(), distance.shape)
        markers = looks.looks((m, m) for m in methods)
        assert distance.min() > 6, (methods[i], methods[j], distance.min())
        assert markers[methods[i]].marker != markers[methods[j]].marker
