"""Every page of the book as a reader gets it: formulas, pictures, links, colours, width, and nothing from another host."""

import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urlsplit

import chinese_pages
import launch
import nbformat
import pages
import pytest
import sources
from pages import CHINESE, CONFIG, PAGES, ROOT, SOURCES
from words import HAN

# What others' code does against axe's rules: the rule, a piece of the HTML that does it, and why it stays.
KNOWN = {
    "region": ("sidebar-primary-item", "the theme puts the book's title above its contents outside of every landmark"),
    "empty-table-header": ('class="blank', "pandas writes the empty corner of a table as header cells"),
}
FILE_NAME = re.compile(r"\.(png|svg|jpe?g|gif|webp)\b|/")
SIGN = re.compile(f"[{HAN}]")
LEAST = 9  # pixels of a letter as shown
RAW = re.compile(r"\{[A-Za-z][\w:+.-]*\}`|^\s*[`:]{3,}\{|^\([\w-]+\)=\s*$|^:::", re.MULTILINE)  # roles, directives, targets
NOTEBOOKS = [page for page in SOURCES if page.startswith("notebooks/")]
PROSE = [page for page in SOURCES if not page.startswith("notebooks/")]
REPOSITORY, BRANCH = CONFIG["repository"]["url"], CONFIG["repository"]["branch"]

every_page = pytest.mark.parametrize("page", [*PAGES, *CHINESE])
every_mode = pytest.mark.parametrize("mode", pages.MODES)


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    return pages.build(tmp_path_factory.mktemp("book"))


@pytest.fixture(scope="module")
def browser(html):
    executable = pages.browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield pages.Browser(playwright, executable, html)


# in the browser


@every_page
def test_no_script_fails(browser, page):
    assert browser.visit(page).errors == []


@every_page
def test_nothing_comes_from_another_host(browser, page):
    requests = browser.visit(page).requests
    assert [address for address in requests if not address.startswith(("file:", "data:", "blob:"))] == []
    assert requests


@every_page
def test_every_formula_is_typeset(browser, page):
    facts = browser.visit(page).facts
    assert facts["wrong"] == []
    assert facts["typeset"] == facts["formulas"]


@every_page
def test_every_formula_fits_a_wide_page_and_starts_within_a_narrow_one(browser, page):
    visit = browser.visit(page)
    assert visit.facts["scrolling"] == [] and visit.facts["cut"] == []
    assert visit.narrow["cut"] == []  # it may scroll there, from its left end


def test_there_are_formulas(browser):
    assert browser.visit("book/framework").facts["formulas"] > 3


@every_page
@every_mode
def test_axe_finds_nothing_new(browser, page, mode):
    """Contrast of text and ground in both modes; names, roles, order of headings and what else axe-core can tell."""
    visit = browser.visit(page)
    assert visit.themes[mode] == mode
    found = [(item["id"], node["html"][:200]) for item in visit.violations[mode] for node in item["nodes"]]
    assert [(rule, piece) for rule, piece in found if rule not in KNOWN or KNOWN[rule][0] not in piece] == []


def test_what_is_known_still_happens(browser):
    """An exception that nothing needs any more would hide the next violation of its rule."""
    found = {item["id"] for page in PAGES for item in browser.visit(page).violations["light"]}
    assert set(KNOWN) <= found


@every_page
def test_a_narrow_page_does_not_scroll_sideways(browser, page):
    facts = browser.visit(page).narrow
    assert facts["needed"] <= facts["width"] == 390, facts["wide"]


@every_page
def test_text_is_large_enough_on_a_narrow_page(browser, page):
    assert browser.visit(page).narrow["small"] == []


@every_page
def test_letters_in_figures_can_be_read(browser, page):
    """As shown, wide and narrow; a PNG of matplotlib says how small its letters are, a drawing in the page has them."""
    visit = browser.visit(page)
    for facts in (visit.facts, visit.narrow):
        assert [(size, text) for size, text in facts["drawn"] if size < LEAST] == []
        for picture in facts["pictures"]:
            letter = pages.smallest_letter(picture["src"])
            assert letter is None or letter * picture["shown"] / picture["real"][0] >= LEAST - 0.01, picture


@every_page
def test_every_picture_has_its_size_before_it_comes(browser, page):
    assert [picture for picture in browser.visit(page).facts["pictures"] if picture["said"] != picture["real"]] == []


@every_page
def test_nothing_is_cut_at_the_column_s_edge_and_cells_do_not_touch(browser, page):
    visit = browser.visit(page)
    assert visit.facts["cutoff"] == [] and visit.facts["touching"] == [] == visit.narrow["touching"]


