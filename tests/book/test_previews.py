"""The page of all equations, links of first mentions, and the cards that links show: in a small book, in a browser, from files."""

import re

import explored
import pages
import pytest
import small_book
from sphinx.errors import ExtensionError

SHOWN = "() => document.querySelector('#preview:popover-open')?.style.visibility === 'visible'"
GONE = "() => !document.querySelector('#preview:popover-open')"


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    html, warnings = small_book.build(tmp_path_factory.mktemp("book"))
    assert re.sub(r".*(already registered|overridden).*\n?", "", warnings) == ""
    return html


@pytest.fixture(scope="module")
def browser():
    with explored.chromium() as browser:
        yield browser


@pytest.fixture
def opened(browser, html):
    """Opens a page of the small book; nothing may fail there, and nothing may come from elsewhere."""
    windows, errors, requests = [], [], []

    def open_page(name, **options):
        page = browser.new_page(**{"viewport": pages.SIZES["wide"]} | options)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto((html / f"{name}.html").as_uri())
        page.wait_for_function(pages.TYPESET)
        windows.append(page)
        return page

    yield open_page
    for page in windows:
        page.close()
    assert errors == [] and all(address.startswith(("file:", "data:", "blob:")) for address in requests)


def text(html, page):
    return (html / f"{page}.html").read_text(encoding="utf-8")


def previews(html, page):
    return dict(re.findall(r'<template data-preview="([^"]+)">(.*?)</template>', text(html, page), re.DOTALL))


# the page of all equations


def test_a_row_has_the_chapter_s_formula_and_leads_to_function_test_and_chapter(html):
    row = re.search(r'id="equation-2">(.*?)<div class="clearer"', text(html, "book/equations"), re.DOTALL)[1]
    formula = re.search(r'id="eq-2">(.*?)</div>', text(html, "notebooks/one"), re.DOTALL)[1]
    assert r"\tag{2}" in formula and formula in row and "The cases." in row
    links = re.findall(r'href="([^"]+)"', row)
    assert links[:3] == ["reference.html#room.second", "reference.html#test_room.test_second", "../notebooks/one.html#eq-2"]
    assert "Derived in <a" in row and ">A chapter</a>" in row


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("(eq-2)=", "Text."), "no page has the label"),
        (("(eq-2)=", "(eq-2)=\nText.\n"), "stands before no formula"),
        (("`Eq. 2 <eq-2>`", "`Eq. 2 <eq-1>`"), "has a row of Eq. 2"),
    ],
)
def test_an_equation_that_no_chapter_derives_or_holds_ends_the_build(tmp_path, change, message):
    with pytest.raises(ExtensionError, match=message):
        small_book.build(tmp_path, **{"notebooks/one": small_book.CHAPTER.replace(*change)})


# first mentions


def test_the_first_mention_of_a_term_leads_to_the_glossary_and_no_other_does(html):
    found = re.findall(r'href="glossary.html#term-([^"]+)"><span class="mention">([^<]+)<', text(html, "book/prose"))
    assert found == [("cat-map", "Cat\nmaps"), ("tags", "tag"), ("purr", "Purrs")]  # not in title, code, link and table, nor a synonym
    assert text(html, "book/prose").count("#term-method") == 1  # where the page says {term}
    assert "mention" not in text(html, "book/plain") + text(html, "book/glossary")


# what is baked in


def test_a_page_holds_a_card_of_what_it_links_to_and_of_nothing_else(html):
    assert previews(html, "book/prose").keys() == {"eq-1", "term-cat-map", "term-tags", "term-purr", "term-method"}
    assert previews(html, "book/glossary").keys() == {"eq-1", "term-tags"}  # not of the signs beside its own terms
    for page in ("book/plain", "book/equations"):
        assert not previews(html, page) and "previews." not in text(html, page)


