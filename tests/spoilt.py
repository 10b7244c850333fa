"""How files of a data set, weights and checkpoints are spoilt: each gives a function of the folder or file that it damages."""

import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.torch import load_file, save_file

from dsgc.network.encoder import create_encoder
from dsgc.runs import checkpoint

LISTS = "ImageSets/Segmentation"
ORIENTATION = 0x0112  # EXIF's tag


def every(pattern, change):
    """Change each file of that name."""

    def spoil(root):
        paths = sorted(root.glob(pattern))
        assert paths
        for path in paths:
            change(path)

    return spoil


def write(path, content):
    return lambda root: (root / path).write_bytes(content if isinstance(content, bytes) else content.encode())


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    path.write_bytes(b"")


def text(path):
    path.write_text("no image")


def folder(path):
    path.unlink()
    path.mkdir()


# pictures


def picture(change, **options):
    """Save what `change` makes of the picture over it."""

    def save(path):
        with Image.open(path) as image:
            image.load()
        change(image).save(path, **options)

    return save


def grey(label):
    return picture(lambda mask: Image.fromarray(np.full(mask.size[::-1], label, np.uint8)))


def deep(path):
    """A grey picture of 16 bits; most of its numbers do not fit into 8."""
    Image.fromarray((np.arange(128 * 128).reshape(128, 128) * 4).astype(np.uint16)).save(path, format="PNG")


def _grey_png(path, side, bits, rows):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, bits, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def bomb(path):
    """A PNG of a few bytes that says it has 60,000 x 60,000 pixels."""
    _grey_png(path, 60_000, 8, bytes(1000))


def grey_of_4_bits(path):
    """A mask of 128 x 128 with the numbers 0 and 15, which Pillow reads as 0 and 255."""
    _grey_png(path, 128, 4, (b"\0" + b"\x0f" * 64) * 128)


def turned(orientation, size=(128, 128)):
    """A picture that is to be shown otherwise than it is stored."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return lambda path: Image.new("RGB", size, "red").save(path, exif=exif)


# masks of another meaning, all of a split


def labels(change):
    """Change the labels in a mask, (H, W) uint8."""
    return picture(lambda mask: Image.fromarray(change(np.asarray(mask)).astype(np.uint8)))


def is_object(mask):
    return (mask > 0) & (mask < 255)


def binary(mask):
    """Masks of one class as drawing programs write them."""
    return np.where(is_object(mask), 255, 0)


def shifted(mask):
    """Numbers of a list of classes that begins with another one."""
    return np.where(is_object(mask), mask % 6 + 1, mask)


def of_objects(mask):
    """The first object is 1, the second 2, whatever they are, as in SegmentationObject."""
    return np.where(is_object(mask), np.searchsorted(np.unique(mask[is_object(mask)]), mask) + 1, mask)


# COCO


def instances(change, split="train2014"):
    """Change the content of an instances file."""

    def spoil(root):
        path = root / f"annotations/instances_{split}.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return spoil


def entry(part, **fields):
    return instances(lambda content: content[part][0].update(fields))


def shape(segmentation):
    return entry("annotations", segmentation=segmentation)


def each_instance(split="val2014", but=0, **fields):
    """Change fields of every instance but the first so many."""
    return instances(lambda content: [row.update(fields) for row in content["annotations"][but:]], split)


def twice(part):
    return instances(lambda content: content[part].append(content[part][0]))


# weights and checkpoints


def nano():
    return create_encoder("dsgc_vit_nano_patch8", 32).state_dict()


def safetensors(tensors, data=b""):
    """A safetensors file with this header, true or not."""
    header = tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode()
    return struct.pack("<Q", len(header)) + header + data


def tensor(first, last, numbers=4):
    return {"dtype": "F32", "shape": [numbers], "data_offsets": [first, last]}


FORGED = {
    "of a length beyond the file": struct.pack("<Q", 2**62) + b"{}",
    "of a length beyond memory": struct.pack("<Q", 2**64 - 1) + bytes(64),
    "with negative offsets": safetensors({"norm.weight": tensor(-16, 0)}, bytes(16)),
    "with offsets beyond the file": safetensors({"norm.weight": tensor(0, 2**40, 2**38)}, bytes(16)),
    "with tensors that overlap": safetensors({"norm.weight": tensor(0, 16), "norm.bias": tensor(8, 24)}, bytes(24)),
    "with a shape that is not the data's": safetensors({"norm.weight": tensor(0, 16, 10**12)}, bytes(16)),
    "that is no JSON": safetensors(b"\xff" * 16, bytes(16)),
    "with brackets without end": safetensors(b"[" * 100_000),
}


def newest(run: Path) -> Path:
    return checkpoint.checkpoints(run)[-1]


def about(change):
    """Change what a checkpoint says of itself."""

    def spoil(run):
        path = newest(run) / "about.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return spoil


def forged(name, content):
    """Put something else in place of a checkpoint's file, with the digest that belongs to it."""

    def spoil(run):
        path = newest(run) / name
        path.write_bytes(content) if isinstance(content, bytes) else content(path)
        about(lambda said: said["files"].update({name: checkpoint.digest(path)}))(run)

    return spoil


def tensors(name, change):
    """Change the tensors of a checkpoint's file, with the digest that belongs to them."""

    def rewrite(path):
        found = load_file(path)
        save_file(found | change(found), path)

    return forged(name, rewrite)
