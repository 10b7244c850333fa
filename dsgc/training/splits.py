"""The two splits of a run, opened and checked before the first step."""

import filecmp
from typing import NamedTuple

from dsgc.config import Config
from dsgc.data import agreement
from dsgc.data.loading import Crops, EvalImages
from dsgc.data.split import Split, open_split
from dsgc.data.taught import relabelled
from dsgc.errors import UserError


class Data(NamedTuple):
    train: Crops
    val: EvalImages
    folder: Split


def open_data(config: Config) -> Data:
    """Both splits: lists and annotations checked; the validation images that training looks at, and their masks, read.

    Raises:
        UserError: what training needs is missing or damaged, a picture is in both splits, masks do not say what tags say, or
            labels that take their place are not of these pictures and classes.
    """
    folder, held_out = (open_split(config.data, split, config.pictures_of) for split in (config.train_split, config.val_split))
    if folder.classes != held_out.classes:
        raise UserError(f"{held_out.origin}: its classes are not those of {folder.origin}; take both from one data set")
    if config.method.from_masks and not (folder.truth or config.method.labels):
        raise UserError(f"method {config.method.name}: learns from masks, and {config.data} has none; name their folder with --masks")
    same = sorted({*folder.ids} & {*held_out.ids})  # in COCO's layout two pictures of two folders may have one name
    both = [name for name in same if filecmp.cmp(folder.file(name), held_out.file(name), shallow=False)]
    if both:
        raise UserError(
            f"{held_out.origin}: {len(both)} of its images are trained on too, the first is {both[0]}, so its score would say "
            f"nothing; take them off this list or off {folder.origin}"
        )
    if config.method.labels:
        folder = relabelled(folder, config.method.labels)
    crops = Crops(
        folder,
        size=config.crop_size,
        scale=config.crop_scale,
        ratio=config.crop_ratio,
        flip=config.random_flip,
        seed=config.seed,
        views=config.frozen_views,
        masks=config.method.from_masks,
        second=config.method.second_crop,
    )
    if len(crops) < config.batch_size:
        raise UserError(f"{folder.origin}: {len(crops)} images, fewer than batch_size {config.batch_size}; choose a smaller batch")
    val = EvalImages(held_out)
    for index in range(min(config.eval_images or len(val), len(val))):  # a damaged one shows now, not after a night of training
        val[index]
    val.check_masks()
    if crops.masks and not config.method.labels:
        agreement.check(folder, crops.tags)
    return Data(crops, val, folder)
