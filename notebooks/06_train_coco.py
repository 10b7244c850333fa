# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Training on COCO
#
# MS COCO has 80 classes where PASCAL VOC has 20, eight times as many images, and another layout: one JSON file lists all
# instances of a split, with their class and their outline. The method is the same, so this notebook is short. As it stands
# it trains on a small drawn data set *in COCO's layout*; the same cells train on the real one:
#
# ```bash
# papermill notebooks/06_train_coco.ipynb out.ipynb -p preset coco -p data DIR
# ```
#
# where `DIR` holds `annotations/instances_train2014.json` and `instances_val2014.json`, and the images in `train2014/` and
# `val2014/`.
#
# ```{admonition} Before you begin
# :class: frame
#
# **You should know**
#
# - what is trained and what is scored: {doc}`05_train_voc`
# - COCO's file of instances, in outline ({cite:t}`lin2014coco`): images, categories, annotations with outline and crowd flag
#
# **Afterwards you can**
#
# - train on any data set in COCO's layout, the real one too, with one command;
# - turn a list of instances into tags and into a mask, by hand, with overlaps, crowd regions and gaps in the category ids;
# - say what is averaged at test time, what it costs, and what of a published number may come from it.
#
# **It takes** about {reading}`06_train_coco` minutes to read ([how that is
# counted](../book/exercises.md#how-the-minutes-are-counted)); the run that made this page took {glue:text}`minutes_coco_layout:.1f`
# minutes.
# ```

# %% tags=["parameters"]
preset = "shapes"  # shapes: small network, drawn data, two CPU cores; coco: the paper's setting
data = ""  # folder in COCO's layout; empty for the preset's own
out = "runs/06_train_coco"  # a new folder with the date in its name is made under it
seed = 0
steps = 0  # 0 for the preset's own number
processes = 1  # GPUs to train on; the result stays the same
options = {}  # any other field of a run or of its method

# %% tags=["hide-input"]
import json
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import Markdown, display

warnings.filterwarnings("ignore", message="IProgress not found")  # progress bars are plain text here
from dsgc.data import shapes_coco
from dsgc.experiments import paper
from dsgc.methods import preset as find_preset
from dsgc.scoring.predict import TestTime, score
from dsgc.teaching import chapter, figures, panels
from dsgc.teaching.glue import glue
from dsgc.training.loop import train
from dsgc.training.splits import open_data

base = find_preset(preset)
drawn = preset == "shapes" and not data
changes = {"data": data or ("data/shapes_coco" if drawn else base.data), "train_split": "train2014", "val_split": "val2014"}
changes |= {"seed": seed, "steps": steps or base.steps} | dict(options)
changes = {key: tuple(value) if isinstance(value, list) else value for key, value in changes.items()}
config = base.changed(**changes)  # a wrong name or value ends the run here, before any work
figures.style()

# %% [markdown]
# ## From instances to tags and masks
#
# The *tags* of an image are the classes of its instances. COCO's category ids have gaps (its 80 classes are numbered up
# to 90), so they are counted anew from 1. Images without any instance are left out, which leaves 82,081 and 40,137 of the
# real ones.
#
# ````{admonition} Predict 1
# :class: predict
#
# The file does not say what lies in front. Two instances overlap, and a crowd region, marked 255, lies over a third: in which order
# should the three be painted into one mask, and what would be lost otherwise?
#
# ```{dropdown} Answer
# The crowd region first, then the large instance, then the small one. A small thing painted first would vanish under a large one, a
# cup under its table. A crowd region painted last would take whatever stands in it out of the evaluation. In the picture below with
# a crowd region, the thing in front of it has kept its colour.
# ```
# ````
#
# The *mask*, which only evaluation looks at, is painted from the instances: first the regions that are marked as
# a crowd, as 255, which is ignored; then the others, large ones first, since what lies in front is mostly smaller.
#
# A file as large as that of the real training split is read one instance at a time. The tags, and where each instance stands in
# the file, are kept in a cache, from which the next start reads them; {doc}`../book/performance` has times and memory.

# %%
if drawn and not Path(config.data).exists():
    shapes_coco.write(config.data)
found = open_data(config)
classes = found.folder.classes
listed = json.loads(Path(found.val.folder.origin).read_bytes())
counts = {
    "images listed": len(listed["images"]),
    "with an instance": len(found.val),
    "instances": len(listed["annotations"]),
    "of them crowd regions": sum(row["iscrowd"] for row in listed["annotations"]),
}
print(f"{len(found.train)} training images; validation:", ", ".join(f"{value} {name}" for name, value in counts.items()))
print(f"{len(classes)} classes: {', '.join(classes)}; category ids {sorted(row['id'] for row in listed['categories'])}")

