import re
from html.parser import HTMLParser

import pytest

from evaluation.report import looks


class _Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loads = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "a":
            self.links.append(found.get("href", ""))
        if tag in ("img", "script", "iframe", "source", "video") and "src" in found:
            self.loads.append(found["src"])
        if tag == "link":
            self.loads.append(found.get("href", ""))


@pytest.fixture(scope="module")
def page(made):
    return (made[1] / "report" / "index.html").read_text()


def test_the_page_loads_nothing(page):
    parsed = _Page(page)
    assert all(address.startswith("data:") for address in parsed.loads)
    assert not re.search(r"url\((?!#|[\"']?data:)", page)
    assert "@import" not in page


def test_every_link_inside_leads_somewhere(page, made):
    parsed = _Page(page)
    assert len(parsed.ids) == len(set(parsed.ids))
    ids = set(parsed.ids)
    assert [link for link in parsed.links if link.startswith("#") and link[1:] not in ids] == []
    files = [link for link in parsed.links if link.startswith("../")]
    assert files and all((made[1] / "report" / link).resolve().is_file() for link in files)


def test_no_machine_path_and_no_number_without_record(page, made):
    assert str(made[1]) not in page
    for row in re.findall(r'<td data-value="([\d.e+-]+)"[^>]*>\s*(<a class="num[^>]*>)?', page):
        assert row[0]


def test_text_is_escaped(unfinished):
    text = (unfinished[1] / "report" / "index.html").read_text()
    assert "<script>alert(1)" not in text
    assert "&lt;script&gt;alert(1)" in text


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