@pytest.mark.parametrize(("start", "link"), [("notebooks/03_gmm_em", ""), ("book/notation", "a[href$='03_gmm_em.html#eq-16']")])
def test_a_link_lands_on_its_equation_when_the_formulas_have_grown(browser, start, link):
    """From outside and from another page."""
    window = browser.chromium.new_page()
    window.add_init_script(pages.LATE)
    window.goto(browser.address(start) + "#eq-16" * (not link))
    if link:
        window.locator(link).first.evaluate("link => link.click()")
        window.wait_for_url("**/03_gmm_em.html#eq-16")
    window.wait_for_function("() => document.querySelector('mjx-container')")
    window.wait_for_function("() => document.fonts.ready.then(() => true)")
    window.wait_for_function("() => new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(() => go(true))))")
    assert 0 <= window.evaluate("document.getElementById('eq-16').getBoundingClientRect().top") <= 120
    window.close()


@pytest.mark.parametrize("page", ["notebooks/03_gmm_em", "book/glossary"])
def test_the_download_buttons_save_the_page_s_files(browser, html, page):
    window = browser.chromium.new_page()
    window.goto(browser.address(page))
    for link in window.locator(".dropdown-download-buttons a").all():
        with window.expect_download() as saved:
            link.evaluate("link => link.click()")
        name = saved.value.suggested_filename
        assert Path(saved.value.path()).read_bytes() == (html / "_sources" / page).with_name(name).read_bytes()
        assert window.url == browser.address(page)
    window.close()


# What a reader types, the page that tells, and how far down it may stand: below a glossary's entry, say.
SEARCHES = {
    "resume": ("book/reproduce", 3),
    "threshold": ("notebooks/04_gc_rules", 3),
    "teacher": ("notebooks/02_dskd", 3),
    "own pictures": ("book/own_pictures", 1),
    "CRF": ("book/reproduce", 3),
    "memory": ("book/performance", 3),
    "learning rate": ("book/choices", 3),
    "label noise": ("notebooks/03_gmm_em", 3),
    "EM": ("notebooks/03_gmm_em", 3),
    "background": ("notebooks/01_ptc", 3),
}


@pytest.mark.parametrize("query", SEARCHES)
def test_the_search_shows_first_what_a_reader_looks_for(browser, query):
    page, place = SEARCHES[query]
    assert page in browser.found(query)[:place]


def test_the_search_finds_the_page_that_a_word_stands_on(browser):
    visit = browser.visit("search", "?q=posterior")
    assert any("notebooks/03_gmm_em.html" in found for found in visit.facts["found"])
    assert visit.errors == []


class TestTheChineseEdition(chinese_pages.Edition):
    """Here, since the book is built once for all tests."""


# in the HTML


def targets(html, path):
    """The files and fragments that a page links to within the book."""
    for link in pages.read(path).links:
        parts = urlsplit(link)
        if not parts.scheme and not parts.netloc:
            yield link, (path.parent / unquote(parts.path)).resolve() if parts.path else path, unquote(parts.fragment)


def dead_links(html, path):
    for link, file, fragment in targets(html, path):
        there = file.is_file() and file.is_relative_to(html)
        if not there or (fragment and file.suffix == ".html" and fragment not in pages.read(file).ids):
            yield link


@every_page
def test_every_link_within_the_book_leads_somewhere(html, page):
    path = html / f"{page}.html"
    assert list(dead_links(html, path)) == []
    assert list(targets(html, path))


def test_every_link_of_the_source_pages_and_of_the_chinese_edition_leads_somewhere(html):
    sources = sorted(path for folder in ("_modules", "zh_CN") for path in (html / folder).rglob("*.html"))
    assert sources and {str(path): dead for path in sources if (dead := list(dead_links(html, path)))} == {}


@every_page
def test_every_picture_says_what_it_shows(html, page):
    texts = [item.get("alt") or item.get("aria-label") or "" for item in pages.read(html / f"{page}.html").pictures]
    assert [text for text in texts if len(SIGN.sub(" word ", text).split()) < 3 or FILE_NAME.search(text)] == []
    assert [text for text, times in Counter(texts).items() if times > 1] == []  # a text for all pictures describes none


@pytest.mark.parametrize("page", SOURCES)
def test_the_edit_link_leads_to_the_page_s_source(html, page):
    source = f"{page}.ipynb" if page in NOTEBOOKS else f"{page}.md"
    assert (ROOT / source).is_file()
    assert f"{REPOSITORY}/edit/{BRANCH}/{source}" in pages.read(html / f"{page}.html").links


@pytest.mark.parametrize("page", SOURCES)
def test_a_launch_link_leads_to_a_plain_notebook_and_other_pages_have_none(html, page):
    owner = REPOSITORY.removeprefix("https://github.com/")
    links = [link for link in pages.read(html / f"{page}.html").links if "colab" in link or "mybinder" in link]
    colab = f"https://colab.research.google.com/github/{owner}/blob/{launch.BRANCH}/{page}.ipynb"
    binder = f"https://mybinder.org/v2/gh/{owner}/{launch.BRANCH}?urlpath=lab/tree/{page}.ipynb"
    assert sorted(links) == ([colab, binder] if page in NOTEBOOKS else [])


