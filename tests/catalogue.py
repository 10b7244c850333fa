"""The catalogue of bad input: by kind, each case with how the input is spoilt and the words that the one line must hold.

The last words of a case that names a file say what is wrong with it; `refusal.REMEDY` sees that a remedy stands there too.
"""

import math

import numpy as np
import torch
from safetensors.torch import save_file
from spoilt import (
    FORGED,
    LISTS,
    about,
    bomb,
    cut,
    deep,
    empty,
    entry,
    every,
    folder,
    forged,
    grey,
    nano,
    newest,
    picture,
    shape,
    tensors,
    text,
    turned,
    twice,
    write,
)

from dsgc.network.encoder import create_encoder

TRAIN, VAL, MASKS = "JPEGImages/train*", "JPEGImages/val*", "SegmentationClass/val*"
XML = "Annotations/train_00003.xml"


def annotation(content):
    return write(XML, content)


def named(*names):
    return annotation("<annotation>" + "".join(f"<object><name>{name}</name></object>" for name in names) + "</annotation>")


def listed(content, name="train"):
    return write(f"{LISTS}/{name}.txt", content)


def gone(path):
    return lambda root: (root / path).unlink()


def upside_down(root):
    every(VAL, turned(3))(root)


def on_its_side(root):
    """Masks drawn on the pictures as they are stored, wider than high, which EXIF says are to be shown upright."""
    every(VAL, turned(6, (128, 64)))(root)
    every(MASKS, picture(lambda mask: mask.resize((128, 64))))(root)


VOC = {
    "image: a text": (every(TRAIN, text), ["train_", "not a readable image"]),
    "image: zero bytes": (every(TRAIN, empty), ["train_", "not a readable image"]),
    "image: truncated": (every(TRAIN, cut), ["train_", "truncated"]),
    "image: truncated, of validation": (every(VAL, cut), ["val_00000.jpg", "truncated"]),
    "image: 16 bits": (every(TRAIN, deep), ["train_", "more than 8 bits"]),
    "image: decompression bomb": (every(TRAIN, bomb), ["train_", "decompression bomb"]),
    "image: upside down by EXIF, with a mask": (upside_down, ["val_00000.jpg", "orientation 3", "mask", "store"]),
    "image: on its side by EXIF, masks as stored": (on_its_side, ["val_00000.png", "128 x 64", "64 x 128", "EXIF", "orientation 6"]),
    "image: a folder": (every(TRAIN, folder), ["train_00000.jpg", "missing"]),
    "mask: RGB": (every(MASKS, picture(lambda mask: mask.convert("RGB"))), ["SegmentationClass/val_00000.png", "RGB"]),
    "mask: 16 bits": (every(MASKS, deep), ["SegmentationClass/val_00000.png", "I;16"]),
    "mask: another size": (
        every("SegmentationClass/val_00002*", picture(lambda mask: mask.resize((50, 60)))),
        ["SegmentationClass/val_00002.png", "50 x 60", "128 x 128"],
    ),
    "mask: label 7 of 6": (every(MASKS, grey(7)), ["SegmentationClass/val_00000.png", "label 7", "0..6"]),
    "mask: label 254": (every(MASKS, grey(254)), ["SegmentationClass/val_00000.png", "label 254", "0..6"]),
    "mask: truncated": (every(MASKS, cut), ["SegmentationClass/val_00000.png", "not a readable mask"]),
    "mask: decompression bomb": (every(MASKS, bomb), ["SegmentationClass/val_00000.png", "decompression bomb"]),
    "mask: missing": (gone("SegmentationClass/val_00002.png"), ["SegmentationClass/val_00002.png", "missing"]),
    "XML: missing": (gone(XML), ["train_00003.xml", "missing"]),
    "XML: malformed": (annotation("<annotation><object>"), ["train_00003.xml", "not a readable annotation"]),
    "XML: empty": (annotation(""), ["train_00003.xml", "not a readable annotation"]),
    "XML: an encoding that nobody knows": (annotation("<?xml version='1.0' encoding='x-martian'?><a/>"), ["train_00003.xml", "martian"]),
    "XML: an encoding of several bytes": (annotation("<?xml version='1.0' encoding='utf-7'?><a/>"), ["train_00003.xml", "multi-byte"]),
    "XML: class not in the list": (named("yeti"), ["train_00003.xml", "yeti", "classes.txt"]),
    "XML: class in another case": (named("moon", "Moon"), ["train_00003.xml", "'Moon'", ", moon;"]),
    "classes: one twice": (write("classes.txt", "moon\nmoon\n"), ["classes.txt", "different"]),
    "classes: another encoding": (write("classes.txt", b"\xff\xfe\x00"), ["classes.txt", "UTF-8"]),
    "id: in another folder": (listed("../../etc/passwd\n"), ["train.txt", "../../etc/passwd", "not an image id"]),
    "id: in another folder, by backslashes": (listed("..\\secret\n"), ["train.txt", "secret", "not an image id"]),
    "id: absolute": (listed("/etc/passwd\n"), ["train.txt", "'/etc/passwd'", "not an image id"]),
    "id: too long for a file": (listed("a" * 5000), ["train.txt", "aaa", "not an image id"]),
    "id: a zero in it": (listed(b"train_00001\0x\n"), ["train.txt", "train_00001\\x00x", "not an image id"]),
    "id: steers the terminal": (listed(b"\x1b[2Jtrain_00001\n"), ["train.txt", "\\x1b[2J", "not an image id"]),
    "id: without image": (listed("nobody\n"), ["nobody.jpg", "train.txt"]),
    "split: empty list": (listed("\n"), ["train.txt", "no images"]),
    "split: empty validation list": (listed("", "val"), ["val.txt", "no images"]),
    "split: train and val overlap": (
        listed("".join(f"train_{i:05d}\n" for i in range(12)) + "val_00001\n"),
        ["val.txt", "train.txt", "1 of its images", "val_00001"],
    ),
    "split: a list of another encoding": (listed(b"tr\xe9\n"), ["train.txt", "UTF-8"]),
    "split: no list": (gone(f"{LISTS}/train.txt"), ["train.txt", "dev, val"]),
    "split: no validation list": (gone(f"{LISTS}/val.txt"), ["val.txt", "dev, train"]),
    "data: no folder": (lambda root: root.rename(root.with_name("gone")), ["shapes", "python -m dsgc data"]),
    "data: no images": (lambda root: (root / "JPEGImages").rename(root / "Pictures"), ["JPEGImages"]),
}

