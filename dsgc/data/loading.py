"""Batches of a data set, in an order and with an augmentation that are functions of the seed and the step alone.

A file that cannot be read inside a loading process comes through as the `UserError` that names it, raised where the
batches are asked for.
"""

import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from dsgc.data.images import Pictures
from dsgc.data.split import Split
from dsgc.data.transforms import random_crop_box, resized, to_tensor
from dsgc.errors import UserError, first_line

DEATHS = 3  # of loading processes without a batch between, after which no others take their place
LONGEST = 107 - len("/pymp-12345678/listener-12345678")  # characters; an address of a socket has at most 107


class TrainBatch(NamedTuple):
    images: Tensor  # (B, 3, S, S) uint8
    tags: Tensor  # (B, C) float32, 0 or 1
    masks: Tensor | None  # (B, S, S) int64, only where masks supervise


class EvalItem(NamedTuple):
    image_id: str
    image: Tensor  # (3, H, W) uint8, own size
    tags: Tensor  # (C,) float32
    mask: Tensor  # (H, W) int64


class ImageItem(NamedTuple):
    image_id: str
    image: Tensor  # (3, H, W) uint8, own size


class Crops(Dataset):
    """Random crops of a folder's images; an item is asked for by (index, draw), and `draw` seeds its augmentation."""

    def __init__(
        self,
        folder: Split,
        *,
        size: int,
        scale: tuple[float, float],
        ratio: tuple[float, float],
        flip: bool,
        seed: int,
        masks: bool = False,
    ):
        self.folder, self.size, self.scale, self.ratio = folder, size, scale, ratio
        self.flip, self.seed, self.masks = flip, seed, masks
        self.tags = torch.from_numpy(folder.tags())  # (N, C)

    def __len__(self) -> int:
        return len(self.folder.ids)

    def __getitem__(self, key: tuple[int, int]) -> TrainBatch:
        index, draw = key
        rng = np.random.default_rng((self.seed, 1, draw))
        image = self.folder.image(self.folder.ids[index])
        box = random_crop_box(rng, *image.size, self.scale, self.ratio)
        mirrored = self.flip and rng.random() < 0.5
        views = [to_tensor(resized(image, (self.size, self.size), box))]
        if self.masks:
            mask = self.folder.mask(self.folder.ids[index], image.size)
            views.append(to_tensor(resized(mask, (self.size, self.size), box, labels=True)))
        views = [view.flip(-1) if mirrored else view for view in views]
        return TrainBatch(views[0], self.tags[index], views[1] if self.masks else None)


class EvalImages(Dataset):
    """A folder's images as they are, with tags and masks."""

    def __init__(self, folder: Split):
        self.folder = folder
        self.tags = torch.from_numpy(folder.tags())  # (N, C)

    def __len__(self) -> int:
        return len(self.folder.ids)

    def __getitem__(self, index: int) -> EvalItem:
        image_id = self.folder.ids[index]
        image = self.folder.image(image_id)
        mask = self.folder.mask(image_id, image.size)
        return EvalItem(image_id, to_tensor(image), self.tags[index], to_tensor(mask))


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


class _Careful(Dataset):
    """Hands a `UserError` on as an item, since a loading process would wrap its one line in a traceback."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.dataset[key]
        except UserError as error:
            return error


class _Collate:
    def __init__(self, together: Callable[[list], Any]):
        self.together = together

    def __call__(self, items: list) -> Any:
        return next((item for item in items if isinstance(item, UserError)), None) or self.together(items)


def _stack(items: list[TrainBatch]) -> TrainBatch:
    return TrainBatch(*(None if column[0] is None else torch.stack(column) for column in zip(*items, strict=True)))


def _load(dataset: Dataset, batches: Sequence, together: Callable[[list], Any], workers: int) -> Iterator:
    """The batches in their order. Where a loading process dies, others begin anew with the batch that is due."""
    if workers and len(tempfile.gettempdir()) > LONGEST:  # else the processes would fail and this one wait for ever
        raise UserError(
            f"{tempfile.gettempdir()}: too long a path for the temporary folder, in which loading processes make sockets; "
            "set TMPDIR to a shorter one, or workers to 0"
        )
    given = deaths = 0
    while given < len(batches):
        iterator = _begun(
            DataLoader(
                _Careful(dataset),
                batch_sampler=batches[given:],
                collate_fn=_Collate(together),
                num_workers=workers,
                pin_memory=torch.cuda.is_available(),
                generator=torch.Generator(),  # its seed for the processes, which use none, is not drawn from the run's
            )
        )
        try:
            for batch in iterator:
                if isinstance(batch, UserError):
                    raise batch
                yield batch
                given, deaths = given + 1, 0
        except (RuntimeError, OSError, EOFError) as error:
            if not workers or not _is_death(error):
                raise
            deaths += 1
            if deaths == DEATHS:
                raise UserError(
                    f"workers {workers}: loading processes died {deaths} times in a row ({first_line(error)}); "
                    "memory may have run out: take fewer --workers"
                ) from error
            tqdm.write(f"a loading process died ({first_line(error)}), others take its place", file=sys.stderr)


def _begun(loader: DataLoader) -> Iterator:
    """Its iterator, without the handler by which torch raises that a loading process died in the midst of a step, so that
    half of the weights might have changed; without it the next batch says so."""
    before = signal.getsignal(signal.SIGCHLD)
    iterator = iter(loader)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, before)
    return iterator


def _is_death(error: Exception) -> bool:
    """Whether a loading process ended, or took its batch with it; what it raised while it lived begins with `Caught`."""
    if isinstance(error, RuntimeError):
        return str(error).startswith("DataLoader worker")
    return not str(error).startswith("Caught")


def train_batches(
    dataset: Crops, *, batch: int, seed: int, start: int, stop: int, workers: int, share: tuple[int, int] = (0, 1)
) -> Iterator[TrainBatch]:
    """The batches of the steps start..stop-1; of each, process number `share[0]` of `share[1]` gets an equal, consecutive part."""
    number, processes = share
    size = batch // processes
    keys = [step[number * size : (number + 1) * size] for step in step_keys(len(dataset), batch, seed, start, stop)]
    return _load(dataset, keys, _stack, workers)


def eval_batches(
    dataset: EvalImages | Images, *, batch: int, workers: int, images: int = 0, share: tuple[int, int] = (0, 1)
) -> Iterator[list]:
    """Lists of at most `batch` items of one size, in the order in which they fill up; `images` > 0 stops after as many.

    Process number `share[0]` of `share[1]` gets every so many-th image: none comes twice.
    """
    count = min(images or len(dataset), len(dataset))
    waiting: dict[torch.Size, list[EvalItem]] = {}
    for (item,) in _load(dataset, [[i] for i in range(share[0], count, share[1])], list, workers):
        group = waiting.setdefault(item.image.shape, [])
        group.append(item)
        if len(group) == batch:
            yield waiting.pop(item.image.shape)
    yield from waiting.values()