# %% tags=["hide-input"]
assert len(found.val) == len({row["image_id"] for row in listed["annotations"]})
number = {row["id"]: i for i, row in enumerate(sorted(listed["categories"], key=lambda row: row["id"]))}
first = next(row["id"] for row in listed["images"] if row["file_name"].startswith(found.val[0].image_id))
named = {number[row["category_id"]] for row in listed["annotations"] if row["image_id"] == first}
assert set(np.flatnonzero(found.val[0].tags.numpy())) == named

# %% mystnb={"image": {"alt": "Six validation images, among them a grey one and one with a crowd region, each with its tags as title, above its mask."}} tags=["hide-input"]
wanted = [0, 1, 2, 3, 24, 39]  # the last two: a crowd region and a grey picture in the drawn set
items = [found.val[i] for i in wanted if i < len(found.val)]
panels.samples(
    [item.image.permute(1, 2, 0).numpy() for item in items],
    [item.mask.numpy() for item in items],
    [", ".join(np.array(classes)[item.tags.numpy() > 0]) for item in items],
    classes,
)

# %% [markdown]
# ## Training
#
# The loop is that of {doc}`05_train_voc`. It runs on one GPU or several: a batch is shared out, what the losses are divided by is
# counted over all processes, and gradients are summed, so that the result does not depend on the number of processes. A
# run that was stopped goes on with `python -m dsgc resume`, as if it had not been.

# %% tags=["nbval-ignore-output"]
run = Path(out) / time.strftime("%Y%m%d-%H%M%S")
begun = time.time()
chapter.on_processes(train, config.changed(out=str(run)), processes=processes)
minutes = (time.time() - begun) / 60

# %% mystnb={"image": {"alt": "Left: mIoU of segmentation head, CAM and pseudo labels at each evaluation of the run. Right: the segmentation that a run of ToCo logged on PASCAL VOC."}} tags=["hide-input"]
figures.learning_curve(run, config.method.warmup_steps, paper.TOCO_CURVE)

# %% [markdown]
# ## At test time
#
# Published numbers mostly look at each image at several sizes and in the mirror, and average. The same network, with and
# without; the data set is streamed, so memory does not grow with it.
#
# ````{admonition} Predict 2
# :class: predict
#
# The network has been trained on crops of one size, half of them mirrored. What brings more at test time, the mirror image or
# larger copies of the image? And by how much does either multiply the time?
#
# ```{dropdown} Answer
# One would expect more of the larger copies: a token stands for 8 pixels, so in a larger copy it sees a finer piece of the thing,
# while the mirror image is a view that training has made the network agree on. The mirror doubles the time; copies of 1, 1.25 and
# 1.5 times the side multiply it by $1+1.25^2+1.5^2=4.8$, and by twice that with their mirror images. The table says how much of the
# expectation is so here. In the published runs of {doc}`08_comparison` scales, mirror and CRF together bring
# {glue:text}`../notebooks/08_comparison.ipynb::brings_least:.1f` to {glue:text}`../notebooks/08_comparison.ipynb::brings_most:.1f`
# points.
# ```
# ````

# %% tags=["nbval-ignore-output"]
looks = {"one scale": TestTime(), "mirror": TestTime(mirror=True), "scales 1, 1.25, 1.5 and mirror": TestTime((1.0, 1.25, 1.5), True)}
tested = {name: 100 * score(run, None, None, how, names=("teacher",))["teacher"]["seg"]["miou"] for name, how in looks.items()}
display(pd.DataFrame.from_dict(tested, orient="index", columns=["mIoU, %"]).style.format("{:.1f}"))

# %% tags=["hide-input", "nbval-ignore-output"]
metrics = json.loads((run / "metrics.json").read_text())
miou = 100 * metrics["teacher"]["seg"]["miou"]
glue("miou_coco_layout", float(miou), display=False)
glue("minutes_coco_layout", float(minutes), display=False)
Markdown(f"{minutes:.1f} minutes; segmentation {miou:.1f} % on {metrics['images']} images of `{config.data}`.")

# %% tags=["hide-input"]
assert abs(tested["one scale"] - miou) < 0.5, "the same network on the same images"
assert all(np.isfinite(value) for value in tested.values()) and set(metrics["teacher"]["seg"]["per_class"]) == {"background", *classes}
if config == find_preset("shapes").changed(**{name: changes[name] for name in ("data", "train_split", "val_split", "steps")}):
    assert miou >= 40, "far from what this run gives elsewhere"