JSON = "instances_train2014.json"
COCO = {
    "JSON: truncated": (lambda root: cut(root / f"annotations/{JSON}"), ["not a readable instances file"]),
    "JSON: brackets without end": (write(f"annotations/{JSON}", "[" * 100_000), ["not a readable instances file"]),
    "JSON: an image twice": (twice("images"), ["ids of 'images' are not unique"]),
    "JSON: an instance twice": (twice("annotations"), ["ids of 'annotations' are not unique"]),
    "JSON: two categories of one name": (entry("categories", name="star"), ["same name"]),
    "JSON: a category in a gap": (entry("annotations", category_id=2), ["category_id 2", "does not list"]),
    "JSON: a file in another folder": (entry("images", file_name="../../x.jpg"), ["'../../x.jpg'", "not a plain file name"]),
    "JSON: an absolute file": (entry("images", file_name="/etc/passwd"), ["'/etc/passwd'", "not a plain file name"]),
    "JSON: a file name of two lines": (entry("images", file_name="a\nb.jpg"), ["a\\nb.jpg", "not a plain file name"]),
    "JSON: a picture of no width": (entry("images", width=0), ["0 x 128"]),
    "JSON: a picture too wide for a number": (entry("images", width=10**30), ["x 128"]),
    "JSON: an area in words": (entry("annotations", area="large"), ["'large'"]),
    "JSON: an area that is none": (entry("annotations", area=float("nan")), ["'nan'"]),
    "JSON: a polygon with a NaN": (shape([[0, 0, 9, float("nan"), 9, 9]]), ["no readable segmentation", "out of the image"]),
    "JSON: a polygon without end": (shape([[0, 0, 1e12, 0, 9, 9]]), ["no readable segmentation", "out of the image"]),
    "JSON: a polygon that is none": (shape([1, 2, 3, 4, 5, 6]), ["no readable segmentation"]),
    "JSON: runs that end too early": (shape({"size": [128, 128], "counts": [0, 12]}), ["cover 12 pixels of 128 x 128"]),
    "JSON: runs that end too late": (shape({"size": [128, 128], "counts": [0, 10**7]}), ["cover 10000000 pixels of 128 x 128"]),
    "JSON: a damaged code": (shape({"size": [128, 128], "counts": "\x01zz"}), ["damaged"]),
    "JSON: an image that is not there": (lambda root: next(root.glob("train2014/*")).unlink(), ["missing"]),
}

