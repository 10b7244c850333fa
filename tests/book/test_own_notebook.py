"""Notebook 05 on pictures of one's own, cell by cell: without masks it says what it leaves out, with them it is as ever."""

from pathlib import Path

import jupytext
import matplotlib
import numpy as np
import pytest
from PIL import Image

CELLS = [cell for cell in jupytext.read(Path(__file__).parents[2] / "notebooks/05_train_voc.py").cells if cell.cell_type == "code"]
FEW = {"crop_size": 32, "decoder_channels": 16, "projector": [32, 16, 32], "warmup_steps": 3, "batch_size": 4}
FEW |= {"workers": 0, "lr_ramp_steps": 1, "pictures": 1, "weights": "none", "device": "cpu"}


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """Sixteen pictures of a dark or a bright square, a tag file, and masks."""
    root, rows = tmp_path_factory.mktemp("mine"), ["file,dark,bright"]
    for folder in ("pictures", "masks"):
        (root / folder).mkdir()
    for number in range(16):
        picture, mask = np.full((48, 48, 3), 128, np.uint8), np.zeros((48, 48), np.uint8)
        bright = number % 2
        picture[8:32, 8:32], mask[8:32, 8:32] = 30 + 195 * bright, 1 + bright
        Image.fromarray(picture).save(root / f"pictures/{number}.png")
        Image.fromarray(mask).save(root / f"masks/{number}.png")
        rows.append(f"{number},{1 - bright},{bright}")
    (root / "tags.csv").write_text("\n".join(rows))
    return root


@pytest.mark.parametrize("masks", [False, True])
def test_the_notebook_runs_on_pictures_of_one_s_own(masks, mine, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    names = {"data": str(mine / "pictures"), "tags": str(mine / "tags.csv"), "steps": 6, "options": FEW}
    names |= {"masks": str(mine / "masks")} if masks else {}
    found = {}
    for cell in CELLS:
        exec(compile(cell.source, "05_train_voc", "exec"), found)
        if "parameters" in cell.metadata.get("tags", []):
            found |= names
    said = capsys.readouterr().out
    assert set(found["runs"]) == {"baseline", "method"} | ({"masks"} if masks else set())
    assert ("the upper bound is left out" in said) == (not masks) == ("no curve of mIoU" in said)
    assert list(found["table"].columns)[0] == ("segmentation head" if masks else "tags, mean average precision")
    assert found["table"].notna().any().any()
