"""What the Chinese edition of the built book has to be; `test_pages`, which builds both editions once, runs these tests."""

import re
from html import unescape

import nbformat
import pages
import pytest
import shown
import stage
import translations
from pages import SOURCES

EDITION = "zh_CN/"
NOTEBOOKS = [page for page in SOURCES if page.startswith("notebooks/")]
HEAD = re.compile(r"<th>([^<]+)</th>")
FIGURE = re.compile(r'src="[./]*_images/([0-9a-f]{32,}\.png)"')  # named by its content
SECTION = re.compile(r'<section\b[^>]*\bid="([^"]+)"')
# What a reader types, the page that tells, and how far down it may stand; asked once the page is translated.
SEARCHES = {
    "噪声概率": ("notebooks/03_gmm_em", 3),
    "教师网络": ("notebooks/02_dskd", 3),
    "阈值": ("notebooks/04_gc_rules", 4),
    "过平滑": ("notebooks/01_ptc", 3),
    "学习率": ("book/choices", 3),
    "伪标签": ("book/glossary", 5),
    "自己的图像": ("book/own_pictures", 3),
}
# Is the place that the address names within this section, and seen at the top?
AT = """(id) => {
    const place = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    return document.getElementById(id).contains(place) && Math.abs(place.getBoundingClientRect().top) < 200;
}"""
ASKED = {query: found for query, found in SEARCHES.items() if found[0] in translations.TRANSLATED}


class Edition:
    @pytest.mark.parametrize("page", SOURCES)
    def test_a_page_names_its_language_and_has_the_places_of_the_english_one(self, html, page):
        english, chinese = ((html / f"{edition}{page}.html").read_text(encoding="utf-8") for edition in ("", EDITION))
        up = "../" * page.count("/")
        assert '<html lang="en"' in english and '<html lang="zh-CN"' in chinese
        assert f'<link rel="alternate" hreflang="zh-CN" href="{up}{EDITION}{page}.html">' in english
        assert f'<link rel="alternate" hreflang="en" href="{up}../{page}.html">' in chinese
        if page not in stage.MADE_OF_CODE:
            assert SECTION.findall(english) == SECTION.findall(chinese)

    def test_its_own_words_and_the_theme_s_are_chinese(self, html):
        page = (html / f"{EDITION}notebooks/03_gmm_em.html").read_text(encoding="utf-8")
        assert "下一页" in page and "搜索" in page and "练习" in page
        assert ">next<" not in page and "Search this book" not in page and "Print this page" not in page

    def test_every_text_that_pages_show_is_in_a_catalogue(self, html):
        known = {message.id for name in (shown.NOTEBOOKS, shown.PAGES) for message in translations.said(name)}
        missing = [text for text in shown.texts_in(html.parent / "executed") if text not in known]
        assert missing == [], "python book/catalogues.py --executed _build/executed, after a build"

    @pytest.mark.parametrize("page", NOTEBOOKS)
    def test_figures_and_heads_of_tables_are_chinese(self, html, page):
        english, chinese = ((html / f"{edition}{page}.html").read_text(encoding="utf-8") for edition in ("", EDITION))
        said = shown.said(EDITION.strip("/"))
        heads = [unescape(head) for head in HEAD.findall(english)]
        assert [head for head in HEAD.findall(chinese) if said.get(head, head) != head] == []
        notebook = nbformat.read(stage.ROOT / f"{page}.ipynb", as_version=4)
        figures = [output.metadata["image/png"] for output in shown.outputs(notebook) if "image/png" in output.metadata]
        spoken = sum(any(said.get(word, word) != word for word in figure["words"]) for figure in figures)
        assert heads or figures
        assert len(set(FIGURE.findall(chinese)) - set(FIGURE.findall(english))) == spoken

    def test_the_switch_keeps_the_section_there_and_back(self, browser):
        window = browser.chromium.new_page(viewport=pages.SIZES["wide"])
        window.goto(browser.address("notebooks/03_gmm_em"))
        window.wait_for_function(pages.TYPESET)
        section = window.evaluate("""() => {
            const found = document.querySelectorAll('article section section[id]')[3];
            found.scrollIntoView({ behavior: 'instant' });
            return found.id;
        }""")
        for address in (browser.address(f"{EDITION}notebooks/03_gmm_em"), browser.address("notebooks/03_gmm_em")):
            box = window.locator("a.edition").first.bounding_box()  # its own click would scroll first, as nobody does
            window.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            window.wait_for_url(f"{address}#*")
            window.wait_for_function(pages.TYPESET)
            window.wait_for_function(AT, arg=section)
        window.close()

    def test_the_switch_takes_along_what_is_searched_for(self, browser):
        window = browser.chromium.new_page()
        window.goto(browser.address("search") + "?q=CAM")
        window.locator("a.edition").first.click()
        window.wait_for_url(f"{browser.address(EDITION + 'search')}?q=CAM")
        window.close()

    def test_without_a_script_the_switch_leads_to_the_page(self, browser):
        context = browser.chromium.new_context(java_script_enabled=False)
        window = context.new_page()
        window.goto(browser.address("book/intro"))
        window.locator("a.edition").first.click()
        assert window.url == browser.address(f"{EDITION}book/intro")
        context.close()

    @pytest.mark.parametrize("query", ASKED)
    def test_the_search_shows_first_what_a_reader_looks_for(self, browser, query):
        page, place = ASKED[query]
        assert page in browser.found(query, EDITION)[:place]