NAN, INFINITE = math.nan, math.inf
OPTIONS = {
    "type: a number in words": ({"steps": "many"}, ["steps", "many"]),
    "type: half a pixel": ({"crop_size": 32.5}, ["crop", "32.5"]),
    "type: one number for two": ({"crop_scale": (0.5,)}, ["crop", "scale"]),
    "type: perhaps": ({"random_flip": "perhaps"}, ["random", "flip", "perhaps"]),
    "type: a device that is none": ({"device": "gpu"}, ["device", "gpu", "auto"]),
    "negative: a loss weight": ({"lambda1": -0.5}, ["lambda1 -0.5", "not be negative"]),
    "negative: a learning rate": ({"lr": -1.0}, ["lr -1.0", "greater than 0"]),
    "negative: loading processes": ({"workers": -1}, ["workers -1", "not be negative"]),
    "negative: a seed": ({"seed": -1}, ["seed -1"]),
    "NaN: a learning rate": ({"lr": NAN}, ["lr nan", "finite"]),
    "NaN: a threshold": ({"roi_low": NAN}, ["roi_low nan", "finite"]),
    "NaN: a share": ({"tag_pool": NAN}, ["tag_pool nan", "finite"]),
    "infinite: a loss weight": ({"lambda2": INFINITE}, ["lambda2 inf", "finite"]),
    "infinite: a temperature": ({"student_temperature": INFINITE}, ["student_temperature inf", "finite"]),
    "infinite: all but, a learning rate": ({"lr": 1e38}, ["lr 1e+38", "at most 1e+15"]),
    "swapped: thresholds of the region": ({"roi_low": 0.8}, ["roi_low", "roi_high"]),
    "swapped: thresholds of the noise": ({"theta_high": 0.1}, ["theta_low", "theta_high"]),
    "swapped: thresholds of the label": ({"label_low": 0.9, "label_high": 0.8}, ["label_low", "label_high"]),
    "swapped: thresholds of the patches": ({"ptc_low": 0.9}, ["ptc_low", "ptc_high"]),
    "length: warm-up longer than the run": ({"warmup_steps": 5}, ["warmup_steps 5", "steps 4"]),
    "length: no step": ({"steps": 0, "warmup_steps": 0}, ["steps 0", "greater than 0"]),
    "length: no checkpoint kept": ({"keep_checkpoints": 0}, ["keep_checkpoints 0"]),
    "batch: 0": ({"batch_size": 0}, ["batch_size 0"]),
    "batch: more than there are": ({"batch_size": 13}, ["batch_size 13", "12 images", "train.txt"]),
    "batch: parts that do not divide it": ({"accumulate": 3}, ["batch_size 4", "1 x 3"]),
    "batch: no part": ({"accumulate": 0}, ["accumulate 0"]),
    "crop: not a multiple of the patch": ({"crop_size": 36}, ["crop_size 36", "8"]),
    "crop: smaller than a patch": ({"crop_size": 4}, ["crop_size 4", "8"]),
    "network: a block that it does not have": ({"aux_block": 6}, ["aux_block 6", "1 to 5"]),
    "network: wider than memory": ({"decoder_channels": 10**12}, ["decoder_channels 1000000000000", "memory"]),
    "encoder: unknown": ({"encoder": "nonsense"}, ["encoder", "nonsense"]),
    "encoder: no transformer": ({"encoder": "resnet18"}, ["encoder", "resnet18"]),
    "encoder: without class token": ({"encoder": "vit_base_patch16_siglip_224"}, ["encoder", "class token"]),
    "encoder: a hybrid": ({"encoder": "vit_small_r26_s32_224"}, ["encoder 'vit_small_r26_s32_224'", "a hybrid"]),
    "encoder: BEiT": ({"encoder": "beit_base_patch16_224"}, ["encoder 'beit_base_patch16_224'", "timm's Beit takes images of one size"]),
    "encoder: weights of no such tag": ({"encoder": "vit_tiny_patch16_224.x"}, ["Invalid pretrained", "try vit_tiny_patch16_224.augreg"]),
    "encoder: on the hub of others": ({"encoder": "hf-hub:someone/model"}, ["encoder 'hf-hub:someone/model'", "an address"]),
    "encoder: in a folder": ({"encoder": "local-dir:/etc"}, ["encoder 'local-dir:/etc'", "an address"]),
    "weights: no such file": ({"weights": "/nowhere/at/all.pth"}, ["/nowhere/at/all.pth", "no such weights file"]),
    "split: no such list": ({"train_split": "nowhere"}, ["nowhere.txt", "dev, train, val"]),
    "split: no such validation list": ({"val_split": "nowhere"}, ["nowhere.txt", "dev, train, val"]),
    "split: a list in another folder": ({"val_split": "../../classes"}, ["'../../classes'", "not the name of a list"]),
    "split: validated on what is trained on": ({"train_split": "val"}, ["val.txt", "4 of its images are trained on"]),
}


