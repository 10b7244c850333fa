"""Batches: functions of seed and step alone, each image once an epoch, image and mask cut alike."""

import itertools
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from dsgc.data import loading
from dsgc.data.loading import Crops, EvalImages, eval_batches, step_keys, train_batches
from dsgc.data.split import open_split
from dsgc.errors import UserError

PAPER = {"scale": (0.32, 1.0), "ratio": (3 / 4, 4 / 3)}


def crops(root, *, split="train", seed=0, flip=True, masks=False, size=32):
    return Crops(open_split(root, split), size=size, **PAPER, flip=flip, seed=seed, masks=masks)


def batches(root, *, start=0, stop=7, workers=0, seed=0):
    return list(train_batches(crops(root, seed=seed), batch=5, seed=seed, start=start, stop=stop, workers=workers))


def same(one, two):
    return len(one) == len(two) and all(
        a.images.equal(b.images) and a.tags.equal(b.tags) for a, b in zip(one, two, strict=True)
    )


@pytest.fixture(scope="module")
def first_seven(shapes_folder):
    return batches(shapes_folder)


def test_a_batch_has_the_promised_shapes_and_types(first_seven):
    batch = first_seven[0]
    assert batch.images.shape == (5, 3, 32, 32) and batch.images.dtype == torch.uint8
    assert batch.tags.shape == (5, 6) and batch.tags.dtype == torch.float32
    assert batch.masks is None


