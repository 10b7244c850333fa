"""Batches of a data set, in an order and with an augmentation that are functions of the seed and the step alone.

A file that cannot be read inside a loading process comes through as the `UserError` that names it, raised where the
batches are asked for; a process that dies or stalls is replaced.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from dsgc.data import agreement
from dsgc.data.images import Pictures
from dsgc.data.processes import LostError, loaded
from dsgc.data.split import Split
from dsgc.data.transforms import Box, random_crop_box, resized, to_tensor
from dsgc.errors import UserError, enough_memory

WAITING = 2**24  # pixels of images that wait for others of their size, 11 bytes each with the mask: 55 of COCO's images
DEATHS = 3  # of loading processes without a batch between, after which no others take their place


class TrainBatch(NamedTuple):
    images: Tensor  # (B, 3, S, S) uint8
    tags: Tensor  # (B, C) float32, 0 or 1
    seeds: Tensor  # (B,) int64, for the random numbers of each image's step
    masks: Tensor | None  # (B, S, S) int64, only where masks supervise
    second: Tensor | None  # (B, 3, S, S) uint8, other crops of the same pictures, only where a method wants them


class EvalItem(NamedTuple):
    image_id: str
    image: Tensor  # (3, H, W) uint8, own size
    tags: Tensor  # (C,) float32
    mask: Tensor  # (H, W) int64


class ImageItem(NamedTuple):
    image_id: str
    image: Tensor  # (3, H, W) uint8, own size


class Crops(Dataset):
    """Random crops of a folder's images; an item is asked for by (index, draw), and `draw` seeds its augmentation.

    With `views` > 0 there are so many crops of each image, which take turns from epoch to epoch.
    """

    def __init__(
        self,
        folder: Split,
        *,
        size: int,
        scale: tuple[float, float],
        ratio: tuple[float, float],
        flip: bool,
        seed: int,
        views: int = 0,
        masks: bool = False,
        second: tuple[float, float] | None = None,
    ):
        self.folder, self.size, self.scale, self.ratio = folder, size, scale, ratio
        self.flip, self.seed, self.views, self.masks, self.second = flip, seed, views, masks, second
        self.tags = folder.tags()  # (N, C)

    def __len__(self) -> int:
        return len(self.folder.ids)

    def __getitem__(self, key: tuple[int, int]) -> TrainBatch:
        index, draw = key
        image = self.folder.image(self.folder.ids[index])
        which = (index, draw // len(self) % self.views) if self.views else (draw,)
        box, mirrored = self._box(1, which, image.size, self.scale)
        crop = _view(image, self.size, box, mirrored)
        mask = None
        if self.masks:
            mask = _view(self.folder.mask(self.folder.ids[index], image.size), self.size, box, mirrored, labels=True)
        second = _view(image, self.size, *self._box(2, which, image.size, self.second)) if self.second else None
        seed = int(np.random.SeedSequence((self.seed, 3, draw)).generate_state(1)[0])
        return TrainBatch(crop, torch.from_numpy(self.tags[index]), seed, mask, second)

    def _box(self, purpose: int, which: tuple[int, ...], size: tuple[int, int], scale: tuple[float, float]) -> tuple[Box, bool]:
        """A crop of a picture, and whether it is mirrored; a draw's or a view's own, and one thing for each purpose."""
        rng = np.random.default_rng((self.seed, purpose, *which))
        return random_crop_box(rng, *size, scale, self.ratio), self.flip and rng.random() < 0.5


def _view(image: Image.Image, size: int, box: Box, mirrored: bool, *, labels: bool = False) -> Tensor:
    """A crop (3, S, S) uint8 of a picture, or (S, S) int64 of its labels."""
    view = to_tensor(resized(image, (size, size), box, labels=labels))
    return view.flip(-1) if mirrored else view


class EvalImages(Dataset):
    """A folder's images as they are, with tags and masks."""

    def __init__(self, folder: Split):
        self.folder = folder
        self.tags = folder.tags()  # (N, C)
        self.agrees = False  # whether masks and tags were compared

    def check_masks(self) -> None:
        """See once that the masks say what the tags say, however often the images are scored. Raises `UserError` as `agreement.check`."""
        if not self.agrees:
            agreement.check(self.folder, self.tags)
            self.agrees = True

    def __len__(self) -> int:
        return len(self.folder.ids)

    def __getitem__(self, index: int) -> EvalItem:
        image_id = self.folder.ids[index]
        image = self.folder.image(image_id)
        mask = self.folder.mask(image_id, image.size)
        return EvalItem(image_id, to_tensor(image), torch.from_numpy(self.tags[index]), to_tensor(mask))


class Images(Dataset):
    """Images as they are, and nothing that is known of them."""

    def __init__(self, folder: Split | Pictures):
        self.folder = folder

    def __len__(self) -> int:
        return len(self.folder.ids)

    def __getitem__(self, index: int) -> ImageItem:
        image_id = self.folder.ids[index]
        return ImageItem(image_id, to_tensor(self.folder.image(image_id)))