def pth(tensors):
    return lambda path: torch.save(tensors(), path)


def short(save):
    def make(path):
        save(nano(), path)
        cut(path)

    return make


def without(*parts):
    return {name: value for name, value in nano().items() if not name.startswith(parts)}


def every_one(kind):
    return {name: value.to(kind) for name, value in nano().items()}


def within(prefix, tensors):
    return {prefix + name: value for name, value in tensors.items()}


def of_transformers():
    blocks = {f"vit.encoder.layer.{i}.attention.attention.query.weight": torch.zeros(128, 128) for i in range(5)}
    return blocks | {"vit.embeddings.cls_token": torch.zeros(1, 1, 128), "vit.layernorm.weight": torch.zeros(128)}


def deeper():
    found = nano()
    return found | {name.replace("blocks.0.", f"blocks.{i}."): found[name] for i in range(5, 12) for name in found if "blocks.0." in name}


def with_number(number):
    found = nano()
    found["blocks.1.attn.qkv.weight"][3, 5] = number
    return found


WEIGHTS = {  # the file's ending, how it is made, what the line holds beside its name
    "a tensor of another shape": (".pth", pth(lambda: nano() | {"norm.weight": torch.zeros(3)}), ["norm.weight", "(3,)", "(128,)"]),
    "another encoder's": (".pth", pth(lambda: create_encoder("deit_tiny_patch16_224", 32).state_dict()), ["shape", "made with"]),
    "something else's": (".pth", pth(lambda: {"a": torch.zeros(1)}), ["none of its 1 tensors"]),
    "2 of its tensors": (".pth", pth(lambda: dict(list(nano().items())[:2])), ["2 of the encoder's 66 tensors", "lacks 64"]),
    "2 of its tensors under a prefix": (
        ".pth", pth(lambda: within("module.", dict(list(nano().items())[:2]))), ["under module.", "2 of the encoder's 66 tensors"],
    ),
    "all but one": (".pth", pth(lambda: without("blocks.3.norm1.weight")), ["65 of the encoder's 66 tensors", "blocks.3.norm1.weight"]),
    "no position embedding": (".pth", pth(lambda: without("pos_embed")), ["lacks 1: pos_embed"]),
    "no class token": (".pth", pth(lambda: without("cls_token")), ["has no cls_token"]),
    "a block too few": (".pth", pth(lambda: without("blocks.4.")), ["has 4 blocks, the encoder 5"]),
    "7 blocks too many": (".pth", pth(deeper), ["has 12 blocks, the encoder 5"]),
    "another encoder's under a prefix": (
        ".pth", pth(lambda: within("backbone.", create_encoder("deit_tiny_patch16_224", 32).state_dict())), ["under backbone.", "shape"],
    ),
    "a distillation token": (".pth", pth(lambda: nano() | {"dist_token": torch.zeros(1, 1, 128)}), ["has dist_token", "made with"]),
    "a layer that the encoder lacks": (".pth", pth(lambda: nano() | {"norm_pre.bias": torch.zeros(128)}), ["norm_pre.bias", "no place"]),
    "two encoders": (
        ".pth", pth(lambda: within("a.", nano()) | within("b.", nano())), ["under 'a.' and under 'b.'", "differ"],
    ),
    "the names of transformers": (".pth", pth(of_transformers), ["names of transformers (Hugging Face)", "not timm's"]),
    "a whole module": (".pth", pth(lambda: create_encoder("dsgc_vit_nano_patch8", 32)), ["a whole module", "save its state_dict() alone"]),
    "arrays of numpy": (".pth", pth(lambda: {name: value.numpy() for name, value in nano().items()}), ["no tensors", "numpy"]),
    "an archive of arrays": (".npz", lambda path: np.savez(path, kernel=np.zeros(3)), ["arrays of numpy", "no tensors"]),
    "nothing": (".pth", pth(dict), ["holds nothing"]),
    "numbers of 8 bits": (".pth", pth(lambda: every_one(torch.int8)), ["int8", "no plain real numbers"]),
    "tensors without numbers": (".pth", pth(lambda: every_one("meta")), ["on meta"]),
    "a list of tensors": (".pth", pth(lambda: [torch.zeros(1)]), ["holds list", "dictionary"]),
    "truncated": (".pth", short(torch.save), ["not a readable weights file"]),
    "truncated safetensors": (".safetensors", short(save_file), ["not a readable weights file"]),
    "zero bytes": (".safetensors", empty, ["not a readable weights file"]),
    "a folder": (".pth", lambda path: path.mkdir(), ["no such weights file"]),
    "a NaN inside": (".pth", pth(lambda: with_number(NAN)), ["blocks.1.attn.qkv.weight", "not finite"]),
    "an infinite number inside": (".safetensors", lambda path: save_file(with_number(INFINITE), path), ["blocks.1", "not finite"]),
} | {
    f"a header {name}": (".safetensors", lambda path, content=content: path.write_bytes(content), ["not a readable weights file"])
    for name, content in FORGED.items()
}  # fmt: skip


