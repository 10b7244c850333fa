"""How many training images a core reads and cuts a second, beside torchvision, and how many cores then feed a GPU.

Each image is decoded, a random part of it scaled to the preset voc's crop, every second one mirrored, four of them stacked: one
process, one thread. torchvision's usual way is Pillow's picture, its v2 transforms and floats; it is also timed left in bytes, as
here they stay until they are on the GPU, and on tensors, which scales by another arithmetic: other pixels, so other training.
How loading grows with the size of the pictures is fitted. Writes `benchmarks/loader.json`.

    python benchmarks/loader.py                                    drawn pictures that weigh what VOC's do
    python benchmarks/loader.py --data VOCdevkit/VOC2012 --needed 25 400
"""

import math
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import dsgc  # noqa: F401, isort: skip; before torch, whose threads then share the cores with others
import numpy as np
import torch
import tyro
from measure import alternate, compared, exponent, write
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets.folder import default_loader
from torchvision.io import decode_image
from torchvision.transforms import v2

from dsgc.data import shapes, voc
from dsgc.data.loading import Crops, train_batches
from dsgc.methods import preset

VOC = preset("voc")
BATCH = 4
TOCO = BATCH / 0.57 / 2  # images/s of each of the two A100 that ToCo trains on, 0.57 s an iteration of four images at 448
WIDTHS = (250, 500, 1000, 2000)  # pixels, a picture being three quarters as high
GRAIN = 18  # of 255, the deviation of each pixel: with it a picture of 500 x 375 weighs 95 KB in quality 90, as those of VOC do


def pictures(folder: Path, count: int, width: int) -> voc.Folder:
    """The embedded data set's pictures, some of them, enlarged and grainy."""
    shapes.write(folder, sizes={"train": count})
    rng, height = np.random.default_rng(0), width * 3 // 4
    grain = rng.normal(0, GRAIN, (height, width, 3)).astype(np.float32)
    for path in sorted(folder.glob("JPEGImages/*.jpg")):
        with Image.open(path) as image:
            pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC), np.float32)
        pixels = pixels + np.roll(grain, rng.integers((height, width)), (0, 1))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return voc.open_split(folder, "train")


def read(batches: Iterable) -> None:
    for _ in batches:
        pass


def ours(folder: voc.Folder) -> Callable[[], None]:
    """An epoch of the batches that training gets."""
    config = {"size": VOC.crop_size, "scale": VOC.crop_scale, "ratio": VOC.crop_ratio, "flip": VOC.random_flip}
    crops = Crops(folder, **config, seed=0)
    return lambda: read(train_batches(crops, batch=BATCH, seed=0, start=0, stop=len(crops) // BATCH, workers=0))


def torchvisions(files: list[str], opened: Callable[[str], Image.Image | Tensor], *last: v2.Transform) -> Callable[[], None]:
    """An epoch of the same files through torchvision's transforms."""
    cut = v2.RandomResizedCrop(VOC.crop_size, VOC.crop_scale, VOC.crop_ratio)
    transforms = v2.Compose([cut, v2.RandomHorizontalFlip(), *last])

    class Opened(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, index: int) -> Tensor:
            return transforms(opened(files[index]))

    return lambda: read(DataLoader(Opened(), batch_size=BATCH, shuffle=True, drop_last=True))


def ways(folder: voc.Folder) -> list[dict]:
    """Seconds an epoch, and images a second, of each way to load."""
    files = [str(folder.root / "JPEGImages" / folder.pictures[image_id]) for image_id in folder.ids]
    cases = {
        "dsgc": ours(folder),
        "torchvision": torchvisions(files, default_loader, v2.ToImage(), v2.ToDtype(torch.float32, scale=True)),
        "torchvision, left in bytes": torchvisions(files, default_loader, v2.ToImage()),
        "torchvision on tensors, left in bytes": torchvisions(files, lambda path: decode_image(path, "RGB")),
        "decoding alone": lambda: read(folder.image(image_id) for image_id in folder.ids),
    }
    kilobytes = sum(Path(path).stat().st_size for path in files) / len(files) / 1e3
    facts = {"images": len(files), "mean_kB": kilobytes, "crop": VOC.crop_size}
    return [
        {"name": way} | times | {"images_per_second": len(files) / times["seconds"]} | facts
        for way, times in compared(alternate(cases), to="dsgc").items()
    ]


def growth(scratch: Path, images: int = 8) -> list[dict]:
    """How the time of an image grows with its pixels, whole and decoding alone."""
    sizes, cases = [width * (width * 3 // 4) for width in WIDTHS], {}
    for width, pixels in zip(WIDTHS, sizes, strict=True):
        folder = pictures(scratch / str(width), images, width)
        cases[f"loading {pixels}"] = ours(folder)
        cases[f"decoding alone {pixels}"] = lambda folder=folder: read(folder.image(image_id) for image_id in folder.ids)
    times, found = compared(alternate(cases), to=f"loading {sizes[0]}"), []
    for of in ("loading", "decoding alone"):
        seconds = [times[f"{of} {pixels}"]["seconds"] / images for pixels in sizes]
        found.append({"of": of, "against": "pixels", "sizes": sizes, "seconds": seconds, "exponent": exponent(sizes, seconds)})
    return found


def main(data: str | None = None, images: int = 200, needed: tuple[float, ...] = (100.0, 1000.0)) -> None:
    """Args:
    data: a data set in the VOC layout instead of drawn pictures.
    images: how many of them.
    needed: images/s of a training for which to tell the number of workers, besides ToCo's.
    """
    torch.set_num_threads(1)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dsgc-loader-") as scratch:
        folder = voc.open_split(data, "largest") if data else pictures(Path(scratch) / "all", images, 500)
        cases = ways(folder._replace(ids=folder.ids[:images]))
        grown = growth(Path(scratch))
    rate = cases[0]["images_per_second"]
    workers = [{"images_per_second": rate_, "workers": math.ceil(rate_ / rate)} for rate_ in (TOCO, *needed)]
    question = "How many training images does one core load a second, beside torchvision, and how many workers feed a GPU?"
    result = {"question": question, "pictures": "given" if data else "drawn", "cases": cases, "workers": workers, "growth": grown}
    write(__file__, result, begun, packages=("torchvision", "pillow"))


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