def step_keys(images: int, batch: int, seed: int, start: int, stop: int) -> Iterator[list[tuple[int, int]]]:
    """The (index, draw) pairs of each step's batch, from `start` to `stop`.

    Draw number n is item n of the endless sequence of epochs, each shuffled anew, so a run that starts at a later step
    sees what it would have seen without the stop.
    """
    epoch, order = -1, np.empty(0, np.int64)
    for step in range(start, stop):
        keys = []
        for draw in range(step * batch, (step + 1) * batch):
            if draw // images != epoch:
                epoch = draw // images
                order = np.random.default_rng((seed, 0, epoch)).permutation(images)
            keys.append((int(order[draw % images]), draw))
        yield keys


class _Item:
    """Loads an item of a data set, its tensors as arrays of bytes, which a pipe takes as they are."""

    def __init__(self, dataset: "Crops | EvalImages | Images"):
        self.dataset = dataset

    def __call__(self, key: Any) -> tuple:
        with enough_memory(f"{self.name(key)}: cannot be loaded", "take fewer --workers, or make the picture smaller"):
            item = self.dataset[key]
            return item._make(_array(value) for value in item)

    def name(self, key: Any) -> str:
        """The image that a key stands for."""
        return self.dataset.folder.ids[key[0] if isinstance(key, tuple) else key]


def _array(value: Any) -> Any:
    """A tensor as an array, labels (H, W) int64 in a byte each; torch would put a tensor in shared memory."""
    if not isinstance(value, Tensor):
        return value
    return value.byte().numpy() if value.dtype == torch.int64 else value.numpy()


def _tensor(value: Any) -> Any:
    """What `_array` was given."""
    if not isinstance(value, np.ndarray):
        return value
    found = torch.from_numpy(value)
    return found.long() if value.ndim == 2 else found


def _stack(items: list[TrainBatch]) -> TrainBatch:
    return TrainBatch(*map(_column, zip(*items, strict=True)))


def _column(values: tuple) -> Tensor | None:
    """One field of all items as one tensor; None where they have none."""
    if values[0] is None:
        return None
    return torch.stack(values) if isinstance(values[0], Tensor) else torch.tensor(values)


def _load(dataset: "Crops | EvalImages | Images", batches: Sequence[Sequence], workers: int) -> Iterator[list]:
    """The items of each batch, in order. Where a loading process is lost, others begin anew with the batch that is due."""
    load = _Item(dataset)
    given = lost = 0
    while given < len(batches):
        due = batches[given:]
        try:
            for items in loaded(load, due, workers) if workers else ([load(key) for key in keys] for keys in due):
                yield [item._make(_tensor(value) for value in item) for item in items]
                given, lost = given + 1, 0
        except LostError as error:
            lost += 1
            image = load.name(error.key)
            if lost == DEATHS:
                many = f"loading processes {error} {lost} times in a row, the last at {image}"
                raise UserError(f"workers {workers}: {many}; {error.remedy}") from error
            tqdm.write(f"a loading process {error} at {image}, others take its place", file=sys.stderr)


def train_batches(
    dataset: Crops, *, batch: int, seed: int, start: int, stop: int, workers: int, share: tuple[int, int] = (0, 1)
) -> Iterator[TrainBatch]:
    """The batches of the steps start..stop-1; of each, process number `share[0]` of `share[1]` gets an equal, consecutive part."""
    number, processes = share
    size = batch // processes
    keys = [step[number * size : (number + 1) * size] for step in step_keys(len(dataset), batch, seed, start, stop)]
    return (_stack(items) for items in _load(dataset, keys, workers))


def eval_batches(
    dataset: EvalImages | Images, *, batch: int, workers: int, images: int = 0, share: tuple[int, int] = (0, 1)
) -> Iterator[list]:
    """Lists of at most `batch` items of one size, in the order in which they fill up; `images` > 0 stops after as many.

    Process number `share[0]` of `share[1]` gets every so many-th image: none comes twice. Where images of many sizes wait for
    others of theirs, the fullest list goes as it is, so that memory does not grow with the number of sizes.
    """
    count = min(images or len(dataset), len(dataset))
    waiting: dict[torch.Size, list[EvalItem]] = {}
    pixels = 0  # of all that wait
    for (item,) in _load(dataset, [[i] for i in range(share[0], count, share[1])], workers):
        group = waiting.setdefault(item.image.shape, [])
        group.append(item)
        pixels += item.image[0].numel()
        if len(group) == batch or pixels > WAITING:
            fullest = max(waiting.values(), key=len)
            pixels -= len(fullest) * fullest[0].image[0].numel()
            yield waiting.pop(fullest[0].image.shape)
    yield from waiting.values()