def file_of(name, change):
    return lambda run: change(newest(run) / name)


def configured(**values):
    return about(lambda said: said["config"].update(values))


def first_number(name, number):
    """A checkpoint whose decoder holds a number, with the digest that belongs to it."""

    def change(found):
        weight = found["decoder.0.weight"].clone()
        weight[0, 0, 0, 0] = number
        return {"decoder.0.weight": weight}

    return tensors(name, change)


TEACHER, STATE, ABOUT = "teacher.safetensors", "state.safetensors", "about.json"
CHECKPOINTS = {
    "truncated": (file_of(TEACHER, cut), [TEACHER, "not as it was written (damaged)"]),
    "a file missing": (file_of(TEACHER, lambda path: path.unlink()), [TEACHER, "not as it was written (missing)"]),
    "a forged header": (forged(TEACHER, FORGED["with tensors that overlap"]), [TEACHER, "not a readable weights file"]),
    "a NaN inside": (first_number(TEACHER, NAN), [TEACHER, "decoder.0.weight", "not finite"]),
    "a NaN in the state": (tensors(STATE, lambda _: {"memory.centre": torch.full((32,), NAN)}), [STATE, "centre", "not finite"]),
    "another architecture": (configured(decoder_channels=24), ["does not fit", "same run"]),
    "another encoder": (configured(encoder="vit_tiny_patch16_224"), ["does not fit", "same run"]),
    "an encoder on the hub": (configured(encoder="hf-hub:someone/model"), ["hf-hub:someone/model", "an address"]),
    "wider than memory": (configured(decoder_channels=10**5), ["does not fit", "decoder.0.bias has shape (16,), it needs (100000,)"]),
    "wider than numbers": (configured(decoder_channels=10**12), ["decoder_channels 1000000000000", "cannot be made"]),
    "a config of an earlier version": (about(lambda said: said["config"].pop("method")), [ABOUT, "names no method", "train anew"]),
    "a method that there is not": (configured(method="mars"), [ABOUT, "method 'mars'", "unknown; there are base, dsgc, masks"]),
    "a number of another method": (configured(method="masks"), [ABOUT, "not a checkpoint's description"]),
    "a config with a NaN": (configured(lr=NAN), [ABOUT, "lr nan"]),
    "a description cut off": (file_of(ABOUT, cut), [ABOUT, "not a checkpoint's description"]),
    "a description of brackets": (write(f"checkpoints/step_000001/{ABOUT}", "[" * 100_000), [ABOUT, "not a checkpoint's description"]),
    "a step before the first": (about(lambda said: said.update(step=-1)), [ABOUT, "step -1"]),
    "a step without end": (about(lambda said: said.update(step=INFINITE)), [ABOUT, "infinity"]),
    "no files": (about(lambda said: said.update(files={})), [ABOUT, "its files are none"]),
    "no teacher": (about(lambda said: said["files"].pop(TEACHER)), [ABOUT, "its files are state.safetensors, student.safetensors"]),
    "a file of another kind": (forged("more.pth", lambda path: torch.save({}, path)), [ABOUT, "more.pth"]),
    "a file in another folder": (about(lambda said: said["files"].update({"../../x.safetensors": ""})), [ABOUT, "../../x.safetensors"]),
    "no classes": (about(lambda said: said.update(classes=5)), [ABOUT, "not a checkpoint's description"]),
}


def one(name, value):
    return tensors(STATE, lambda found: {name: value(found[name])})


STATES = {
    "torch's generator": (one("random.torch", lambda _: torch.zeros(3, dtype=torch.uint8)), ["random generators", "damaged"]),
    "numpy's generator": (one("random.numpy", lambda found: found[:3].clone()), ["random generators", "another size"]),
    "numpy's place beyond its end": (one("random.numpy", lambda found: found * 0 + 10**6), ["random generators", "another size"]),
    "python's generator": (one("random.python", lambda found: found[:3].clone()), ["random generators", "damaged"]),
    "the centre": (one("memory.centre", lambda found: found[:3].clone()), ["centre has 3 numbers, this network's 32"]),
    "a step beyond the run's": (about(lambda said: said.update(step=10**9)), ["step 1000000000 of 3", "config.json"]),
}
