"""What cells show in another language: figures, tables, explorers and computed sentences."""

import base64
import io
import json
import os
from pathlib import Path

import kernels
import matplotlib.font_manager
import matplotlib.text
import nbformat
import pytest
import shown
from explorers import said as said_by_scripts
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image
from words import FOLDER

matplotlib.use("agg")
import matplotlib.pyplot as plt  # noqa: E402

from dsgc.teaching import worded  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
FONT = matplotlib.font_manager.findfont("DejaVu Sans")  # which signs it has is not the point here


def drawn():
    figure, (left, right) = plt.subplots(1, 2)
    left.barh(["one thing", "3 things"], [1, 2], label="wrong")
    left.set(xlabel="of all pixels, %", title=r"mean $\mu_1$ of 5 runs")
    left.legend()
    right.plot([1, 2])
    plt.close(figure)
    return figure


def texts(figure):
    figure.draw_without_rendering()
    return {text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()}


@pytest.mark.parametrize(
    ("text", "known", "parts"),
    [
        ("after 10 steps", "after {0} steps", ["10"]),
        (r"mean $\mu_1$ of -3.4", "mean {0} of {1}", [r"$\mu_1$", "-3.4"]),
        ("+4.4 points", "{0} points", ["+4.4"]),
        ("MiT-B1, ImageNet-21k", "{0}, {1}", ["MiT-B1", "ImageNet-21k"]),
        ("Eq. 7: + DSKD", "Eq. {0}: + DSKD", ["7"]),
        ("of 3,000, 5 %", "of {0}, {1} %", ["3,000", "5"]),
        ("`dev` of e037b70bd2", "{0} of {1}", ["`dev`", "e037b70bd2"]),
    ],
)
def test_a_text_is_known_without_its_numbers_formulas_and_code(text, known, parts):
    assert worded.known_as(text) == (known, parts)


def test_names_of_the_code_are_no_words():
    texts = ["--method afa", "mixture.py", "label_low", "dsgc.gmm", "Eq. {0}", "an ox", "{0}"]
    assert [text for text in texts if worded.has_words(text)] == ["Eq. {0}", "an ox"]


def test_a_translation_may_turn_the_order_and_keeps_the_space_around():
    assert worded.put(" 3 of 5 runs\n", {"{0} of {1} runs": "{1} Läufe, davon {0}"}) == " 5 Läufe, davon 3\n"
    assert worded.put("3 of 5 runs", {}) == "3 of 5 runs"


def test_a_figure_is_spoken_in_another_language_and_then_as_it_was():
    figure = drawn()
    before = texts(figure)
    said = {"one thing": "eins", "{0} things": "{0} Dinge", "of all pixels, %": "%", "mean {0} of {1} runs": "{1} mal {0}"}
    said["wrong"] = "falsch"
    assert set(worded.words(figure)) == set(said)
    with worded.spoken(figure, worded.Language(said, "DejaVu Sans")):
        now = texts(figure)
    assert {"eins", "3 Dinge", "%", r"5 mal $\mu_1$", "falsch"} <= now
    assert texts(figure) == before and not now & {"one thing", "3 things", "wrong"}


def test_a_cell_gives_a_figure_in_each_language_that_says_something_of_it(tmp_path, monkeypatch):
    """The first figure in two languages, the second in English alone."""
    words = {"xx": {"said": {"wrong": "falsch"}, "font": FONT}}
    (tmp_path / "words.json").write_text(json.dumps(words))
    monkeypatch.setenv(worded.FILE, str(tmp_path / "words.json"))
    code = """from dsgc.teaching import figures
figures.style()
import matplotlib.pyplot as plt
figure, axis = plt.subplots(num="a")
axis.set_title("%s")
plt.close()
figure"""
    notebook = new_notebook(cells=[new_code_cell(code % title) for title in ("wrong", "right")])
    NotebookClient(notebook, kernel_name="python3", config=kernels.CONFIG, resources={"metadata": {"path": str(ROOT)}}).execute()
    first, second = (cell.outputs[-1] for cell in notebook.cells)
    beside = first.metadata["image/png"]
    assert beside["words"] == ["wrong"] and second.metadata["image/png"] == {"words": ["right"]}
    english, other = (Image.open(io.BytesIO(base64.b64decode(code))) for code in (first.data["image/png"], beside["xx"]))
    assert english.tobytes() != other.tobytes()
    shown.translate(notebook, "xx", {})
    assert first.data["image/png"] == beside["xx"]


HTML = """<style>th { color: red }</style><table><tr><th>a class</th><td>3 &lt; 5 things</td><td>0.5</td></tr></table>
<img src="data:image/png;base64,QUJD" alt="two things">
<script type="application/json">{"maps":{"a map":[1]},"classes":["ring"],"x":"a map"}</script>"""


