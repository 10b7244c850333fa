"""The embedded pictures without their layout: in folders, in several formats, with a file of tags and a folder of masks."""

from dsgc.data import voc


def mine_of(shapes_folder, root):
    """Write them below a folder: `pictures`, `tags.csv`, `masks`."""
    rows = []
    for split in ("train", "val"):
        folder = voc.open_split(shapes_folder, split)
        for number, (image_id, tags) in enumerate(zip(folder.ids, folder.tags(), strict=True)):
            name = f"{'a/b/' * (number % 2)}{image_id}.{('jpg', 'png', 'webp')[number % 3]}"
            (root / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
            image = folder.image(image_id)
            image.save(root / "pictures" / name)
            (root / "masks").mkdir(exist_ok=True)
            folder.mask(image_id, image.size).save(root / f"masks/{image_id}.png")
            rows.append(",".join([name, *map(str, tags.astype(int))]))
    (root / "tags.csv").write_text("\n".join([",".join(["file", *folder.classes]), *rows]))
    return root


def fields_of(mine):
    """What a run on them is told."""
    return {"data": str(mine / "pictures"), "tags": str(mine / "tags.csv"), "train_split": "train", "val_share": 0.2}
