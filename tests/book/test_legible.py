"""Letters that can be read, pictures that say their size, lines that are not cut; what a browser makes of them: test_pages."""

import base64
import html
import io
import re
from pathlib import Path

import kernels
import lines
import matplotlib
import nbformat
import numpy as np
import pandas as pd
import pytest
import sizes
from nbclient import NotebookClient
from PIL import Image

matplotlib.use("agg")
import matplotlib.pyplot as plt  # noqa: E402

from dsgc.teaching import figures, legible, panels  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SIZE = re.compile(r"(?:font|label)_?size\"?[=:] ?([\d.]+)")
WIDEST = 936  # pixels of the wide column in a window 1280 wide


def drawn(width, points):
    figure, axis = plt.subplots(figsize=(width, 1), dpi=110, layout="constrained")
    axis.set_title("small", fontsize=points)
    axis.tick_params(labelsize=points + 3)
    axis.text(0, 0, "", fontsize=2)  # nothing is written in it
    plt.close(figure)
    return figure


def test_a_png_says_how_small_its_letters_are():
    picture = Image.open(io.BytesIO(legible.png(drawn(5, 9))))
    assert float(picture.info[legible.KEY]) == pytest.approx(9 * 110 / 72, abs=0.01)


def test_letters_of_ticks_count_and_those_that_nobody_sees_do_not():
    figure = drawn(5, 9)
    assert legible.smallest(figure) == pytest.approx(9 * 110 / 72)
    figure.axes[0].tick_params(labelsize=6)
    assert legible.smallest(figure) == pytest.approx(6 * 110 / 72)
    figure.axes[0].set(xticks=[], yticks=[])
    assert legible.smallest(figure) == pytest.approx(9 * 110 / 72)


def test_a_figure_that_a_notebook_shows_says_it():
    """In the cell that loads matplotlib and in the next: the backend sets how figures are shown, and must not do so last."""
    drawing = "import matplotlib.pyplot as plt\nfigure, axis = plt.subplots()\nplt.close(figure)\nfigure"
    begun = "from dsgc.teaching import figures\nfigures.style()\n"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in (begun + drawing, drawing)])
    kernels.prepare()
    NotebookClient(notebook, kernel_name="python3", config=kernels.CONFIG, resources={"metadata": {"path": str(ROOT)}}).execute()
    for cell in notebook.cells:
        picture = Image.open(io.BytesIO(base64.b64decode(cell.outputs[-1].data["image/png"])))
        assert legible.KEY in picture.info


TABLE = pd.DataFrame(np.full((4, 22), 50.0), index=list("abcd"), columns=[f"class {n}" for n in range(22)])
PICTURE, LABELS = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), int)
CLASSES = ("melon", "brick", "star", "ring", "cross", "moon")
LARGE = {
    "heat map of VOC's classes": lambda: figures.class_heat(TABLE, "Table 6"),
    "figures 2 and 4": lambda: panels.image_grid({"a": [PICTURE] * 6, "b": [LABELS] * 6}, {"a": "image", "b": "labels"}, CLASSES),
    "figure 3": lambda: panels.image_grid({"a": [LABELS] * 6}, {"a": "map"}),
    "samples": lambda: panels.samples([PICTURE] * 6, [LABELS] * 6, ["melon, brick"] * 6, CLASSES),
}


@pytest.mark.parametrize("name", LARGE)
def test_large_figures_can_be_read_in_the_wide_column(name):
    figures.style()
    picture = Image.open(io.BytesIO(legible.png(LARGE[name]())))
    assert float(picture.info[legible.KEY]) * min(1, WIDEST / picture.width) >= 9


def test_no_code_asks_for_letters_of_less_than_eight_points():
    files = [*ROOT.glob("notebooks/*.py"), *ROOT.glob("book/*.md"), *ROOT.glob("dsgc/teaching/*.py")]
    asked = {(path.name, float(size)) for path in files for size in SIZE.findall(path.read_text(encoding="utf-8"))}
    assert len(asked) > 10 and {name for name, size in asked if size < 8} == set()


# on a page


def tag(content, start='<img alt="a &gt; b" src="../_images/a.png" />'):
    return sizes.sized(start, {"../_images/a.png": content}.__getitem__)


@pytest.mark.parametrize(("width", "points", "wide"), [(5, 9, False), (12, 9, True), (12, 13, False), (6, 6, False), (9, 6, True)])
def test_a_figure_whose_letters_would_be_too_small_is_wide(width, points, wide):
    content = legible.png(drawn(width, points))
    size = Image.open(io.BytesIO(content)).size
    found = tag(content)
    assert f'width="{size[0]}" height="{size[1]}"' in found and found.endswith('alt="a &gt; b" src="../_images/a.png" />')
    assert ("full-width" in found) == wide
    least = int(found.partition("--legible: ")[2].partition("px")[0])
    assert least - 1 < 9 * size[0] / (points * 110 / 72) <= least


def test_a_figure_that_says_nothing_has_what_most_have():
    content = io.BytesIO()
    drawn(12, 20).savefig(content, format="png")
    assert "full-width" in tag(content.getvalue())


def test_a_picture_that_is_no_figure_has_no_letters():
    content = io.BytesIO()
    Image.new("RGB", (2000, 3)).save(content, "png")
    assert tag(content.getvalue()) == '<img width="2000" height="3" alt="a &gt; b" src="../_images/a.png" />'


@pytest.mark.parametrize("size", ['viewBox="0 0 300 120"', 'width="300pt" height="120pt"', 'width="9" height="9" viewBox="0 0 300 120"'])
def test_an_svg_has_its_size_and_no_letters_that_it_says(size):
    assert tag(f'<svg xmlns="http://www.w3.org/2000/svg" {size}/>'.encode()).startswith('<img width="300" height="120" alt')


def test_a_size_that_is_said_stays():
    start = '<img src="../_images/a.png" width="1" height="2">'
    content = io.BytesIO()
    Image.new("RGB", (3, 3)).save(content, "png")
    assert tag(content.getvalue(), start) == start


def wrap(body):
    context = {"body": body}
    lines.wrap(None, "page", "", context, None)
    return context["body"]


def test_a_long_line_of_code_goes_on_indented_and_its_text_is_the_same():
    code = ["def f():", "    return [one_name, <b>another</b>_name, a_third_name]", "", "x = 1"]
    body = f'<div class="highlight"><pre><span></span>{chr(10).join(code)}\n</pre></div>'
    found = wrap(body)
    assert f'<span class="long" style="--indent: 8ch">{code[1]}\n</span>\nx = 1' in found and found.count('class="long"') == 1
    assert html.unescape(lines.TAG.sub("", found)) == html.unescape(lines.TAG.sub("", body))


def test_the_number_of_a_line_counts_as_its_indent():
    line = '<span class="linenos"> 12</span>  return ' + "a" * 40
    assert wrap(f'<div class="highlight"><pre>{line}\n</pre></div>').count("--indent: 9ch") == 1


def test_what_is_no_code_stays():
    body = f"<p>{'a' * 200}</p><pre>{'b' * 200}</pre>"
    assert wrap(body) == body
