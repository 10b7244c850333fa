"""The words of the Chinese edition: one for each term, in the table, in the glossary and in every translated message."""

import io
import re
from pathlib import Path

import pytest
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.locale import translators
from sphinx.util.nodes import extract_messages
from terms import Term, read
from wording import faults, faults_of, prose, said, spelt

ROOT = Path(__file__).resolve().parents[2]
CATALOGUES = sorted(ROOT.glob("locale/zh_CN/LC_MESSAGES/**/*.po"))
TABLE = read()
GLOSSARY = (ROOT / "book/glossary.md").read_text(encoding="utf-8")
MADE_UP = (
    Term("tag", "图像标签", ("标签词",), "field", ""),
    Term("label", "标签", (), "paper", ""),
    Term("pseudo label", "伪标签", ("假标签",), "paper", ""),
    Term("patch", "图像块", (), "field", ""),
    Term("patch token", "patch token", (), "paper", ""),
    Term("token", "token", ("令牌",), "paper", ""),
    Term("boundary", "边界", (), "paper", ""),
    Term("warm-up", "预热", (), "paper", ""),
    Term("correction", "修正", ("校正",), "paper", ""),
    Term("Holm's correction", "Holm 校正", (), "field", ""),
    Term("run (noun)", "运行", ("跑动",), "field", ""),
)


# the table


def test_the_table_has_one_row_for_a_term_and_one_word_in_it():
    names = [term.english for term in TABLE]
    assert names == sorted(set(names), key=str.lower) and len({name.lower() for name in names}) == len(names)
    for term in TABLE:
        texts = [term.english, term.chinese, *term.forbidden, term.note]
        assert term.english and term.chinese and [text for text in texts if text != text.strip()] == [], term
        assert term.source in {"paper", "field"} and not re.search("[;；/|,，、]", term.chinese), term


def test_no_word_is_right_for_one_term_and_wrong_for_another():
    right = {term.chinese for term in TABLE}
    assert [(term.english, word) for term in TABLE for word in term.forbidden if word in right] == []


def test_each_row_is_asked_for_by_its_english():
    assert [term.english for term in TABLE if term.has_one_meaning and said(term.english, TABLE) != [term]] == []
    assert [term.english for term in TABLE if not faults("", "、".join(term.forbidden), TABLE) and term.forbidden] == []


def test_the_glossary_s_terms_stand_in_the_table_each_with_a_word_of_its_own():
    """Sphinx warns of two entries with one name, and a warning ends the build."""
    body = GLOSSARY.split(":::{glossary}\n")[1].split("\n:::")[0]
    names = re.findall(r"^\S.*", body, re.MULTILINE)
    words = [{term.chinese for term in TABLE if re.fullmatch(spelt(term.name), name, re.IGNORECASE)} for name in names]
    assert [name for name, found in zip(names, words, strict=True) if len(found) != 1] == []
    assert len(set.union(*words)) == len(names) > 70


# the checker