def test_cards_hold_formula_and_words_without_links_ids_and_number(html):
    cards = previews(html, "book/prose")
    assert r"\sum_{k=1}^{K} b_{nk}" in cards["eq-1"] and "Eq. 1" in cards["eq-1"]
    assert "The sum, see " in cards["eq-1"] and "Departs" in cards["eq-1"] and "Function" not in cards["eq-1"]
    assert "cat map, CM" in cards["term-cat-map"] and "A map of cats" in cards["term-cat-map"] and "Eq. 1" in cards["term-cat-map"]
    assert not re.search(r"<a |\bid=|\\tag", "".join(cards.values()))


# in the browser


def test_a_pointer_shows_the_card_with_its_formula_typeset_and_may_enter_it(opened):
    page = opened("book/prose")
    page.locator("a[href$='#eq-1']").hover()
    page.wait_for_function(SHOWN)
    card, link = page.locator("#preview"), page.locator("a[href$='#eq-1']")
    assert card.locator("mjx-container").count() == 1 and card.locator("[data-mjx-error]").count() == 0
    assert link.get_attribute("aria-describedby") == "preview" and card.get_attribute("role") == "tooltip"
    card.hover()
    page.wait_for_timeout(500)
    assert page.evaluate(SHOWN)
    page.mouse.move(1, 1)
    page.wait_for_function(GONE)
    assert link.get_attribute("aria-describedby") is None


def test_a_page_without_formulas_typesets_those_of_its_cards_alone(opened):
    page = opened("book/prose")
    assert page.evaluate("typeof MathJax") == "undefined"
    page.locator("a[href$='#term-cat-map']").hover()
    page.wait_for_function(SHOWN)
    assert page.locator("#preview mjx-container").count() == page.locator("mjx-container").count() == 1
    page.locator("a[href$='#eq-1']").hover()
    page.wait_for_function("() => document.querySelector('#preview').textContent.includes('The sum') && (" + SHOWN + ")()")
    assert page.locator("#preview mjx-container").count() == 1


@pytest.mark.parametrize("mode", pages.MODES)
def test_the_keyboard_shows_a_card_and_escape_closes_it(opened, mode):
    page = opened("notebooks/one", color_scheme=mode)
    page.locator("a[href='#eq-2']").first.focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    page.wait_for_function(SHOWN)
    page.evaluate(pages.axe())
    found = page.evaluate("() => axe.run('#preview', { preload: false })")["violations"]
    assert [(item["id"], node["html"][:150]) for item in found for node in item["nodes"]] == []
    page.keyboard.press("Escape")
    page.wait_for_function(GONE)
    assert page.evaluate("document.activeElement.hash") == "#eq-2"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    page.wait_for_function(SHOWN)
    page.keyboard.press("Shift+Tab")
    page.wait_for_function("() => !document.querySelector('[aria-describedby]:not(:focus)')")


def test_a_card_stays_on_a_narrow_screen_and_its_formula_in_the_card(opened):
    page = opened("notebooks/one", viewport=pages.SIZES["narrow"])
    page.locator("a[href='#eq-2']").first.hover()
    page.wait_for_function(SHOWN)
    box, formula = (page.locator(f"#preview{inside}").bounding_box() for inside in ("", " mjx-math"))
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    assert formula["x"] >= box["x"] and formula["x"] + formula["width"] <= box["x"] + box["width"]


def test_a_touch_follows_the_link_and_shows_no_card(opened, browser):
    page = opened("book/prose", has_touch=True, is_mobile=True)
    page.locator("a[href$='#term-tags']").tap()
    page.wait_for_url("**/glossary.html#term-tags")
    page = opened("notebooks/one", has_touch=True, is_mobile=True)
    page.locator("a[href='#eq-2']").first.tap()
    page.wait_for_timeout(400)
    assert page.url.endswith("#eq-2") and page.evaluate(GONE)


def test_print_has_no_card(opened):
    page = opened("book/prose")
    page.locator("a[href$='#term-tags']").hover()
    page.wait_for_function(SHOWN)
    page.emulate_media(media="print")
    assert not page.locator("#preview").is_visible()
