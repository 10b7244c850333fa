"""The catalogues of translations: today's English, whole but for pages that are named, and nothing lost on the way."""

import catalogues
import pytest
import readme
import stage
import translations
from translations import faults

ENGLISH = "A {term}`tag` of $x_1$, `code` and [a page](a.md)."
CHINESE = "$x_1$ 的{term}`标签 <tag>`、`code` 与[一页](a.md)。"


# what the catalogues hold


@pytest.fixture(scope="module")
def renewed(tmp_path_factory):
    """The catalogues as `make locale` would write them now."""
    there = tmp_path_factory.mktemp("locale")
    catalogues.write(there)
    return there


def files(root):
    (language,) = catalogues.LANGUAGES
    texts = {path.relative_to(root): path.read_bytes() for path in (root / catalogues.FOLDER / language).rglob("*.po")}
    return texts | {path.name: path.read_bytes() for path in root.glob("README.*.md")}


def test_the_catalogues_are_those_of_today_s_english(renewed):
    now, held = files(renewed), files(stage.ROOT)
    assert [str(name) for name in now.keys() | held.keys() if now.get(name) != held.get(name)] == [], "the English has changed: make locale"
    assert len(now) > 30


@pytest.mark.parametrize("page", translations.TRANSLATED)
def test_a_page_is_whole_and_of_today_s_english(page):
    wrong = {message.id[:100]: "its English has changed" for message in translations.said(page) if message.fuzzy}
    assert wrong | translations.wrong_in(page, translations.said(page)) == {}


@pytest.mark.parametrize("page", translations.pages())
def test_what_is_translated_keeps_links_formulas_code_and_numbers(page):
    done = [message for message in translations.said(page) if message.string and not message.fuzzy]
    assert translations.wrong_in(page, done) == {}


def test_every_page_has_a_catalogue_and_those_that_wait_are_among_them():
    pages = set(translations.pages())
    assert {"README", "words", "book/intro", "notebooks/01_ptc"} < pages
    assert set(translations.NOT_YET) < pages


# the check itself


def test_a_right_translation_has_no_fault():
    assert faults(ENGLISH, CHINESE) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("$x_1$", "$x_2$"), "formulas"),
        (("<tag>", "<tags>"), "roles"),
        (("{term}", "{doc}"), "roles"),
        (("`code`", "`kode`"), "code"),
        (("a.md", "b.md"), "links"),
        (("[一页](a.md)", "一页"), "links"),
        (("$x_1$ 的", "1. 的$x_1$"), "begins as no paragraph"),
        (("$x_1$ 的", "# $x_1$ 的"), "begins as no paragraph"),
        (("的", "\n"), "line's end"),
        (("的", "**的。**的"), "a * is shown"),
    ],
)
def test_a_wrong_one_is_told(change, told):
    assert any(told in fault for fault in faults(ENGLISH, CHINESE.replace(*change))), faults(ENGLISH, CHINESE.replace(*change))


@pytest.mark.parametrize(
    ("other", "told"), [("", 3), ("{0} 与 {1}", 1), ("{0} 与\n{0}", 1), ("{1} 与\n{0}", 0), ("*{1}\n{0}", 0)]
)
def test_what_cells_show_keeps_places_and_lines(other, told):
    assert len(translations.faults_of_cells("{0} and\n{1}", other)) == told


def test_nothing_is_no_translation_and_a_placeholder_stays():
    assert faults(ENGLISH, "") == ["not translated"]
    assert faults("Exercise {number}", "练习 {nummer}") and not faults("Exercise {number}", "练习 {number}")


# how they are renewed


def catalogue(*pairs):
    text = "\n\n".join(f'msgid "{english}"\nmsgstr "{other}"' for english, other in pairs)
    return catalogues.HEADER.format("zh_CN").encode() + text.encode() + b"\n"


LONG = "The loss grows with the number of pixels, and falls with every step."


def test_a_change_of_english_makes_a_translation_fuzzy_and_no_build_uses_it(tmp_path):
    old = catalogue((LONG, "损失随像素数增大。"), ("Another one.", "另一句。"))
    new = catalogues.renewed(old, [LONG.replace("every", "each"), "Another one."], "zh_CN").decode()
    assert new.count("fuzzy") == 1 and "损失随像素数增大" in new.partition("fuzzy")[2]
    (tmp_path / "a.po").write_text(new, encoding="utf-8")
    assert stage.translations(tmp_path / "a.po") == {"Another one.": "另一句。"}


def test_without_a_change_a_renewal_changes_nothing_and_a_note_of_the_translator_stays():
    texts = [LONG, "5 % of {them}", "Another one."]
    first = catalogues.renewed(catalogue((LONG, "损失")), texts, "zh_CN").replace(b"\n\nmsgid", b"\n\n# a note\nmsgid", 1)
    assert catalogues.renewed(first, texts, "zh_CN") == first and b"# a note" in first
    assert b"format" not in first and b"#:" not in first and b"Date" not in first


def test_a_message_that_is_gone_goes():
    assert b"Another" not in catalogues.renewed(catalogue(("Another one.", "另一句。")), [LONG], "zh_CN")


@pytest.mark.parametrize("text", ["`code`", "0.5", "$x$", "[8](#eq-8)", "{py:func}`dsgc.cam.maps`", "–", "{doc}`page`, {cite:p}`one`"])
def test_what_is_the_same_in_every_language_is_no_message(text):
    assert not catalogues.is_said(text)


@pytest.mark.parametrize("text", ["yes", "`code` of it", "{doc}`the page <page>`", "[the page](page.md)"])
def test_what_is_said_is_one(text):
    assert catalogues.is_said(text)


# the README

README = """# Title

One line
of two.

- an item
  goes on

| head | head |
|---|---|
| a | `b` |

```bash
make book  # one line of two.
```
"""


def test_the_readme_is_translated_block_by_block_and_code_stays():
    assert readme.messages(README) == ["Title", "One line of two.", "an item goes on", "head", "head", "a", "`b`"]
    said = {"Title": "题", "One line of two.": "一行。", "an item goes on": "一项", "head": "头", "a": "甲"}
    want = "# 题\n\n一行。\n\n- 一项\n\n| 头 | 头 |\n|---|---|\n| 甲 | `b` |\n\n```bash\nmake book  # one line of two.\n```\n"
    assert readme.translated(README, said) == want
    assert readme.translated(README, {}) == README