@pytest.mark.parametrize(
    ("english", "chinese", "missed"),
    [
        ("Tags say nothing of place.", "图像标签不说明位置。", []),
        ("Tags say nothing of place.", "标签不说明位置。", ["tag is 图像标签"]),
        ("A pseudo label for each", "每个都有伪标签", []),
        ("pseudo-label or Pseudo\nlabels", "假标签", ["pseudo label is 伪标签", "假标签 must not stand; pseudo label is 伪标签"]),
        ("The patch tokens", "各个 patch token", []),  # neither patch nor token alone
        ("The patch tokens of a patch", "各个 patch token", ["patch is 图像块"]),
        ("Boundaries", "轮廓", ["boundary is 边界"]),
        ("The warm-up of a warmup, warm up", "先预热", []),
        ("stage, tokenised, patched, unlabelled", "无", []),  # whole words only
        ("nothing", "一个令牌", ["令牌 must not stand; token is token"]),
        ("after Holm’s correction", "经 Holm校正", []),
        ("after correction", "经校正", ["correction is 修正", "校正 must not stand; correction is 修正"]),
        ("one run", "一次训练", []),  # which meaning it has cannot be told
        ("`patch`, ``a `token` ``, $tag_{label}$", "无", []),
        ("{py:func}`token <dsgc.token>` {doc}`patch` {glue:text}`tag`", "无", []),
        ("{doc}`a patch <labels>`, [a *tag*](label.md)", "见{doc}`图像块 <labels>`与[图像标签](label.md)", []),
        ("{doc}`a patch <labels>`", "见{doc}`图 <labels>`", ["patch is 图像块"]),
        ("{term}`tags`", "{term}`图像标签 <tags>`", []),
        ("{term}`tags`", "{term}`标签 <tags>`", ["tag is 图像标签"]),
        ("`label` of a patch", "图像块的 `令牌`", []),
        ("A token's two values", "token 的两个值", []),
    ],
)
def test_a_term_is_said_by_its_word_and_by_no_other(english, chinese, missed):
    assert faults(english, chinese, MADE_UP) == missed


def test_prose_is_what_a_reader_reads():
    text = "[a [b] c](y.md#z) {term}`d e <f>` {cite:p}`g` <i> https://j.k"
    assert prose(text).split() == ["a", "[b]", "c", "d", "e"]
    assert [term.english for term in said("A label's tokens", TABLE)] == ["label", "token"]


CATALOGUE = """
msgid ""
msgstr "Content-Type: text/plain; charset=UTF-8\\n"

# not the term: patch
msgid "A patch of colour"
msgstr "一片颜色"

# not the term: patch, token
msgid "A patch"
msgstr "图像块"

msgid "A token that nobody translated"
msgstr ""

#, fuzzy
msgid "A token that has changed"
msgstr "令牌"

msgid "A "
"boundary"
msgstr "边缘"

#~ msgid "A token that is gone"
#~ msgstr "令牌"
"""


def test_a_catalogue_is_read_with_its_excuses(tmp_path):
    (tmp_path / "page.po").write_text(CATALOGUE, encoding="utf-8")
    excuse = "'A patch': no need of 'not the term: {}'"
    expected = [excuse.format("patch"), excuse.format("token"), "'A boundary': boundary is 边界"]
    assert faults_of(tmp_path / "page.po", MADE_UP) == expected


@pytest.mark.parametrize("catalogue", CATALOGUES, ids=[path.stem for path in CATALOGUES])
def test_translations_keep_to_the_table(catalogue):
    assert faults_of(catalogue, TABLE) == []


# the table in the glossary


def test_the_glossary_shows_every_row_and_leaves_only_a_head_to_translate(tmp_path):
    assert "```{terms}\n```" in GLOSSARY
    (tmp_path / "index.md").write_text("# Words\n\n```{terms}\n```\n", encoding="utf-8")
    settings = {"extensions": ["myst_parser", "terms"], "source_suffix": {".md": "markdown"}, "html_theme": "basic", "smartquotes": False}
    folders = (str(tmp_path), None, str(tmp_path / "out"), str(tmp_path / "out"))
    translators.clear()  # a language stays set in the process that has built in it
    app = Sphinx(*folders, "html", confoverrides=settings, status=None, warning=io.StringIO())
    app.build()
    assert app.statuscode == 0 and app._warning.getvalue() == ""
    page = app.env.get_doctree("index")
    rows = [[entry.astext() for entry in row] for row in page.findall(nodes.row)]
    assert rows[1:] == [[term.english, term.chinese, "yes" if term.source == "paper" else "–"] for term in TABLE]
    assert [message for _, message in extract_messages(page)] == ["Words", "in the paper"]
    assert (tmp_path / "out/index.html").read_text(encoding="utf-8").count('lang="zh-CN"') == len(TABLE) + 1
