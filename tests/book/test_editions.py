"""Two editions of a small book: each page leads to the other one's, to the same place, and what is not translated is English."""

import json
import re

import editions
import frames
import pages
import pytest
import searching
import two_editions
from docutils import nodes

NAMES = ("book/page", "book/glossary", "book/more")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return two_editions.build(tmp_path_factory.mktemp("editions"))


def text(built, page):
    return (built[0] / f"{page}.html").read_text(encoding="utf-8")


def body(built, page):
    return text(built, page).partition('role="main">')[2].partition('class="sphinxsidebar"')[0]


def test_nothing_is_warned_of(built):
    registered = "is already registered"  # by a book that another test has built in this process
    assert [line for line in built[1].splitlines() if registered not in line] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_page_names_its_language_and_the_other_one(built, name):
    english, chinese = (name, "en", "zh-CN", f"../zh_CN/{name}.html"), (f"zh_CN/{name}", "zh-CN", "en", f"../../{name}.html")
    for page, here, there, address in (english, chinese):
        found = text(built, page)
        assert f'<html lang="{here}"' in found
        assert f'<link rel="alternate" hreflang="{there}" href="{address}">' in found
        assert (built[0] / f"{page}.html").parent.joinpath(address).is_file()


@pytest.mark.parametrize("name", NAMES)
def test_a_place_has_the_same_id_in_both(built, name):
    english, chinese = (pages.Html(built[0] / f"{page}.html").ids for page in (name, f"zh_CN/{name}"))
    assert english == chinese
    assert name != "book/page" or {"how-it-is-made", "formula"} <= chinese


def test_a_translated_paragraph_has_its_numbers_its_terms_and_its_links(built):
    found = body(built, "zh_CN/book/page")
    assert '切出它：<span class="pasted-text">12.3</span>%（<span class="pasted-text">12.34</span>）' in found
    assert re.search(r'href="glossary.html#term-threshold"><span class="xref std std-term">阈值</span>', found)
    assert re.search(r'href="glossary.html"><span class="doc">术语</span>', found)
    assert 'href="../../book/code.html#room.first"' in found


def test_what_is_not_translated_or_no_longer_right_is_english(built):
    found = body(built, "zh_CN/book/page")
    assert "Not yet translated." in found and "Its English has changed." in found and "旧" not in found


def test_a_formula_is_the_same_in_both(built):
    formula = re.compile(r'<div class="math[^>]*>(.*?)</div>', re.DOTALL)
    assert formula.findall(body(built, "book/page")) == formula.findall(body(built, "zh_CN/book/page"))


def test_the_first_mention_of_a_term_leads_to_it_in_chinese_too(built):
    mention = re.compile(r'href="glossary.html#(term-[\w-]+)"[^>]*><span class="mention">([^<]+)<')
    assert mention.findall(body(built, "book/more")) == [("term-pseudo-label", "Pseudo labels"), ("term-threshold", "threshold")]
    assert mention.findall(body(built, "zh_CN/book/more")) == [("term-pseudo-label", "伪标签"), ("term-threshold", "阈值")]
    assert [name for name, _ in mention.findall(body(built, "zh_CN/book/page"))] == []  # where the page links itself


def test_the_other_edition_s_page_is_found_from_every_depth():
    app = type("App", (), {"config": type("Config", (), {"language": "en", "editions": ["zh_CN"]})})
    assert [other["address"] for other in editions.others(app, "search")] == ["zh_CN/search.html"]
    app.config.language = "zh_CN"
    assert editions.others(app, "a/b/c") == [{"language": "en", "name": "English", "address": "../../../a/b/c.html"}]


def test_minutes_count_chinese_by_its_signs():
    assert frames.words(nodes.paragraph("", "two words")) == 2
    assert frames.words(nodes.paragraph("", "伪标签 CAM")) == pytest.approx(1 + 3 / frames.SIGNS_A_WORD)


# the search


def test_a_term_of_the_table_is_one_word_of_the_index(built):
    assert json.dumps("伪标签") in (built[0] / "zh_CN/searchindex.js").read_text(encoding="utf-8")


def test_chinese_is_split_into_words_and_terms_stay_whole():
    language = searching.Chinese({"words": ["伪标签"]})
    words = language.split("伪标签由类激活图得到。CAM")
    assert {"伪标签", "标签", "得到", "CAM"} <= set(words) and language.word_filter("标签") and not language.word_filter("由")


def test_what_is_typed_is_split_into_the_words_of_the_pages(built):
    """In a browser, with the scripts and the index of the small book."""
    executable = pages.browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=pages.QUIET)
        window = chromium.new_page()
        for query, found in (("伪标签", ["more", "page"]), ("伪标签阈值", ["more", "page"]), ("图变成", ["glossary"])):
            window.goto(f"{(built[0] / 'zh_CN/search.html').as_uri()}?q={query}")
            window.wait_for_function("() => document.querySelector('#search-results h2 ~ p')?.innerText")
            window.wait_for_selector("ul.search li a")
            links = window.evaluate("() => [...document.querySelectorAll('ul.search li > a')].map((e) => e.pathname.split('/').at(-1))")
            assert {f"{name}.html" for name in found} <= set(links), query
        chromium.close()