def notebook_of(data, metadata=None):
    return new_notebook(cells=[new_code_cell("f()", outputs=[new_output("display_data", data=data, metadata=metadata or {})])])


def test_texts_of_tables_alternatives_and_explorers_are_found_and_replaced():
    notebook = notebook_of({"text/html": HTML}, {"text/html": {"words": ["in the picture"], "xx": "WFla"}})
    assert shown.texts(notebook) == ["in the picture", "a class", "{0} < {1} things", "two things", "a map", "ring"]
    assert notebook.cells[0].outputs[0].data["text/html"] == HTML
    said = {"a class": "<Klasse>", "{0} < {1} things": "{0} < {1} Dinge", "two things": "zwei", "a map": "</Karte>", "ring": "Ring"}
    shown.translate(notebook, "xx", said)
    html = notebook.cells[0].outputs[0].data["text/html"]
    assert "<th>&lt;Klasse&gt;</th><td>3 &lt; 5 Dinge</td><td>0.5</td>" in html and 'base64,WFla" alt="zwei"' in html
    assert '{"maps":{"\\u003c/Karte>":[1]},"classes":["Ring"],"x":"a map"}</script>' in html
    assert "th { color: red }" in html


MARKDOWN = """Of 4 runs 2 differ (p 0.1; sign flip); the
rest does not. See Eq. 7.

1. **First.** It is *so*.
2. Then."""


def test_sentences_are_found_one_by_one_and_an_untranslated_one_stays():
    notebook = notebook_of({"text/markdown": MARKDOWN})
    said = {"Of {0} runs {1} differ (p {2}; sign flip);": "{0} Läufe, {1} anders（{2}）；", "See Eq. {0}.": "Siehe {0}。"}
    said["**First.** It is *so*."] = "**Erst.** So."
    assert shown.texts(notebook) == [*list(said)[:1], "the rest does not.", *list(said)[1:], "Then."]
    shown.translate(notebook, "xx", said)
    text = notebook.cells[0].outputs[0].data["text/markdown"]
    assert text == "4 Läufe, 2 anders（0.1）；the rest does not. Siehe 7。\n\n1. **Erst.** So.\n2. Then."


@pytest.mark.parametrize("text", ["```python\nx = 1\n```", "40 runs; commit ab13cd4", "`python -m dsgc grid` makes them."])
def test_code_commits_and_commands_stay(text):
    notebook = notebook_of({"text/markdown": text})
    assert shown.texts(notebook) == []


def test_without_a_font_one_line_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv(worded.FILE, raising=False)
    monkeypatch.setattr(shown, "font_with", lambda signs: None)
    shown.speak(["zh_CN"], tmp_path / "new/words.json")
    (line,) = capsys.readouterr().err.splitlines()
    assert "fonts-noto-cjk" in line and "zh_CN" in line
    assert worded.FILE not in os.environ and not (tmp_path / "new").exists()


def test_kernels_are_told_what_languages_say_and_with_which_font(tmp_path, monkeypatch):
    monkeypatch.setenv(worded.FILE, "")  # as it was afterwards
    monkeypatch.setattr(shown, "font_with", lambda signs: FONT)
    shown.speak(["zh_CN"], tmp_path / "new/words.json")
    told = json.loads(Path(os.environ[worded.FILE]).read_text(encoding="utf-8"))
    assert told == {"zh_CN": {"said": shown.said("zh_CN"), "font": FONT}} and len(told["zh_CN"]["said"]) > 500


def test_a_font_has_the_signs_that_it_is_taken_for_and_what_is_none_is_passed_over(tmp_path, monkeypatch):
    broken = tmp_path / "a.ttf"
    broken.write_bytes(b"no font")
    monkeypatch.setattr(worded.font_manager, "findSystemFonts", lambda: [str(broken), FONT])
    assert worded.font_with("ab") == FONT and worded.font_with("\U0010fffd") is None


def test_what_an_explorer_says_has_numbers_for_its_values():
    assert {"Start again", "{0} tokens as arrows: {1}", "{0}: from {1} to {2} in {3} steps"} <= set(said_by_scripts())
    assert not [text for text in said_by_scripts() if "$" in text or "`" in text]


# the stored notebooks


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_stored_figures_are_those_of_today_s_translation(path):
    """A figure of which a language says something has its picture there."""
    notebook = nbformat.read(path, as_version=4)
    for language in (folder.name for folder in (ROOT / FOLDER).iterdir()):
        said = shown.said(language)
        for output in shown.outputs(notebook):
            for beside in output.metadata.values():
                if isinstance(beside, dict) and "words" in beside:
                    assert (language in beside) == any(said.get(word, word) != word for word in beside["words"]), beside["words"]