def test_loading_processes_do_not_change_the_batches(shapes_folder, first_seven):
    assert same(batches(shapes_folder, workers=2), first_seven)


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_each_batch_out_in_its_order(shapes_folder, processes):
    def steps(share):
        return train_batches(crops(shapes_folder), batch=4, seed=0, start=0, stop=5, workers=0, share=share)

    for whole, *parts in zip(steps((0, 1)), *(steps((number, processes)) for number in range(processes)), strict=True):
        assert all(len(part.images) == 4 // processes for part in parts)
        assert torch.cat([part.images for part in parts]).equal(whole.images)
        assert torch.cat([part.tags for part in parts]).equal(whole.tags)


def test_starting_later_gives_the_batches_that_would_have_come(shapes_folder, first_seven):
    assert same(batches(shapes_folder, start=4), first_seven[4:])


def test_batches_do_not_depend_on_global_random_state(shapes_folder, first_seven):
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    assert same(batches(shapes_folder), first_seven)


def test_another_seed_gives_other_batches(shapes_folder, first_seven):
    assert not same(batches(shapes_folder, seed=1), first_seven)


def test_a_second_epoch_cuts_each_image_anew(shapes_folder):
    dataset = crops(shapes_folder)
    assert not dataset[3, 0].images.equal(dataset[3, 12].images)
    assert dataset[3, 0].images.equal(dataset[3, 0].images)


@pytest.mark.parametrize(("images", "batch"), [(12, 4), (12, 5), (3, 8), (1, 2)])
def test_every_epoch_visits_each_image_once(images, batch):
    keys = list(itertools.chain(*step_keys(images, batch, 0, 0, 30)))
    assert [draw for _, draw in keys] == list(range(30 * batch))
    for first in range(0, len(keys) - images + 1, images):
        assert sorted(index for index, _ in keys[first : first + images]) == list(range(images))


def test_epochs_are_shuffled_differently():
    order = [index for ((index, _),) in step_keys(12, 1, 0, 0, 36)]
    assert len({tuple(order[i : i + 12]) for i in (0, 12, 24)}) == 3


@pytest.fixture
def colour_coded(shapes_copy):
    """Images whose left half is dark and right half bright, top reddish, with masks that say the same: labels 0..3."""
    labels = np.kron(np.array([[0, 1], [2, 3]], np.uint8), np.ones((40, 60), np.uint8))  # (80, 120)
    colours = np.array([[200, 40, 20], [200, 40, 220], [20, 200, 20], [20, 200, 220]], np.uint8)
    for path in (shapes_copy / "JPEGImages").glob("train_*.jpg"):
        Image.fromarray(colours[labels]).save(path, quality=100, subsampling=0)
        Image.fromarray(labels).save(shapes_copy / "SegmentationClass" / f"{path.stem}.png")
    return shapes_copy, torch.from_numpy(colours).float()


def test_image_and_mask_are_cut_and_mirrored_alike(colour_coded):
    root, colours = colour_coded
    dataset, mirrored = crops(root, masks=True, size=48), 0
    for draw in range(40):
        item = dataset[draw % 12, draw]
        distance = (item.images.permute(1, 2, 0).float()[:, :, None] - colours).norm(dim=-1)  # (48, 48, 4)
        assert (distance.argmin(-1) == item.masks).float().mean() > 0.95, draw
        mirrored += bool((item.masks[:, 0] % 2 == 1).all())  # bright on the left
    assert 8 < mirrored < 32


def test_without_flip_nothing_is_mirrored(colour_coded):
    dataset = crops(colour_coded[0], masks=True, flip=False)
    assert all((dataset[0, draw].masks.diff(dim=1) >= 0).all() for draw in range(30))


def test_masks_are_read_only_where_they_supervise(shapes_copy):
    shutil.rmtree(shapes_copy / "SegmentationClass")
    assert crops(shapes_copy)[0, 0].masks is None
    with pytest.raises(UserError, match="SegmentationClass.*missing"):
        crops(shapes_copy, masks=True)[0, 0]


@pytest.fixture
def two_sizes(shapes_copy):
    """Every second validation image is half as high, its mask too."""
    for name in ("val_00001", "val_00003"):
        for path in (shapes_copy / f"JPEGImages/{name}.jpg", shapes_copy / f"SegmentationClass/{name}.png"):
            picture = Image.open(path)
            picture.crop((0, 0, picture.width, picture.height // 2)).save(path)
    return EvalImages(open_split(shapes_copy, "val"))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch", [1, 2, 3, 10])
def test_evaluation_yields_every_image_once_in_groups_of_one_size(two_sizes, batch, workers):
    groups = list(eval_batches(two_sizes, batch=batch, workers=workers))
    assert sorted(item.image_id for group in groups for item in group) == [f"val_{i:05d}" for i in range(4)]
    for group in groups:
        assert len(group) <= batch
        assert len({item.image.shape[1:] for item in group}) == 1
        assert all(item.mask.shape == item.image.shape[1:] for item in group)
    if batch == 2:
        assert [len(group) for group in groups] == [2, 2]


def test_of_many_sizes_few_images_wait_for_others_of_theirs(shapes_copy, monkeypatch):
    """The first and the last of twelve are of one size, all others of a size of their own."""
    for number in range(12):
        for path in shapes_copy.glob(f"*/train_{number:05d}.[jp][pn]g"):
            picture = Image.open(path)
            picture.crop((0, 0, 60 + number % 11, 60)).save(path)
    dataset, loaded = EvalImages(open_split(shapes_copy, "train")), []
    monkeypatch.setattr(EvalImages, "__getitem__", lambda self, index, get=EvalImages.__getitem__: loaded.append(index) or get(self, index))
    monkeypatch.setattr(loading, "WAITING", 4 * 65 * 60)
    seen, most = [], 0
    for group in eval_batches(dataset, batch=2, workers=0):
        most = max(most, len(loaded) - len(seen))
        seen += [item.image_id for item in group]
    assert most <= 5 and sorted(seen) == sorted(dataset.folder.ids)
    monkeypatch.setattr(loading, "WAITING", 2**24)
    assert [len(group) for group in eval_batches(dataset, batch=2, workers=0)] == [2] + 10 * [1]


@pytest.mark.parametrize("images", [0, 3])
@pytest.mark.parametrize("processes", [2, 3, 8])
def test_of_several_processes_each_evaluates_other_images(two_sizes, processes, images):
    """Also where they are fewer than the processes."""
    shares = [eval_batches(two_sizes, batch=2, workers=0, images=images, share=(i, processes)) for i in range(processes)]
    seen = [item.image_id for groups in shares for group in groups for item in group]
    assert sorted(seen) == [f"val_{i:05d}" for i in range(images or 4)]


def test_evaluation_can_stop_early(two_sizes):
    groups = list(eval_batches(two_sizes, batch=1, workers=0, images=3))
    assert [item.image_id for (item,) in groups] == ["val_00000", "val_00001", "val_00002"]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_file_is_one_line_from_any_process(shapes_copy, workers):
    for path in (shapes_copy / "JPEGImages").glob("train_*"):
        path.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"train_\d+\.jpg: not a readable image") as caught:
        batches(shapes_copy, workers=workers)
    assert "\n" not in str(caught.value)
