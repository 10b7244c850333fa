"""The pages of results run on results that were made up: whatever these say, no cell fails and the computed sentences are true."""

import re
from pathlib import Path

import jupytext
import made_up
import matplotlib
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import Markdown
from IPython.utils.capture import capture_output

from dsgc.experiments import grids

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
NOISE = [1.5, -0.5, 0.8, -1.2, 0.3, -0.9, 1.1, -1.0]  # points, of the seeds in turn
GAINS = {"baseline": 0.0, "+ DSKD": 0.0, grids.METHOD: 3.0, "+ GC": 1.0}


def steady(row, seed):
    """Every seed lies elsewhere, a row moves little from seed to seed; the method is ahead, DSKD changes nothing."""
    return 60 + 4 * NOISE[seed % 8] + GAINS.get(row, 2.0) + 0.2 * NOISE[(3 * seed + len(row)) % 8]


@pytest.fixture
def page(tmp_path, monkeypatch, shapes_folder):
    """`page(notebook, names, seeds, score, lost)`: what a notebook displays with results made up so, in its own order of cells."""
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    images = sorted(path.stem for path in (shapes_folder / "JPEGImages").glob("val_*"))

    def run(notebook, names, seeds, score, lost=lambda row, seed: ()):
        made_up.write(tmp_path / "results" / "shapes", names, seeds, images, score, lost)
        given = {"seeds": list(seeds), "data": str(shapes_folder), "results": str(tmp_path / "results"), "live": []}
        shell, said = InteractiveShell.instance(), []
        for cell in jupytext.read(NOTEBOOKS / f"{notebook}.py").cells:
            if cell.cell_type == "code":
                with capture_output() as shown:
                    done = shell.run_cell(cell.source)
                done.raise_error()
                said += [output.data.get("text/markdown", output.data.get("text/plain", "")) for output in shown.outputs]
                said.append(done.result.data if isinstance(done.result, Markdown) else str(done.result))
                shell.user_ns |= given if "parameters" in cell.metadata.get("tags", []) else {}
        return "\n".join(said)

    yield run
    InteractiveShell.instance().reset()
    InteractiveShell.clear_instance()


def test_a_difference_that_is_there_is_told_and_what_is_not_says_how_much_would_have_been(page):
    text = page("07_ablations", list(grids.GRIDS), (), steady)
    assert "met: 0 of 20 runs of the baseline lose a class (0 %; the true rate lies between 0 and 17 %)." in text
    assert "**not met**: its mIoU is 60." in text and "met: the differences of Table 1 have a standard deviation of up to 0." in text
    assert "(its seeds find 1.25 times that)" in text
    assert re.search(r"\*\*GC\*\* changes the teacher of the full method by \+[23]\.\d points \(.*\), which can be told from none", text)
    assert re.search(r"\*baseline\* less \*\+ DSKD\* is .*, which cannot be told from none: a true difference of 0\.\d points could", text)
    assert "The paper's order held in the means" in text or "The paper's order did not hold in the means" in text
    for sentence in re.findall(r"[1-9]\d* cannot be told apart.{0,120}", text):
        assert "could have been told" in sentence
    told = re.search(r"Of (\d+) comparisons in (\d+) families (\d+) can be told apart", text)
    assert [int(number) for number in told.groups()][0] >= 33 and 0 < int(told[3]) < int(told[1])


def test_two_seeds_that_lose_classes_tell_nothing_and_the_page_says_so(page):
    text = page("07_ablations", ["modules", "thresholds"], (0, 1), steady, lambda row, seed: ["melon"] if seed else [])
    assert "**not met**: 1 of 2 runs of the baseline lose a class (50 %; the true rate lies between 1 and 99 %)." in text
    assert "4 of 8 runs of Table 1 lose a class" in text and "melon (1)" in text
    assert "No seed has every row." in text and "No run in bfloat16 is there." in text
    made_up = [line for line in text.splitlines() if "chosen on `dev`" not in line and "On photographs" not in line]
    assert "so nothing can be told apart at 5 %" in text and not any("which can be told from none" in line for line in made_up)


def test_the_page_of_comparisons_has_the_means_over_the_seeds(page):
    text = page("08_comparison", ["modules", "peers"], tuple(range(10)), steady)
    assert re.search(r"DuPL +ViT-B +one +73\.3 +72\.8 +6\d\.\d ± \d\.\d", text)
    assert re.search(r"SC-CAM +ResNet101 +several +66\.1 +65\.9 +–\s", text)
    assert re.search(r"Of 10 pairs with this paper \d+ can be told apart as in the paper", text)


def test_the_page_of_comparisons_stands_without_the_peers(page):
    text = page("08_comparison", ["modules"], (0, 1, 2), steady)
    assert re.search(r"DuPL +ViT-B +one +73\.3 +72\.8 +–\s", text)
    assert re.search(r"this paper +ViT-B +one +74\.8 +73\.9 +6\d\.\d ± \d\.\d", text)
