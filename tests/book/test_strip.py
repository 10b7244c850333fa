"""The strip of the first page: its stations in order, each with a picture or words and a page that is there."""

import base64
import io
import re

import numpy as np
import pages
import pytest
from PIL import Image

from dsgc.teaching.strip import Station, strip

INTRO = (pages.ROOT / "book/intro.md").read_text(encoding="utf-8")
PIXELS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


def test_a_picture_keeps_its_pixels_and_says_its_size_and_what_it_shows():
    html = strip([Station("a picture", "scale.html", PIXELS, 'a "cross" & a ring')]).data
    assert 'width="6" height="4" alt="a &quot;cross&quot; &amp; a ring"' in html
    code = re.search(r"base64,([^\"]+)", html)[1]
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(base64.b64decode(code)))), PIXELS)


def test_words_stand_as_words_and_every_title_leads_to_its_page():
    html = strip([Station("tags", "a.html", ["ring", "<cross>"]), Station("truth", "b.html", PIXELS, "black")]).data
    assert "<b>ring</b><b>&lt;cross&gt;</b>" in html
    assert re.findall(r'<a href="([^"]+)">([^<]+)</a>', html) == [("a.html", "tags"), ("b.html", "truth")]
    assert html.startswith('<ol class="strip"><li>') and html.count("<li>") == 2


def test_the_first_page_has_it_from_the_picture_to_the_truth_before_any_heading():
    first = INTRO[: INTRO.index("\n## ")]
    titles = re.findall(r'Station\("([^"]+)"', first)
    assert titles == ["a picture", "its tags", "activation map", "corrected label", "prediction", "truth"]


@pytest.mark.parametrize("page", sorted(set(re.findall(r'Station\("[^"]+", "([^"]+)"', INTRO))))
def test_the_pages_behind_the_stations_are_pages_of_the_book(page):
    where = (pages.ROOT / "book" / page).resolve().relative_to(pages.ROOT).with_suffix("").as_posix()
    assert where in pages.SOURCES


@pytest.mark.parametrize("name", re.findall(r'Station\("[^"]+", "[^"]+", .*, "([^"]+)"\)', INTRO))
def test_every_picture_of_the_first_page_is_described(name):
    assert len(name) > 20 and name.endswith(".")