def plain(html, page):
    """The notebook that a page offers for download."""
    (file,) = {file for _, file, _ in targets(html, html / f"{page}.html") if file.suffix == ".ipynb"}
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    return notebook.cells


def source_of(page):
    return nbformat.read(ROOT / f"{page}.ipynb", as_version=4).cells


@pytest.mark.parametrize("page", NOTEBOOKS)
def test_the_download_is_the_notebook_with_its_outputs_and_installs_first(html, page):
    cells = plain(html, page)
    assert any(cell.get("outputs") for cell in cells) and "%pip install" in cells[0].source
    kept = [cell.source for cell in cells if cell.cell_type == "code"]
    text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")  # has the code of solutions
    code = [cell.source for cell in source_of(page) if cell.cell_type == "code"]
    assert [source for source in code if source not in kept and f"```python\n{source}\n```" not in text] == []


@pytest.mark.parametrize("page", NOTEBOOKS)
def test_a_download_has_no_markup_that_jupyter_shows_raw_and_its_solutions_are_folded(html, page):
    text = "\n\n".join(cell.source for cell in plain(html, page) if cell.cell_type == "markdown")
    assert RAW.findall(text) == []
    source = "\n\n".join(cell.source for cell in source_of(page) if cell.cell_type == "markdown")
    solutions = len(re.findall(r"\{(?:dropdown|solution|solution-start)\}", source, re.MULTILINE))
    assert text.count("<details>") == text.count("</details>") >= solutions
    assert RAW.search(source) and set(re.findall(r"\\tag\{\d+\}", text)) == set(re.findall(r"\\tag\{\d+\}", source))


def test_an_equation_named_in_the_reference_leads_to_it(html):
    links = pages.read(html / "book/reference.html").links
    named = {link.partition("#eq-")[2] for link in links if "#eq-" in link}
    assert named == {str(number) for number in range(1, 25)}


def test_the_page_of_exercises_leads_to_every_one(html):
    labels = {label for text in sources.SOURCES.values() for label in re.findall(r"^:label: (ex-\S+)$", text, flags=re.MULTILINE)}
    links = pages.read(html / "book/exercises.html").links
    assert {link.partition("#")[2] for link in links if "#ex-" in link} == labels


def formulas(html, page):
    """The formulas of a page by their numbers."""
    text = (html / f"{page}.html").read_text(encoding="utf-8")
    return {tag: formula for formula, tag in re.findall(r'<div class="math[^>]*>([^<]*\\tag\{(\d+)\}[^<]*)</div>', text)}


def test_the_page_of_all_equations_has_the_formulas_of_the_chapters_and_leads_to_function_test_and_chapter(html):
    page = html / "book/equations.html"
    rows = page.read_text(encoding="utf-8").split('<div class="equation-row ')[1:]
    shown = formulas(html, "book/equations")
    assert list(shown) == [str(number) for number in range(1, 25)] and len(rows) == 24
    for number, row in zip(shown, rows, strict=True):
        links = re.findall(r'href="([^"]+)"', row.split('"equation-links"')[1])
        assert len(links) >= 3 and links[0].startswith("reference.html#dsgc.") and links[1].startswith("tests.html#test_")
        chapter, _, label = links[2].partition("#")
        assert label == f"eq-{number}"
        derived = (page.parent / chapter).resolve().relative_to(html.resolve()).with_suffix("").as_posix()
        assert formulas(html, derived)[number] == shown[number]


@pytest.mark.parametrize("mode", pages.MODES)
def test_the_page_of_all_equations_prints_on_two_sheets(browser, html, mode):
    page = browser.chromium.new_page(color_scheme=mode)
    page.goto((html / "book/equations.html").as_uri())
    page.wait_for_function(pages.TYPESET)
    sheets = re.findall(rb"/Type /Page\b", page.pdf(prefer_css_page_size=True))
    page.emulate_media(media="print")
    colours = page.evaluate("[...document.querySelectorAll('.equation-row :is(div.math, p)')].map((e) => getComputedStyle(e).color)")
    page.close()
    assert len(sheets) == 2 and set(colours) == {"rgb(0, 0, 0)"}


def test_a_page_holds_cards_of_the_equations_and_terms_that_it_links_to(html):
    text = (html / "book/framework.html").read_text(encoding="utf-8")
    cards = set(re.findall(r'<template data-preview="([^"]+)">', text))
    linked = {fragment for _, _, fragment in targets(html, html / "book/framework.html") if fragment.startswith(("eq-", "term-"))}
    assert cards == linked and {"eq-22", "term-tags"} <= cards
    assert sum(map(len, re.findall(r"<template data-preview.*?</template>", text, re.DOTALL))) < 20_000
