"""Masks that say nothing, or other than their tags: a whole split of them is refused wherever masks are read, single ones are not."""

import shutil

import numpy as np
import pytest
import torch
from promises import promise
from spoilt import binary, every, grey, labels, of_objects, shifted

from dsgc.data import agreement
from dsgc.data.loading import EvalImages
from dsgc.data.split import open_split
from dsgc.errors import UserError
from dsgc.runs.restore import load_networks
from dsgc.scoring import diagnosis
from dsgc.scoring.evaluate import evaluate, score_run
from dsgc.scoring.predict import TestTime, score
from dsgc.training.loop import open_data

pytestmark = promise(
    "Bad input",
    "Masks that say nothing, or other than their tags, are no truth: a split of them is neither scored nor learnt from.",
)
SAYS = {
    "0 and 255": (labels(binary), "the masks show no object, though tags name .*melon.*background alone"),
    "all 0": (grey(0), "the masks show no object"),
    "shifted by one": (labels(shifted), r"of \d+ masks hold classes that the tags of their image do not name"),
    "numbers of objects": (labels(of_objects), r"of \d+ masks hold classes"),
}


@pytest.fixture(scope="module", params=SAYS)
def spoilt(request, shapes_folder, tmp_path_factory):
    """A data set all of whose masks are so, and what is said of it."""
    root = shutil.copytree(shapes_folder, tmp_path_factory.mktemp("spoilt") / "shapes")
    change, said = SAYS[request.param]
    every("SegmentationClass/*.png", change)(root)
    return root, said


def test_such_a_split_is_scored_nowhere(spoilt, one_step, tiny):
    data, said = spoilt
    networks, saved = load_networks(one_step)
    dataset = EvalImages(open_split(data, "val"))
    for call in (
        lambda: score_run(one_step, str(data), "val"),
        lambda: score(one_step, str(data), "val", TestTime(mirror=True)),
        lambda: evaluate(networks, dataset, saved.config, images=1),
        lambda: diagnosis.count(networks["teacher"], dataset, saved.config),
        lambda: open_data(tiny(data=str(data))),
        lambda: open_data(tiny(data=str(data), eval_images=1)),
    ):
        with pytest.raises(UserError, match=rf"val\.txt: .*{said}"):
            call()


def test_nor_learnt_from(spoilt, shapes_folder, tiny, tmp_path):
    data, said = spoilt
    root = shutil.copytree(data, tmp_path / "shapes")
    for path in (shapes_folder / "SegmentationClass").glob("val*"):
        shutil.copy(path, root / "SegmentationClass")
    open_data(tiny(data=str(root)))
    with pytest.raises(UserError, match=rf"train\.txt: .*{said}"):
        open_data(tiny("masks", data=str(root)))


@pytest.mark.parametrize("name", SAYS)
@pytest.mark.parametrize("image_id", ["val_00000", "val_00003"])
def test_a_single_such_mask_is_let_pass(name, image_id, shapes_copy, tiny):
    every(f"SegmentationClass/{image_id}.png", SAYS[name][0])(shapes_copy)
    for images in (0, 1):
        open_data(tiny(data=str(shapes_copy), eval_images=images))


def test_an_evaluation_of_few_images_is_not_judged_by_these_alone(shapes_copy, one_step):
    every("SegmentationClass/val_00000.png", grey(0))(shapes_copy)
    networks, saved = load_networks(one_step)
    assert evaluate(networks, EvalImages(open_split(shapes_copy, "val")), saved.config, images=1)["images"] == 1


class Drawn:
    """A split of many images whose masks are what `mask` says."""

    classes, origin = ("sun", "moon"), "list.txt"

    def __init__(self, masks):
        self.masks, self.ids, self.opened = masks, tuple(map(str, range(len(masks)))), []

    def image(self, image_id):
        self.opened.append(image_id)
        return np.zeros(1)

    def mask(self, image_id, size):
        return np.array(self.masks[int(image_id)], np.uint8)


def test_of_a_large_split_some_masks_are_looked_at_from_all_over_it():
    split = Drawn([[[0, 1]]] * 1000)
    agreement.check(split, np.array([[1, 0]] * 1000))
    places = [int(name) for name in split.opened]
    assert len(places) == agreement.LOOKED_AT and places[0] == 0 and places[-1] > 950 and max(np.diff(places)) <= 16


BOTH = [[1, 1]]
CASES = {  # masks, tags, refused or not
    "half of the masks foreign": ([[[0, 1]], [[0, 2]]], [[1, 0], [1, 0]], None),
    "most of them": ([[[0, 1]], [[0, 2]], [[0, 2]]], [[1, 0]] * 3, "2 of 3 masks"),
    "no tag at all": ([[[0, 1]], [[0, 2]]], [[0, 0]] * 2, "2 of 2 masks"),
    "half of the tags without a pixel": ([[[0, 1]], [[0, 1]]], BOTH * 2, None),
    "most of them, by a class lost": ([[[0, 1]], [[0, 0]]], BOTH * 2, "of 4 tags .* 3 have no pixel"),
    "nothing is said by masks of 255": ([[[255, 255]], [[0, 1]]], [[0, 1], [1, 0]], None),
    "nor if all are": ([[[255, 255]]] * 3, BOTH * 3, None),
    "255 and 0": ([[[255, 0]]] * 3, BOTH * 3, "show no object"),
    "images of nothing": ([[[0, 0]]] * 3, [[0, 0]] * 3, None),
}


@pytest.mark.parametrize("name", CASES)
def test_where_the_line_is_drawn(name):
    masks, tags, said = CASES[name]
    if said is None:
        agreement.check(Drawn(masks), np.array(tags))
    else:
        with pytest.raises(UserError, match=said):
            agreement.check(Drawn(masks), torch.tensor(tags))
