"""Pictures side by side: images, maps and labels, as more than one notebook shows them."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from dsgc.data.palette import coloured, voc_palette
from dsgc.methods.contract import Views
from dsgc.teaching.figures import closed


def image_grid(
    rows: Mapping[str, Sequence[np.ndarray]], kinds: Mapping[str, str], classes: Sequence[str] = (), *, values: str = "activation"
) -> Figure:
    """Pictures by row, one column an image; another method is another row.

    rows: by title, (H, W, 3) images, (H, W) maps in 0..255 or (H, W) labels; kinds: of each title "image", "map" or "labels";
    values: what maps are of.
    """
    columns = len(next(iter(rows.values())))
    size = (1.5 * columns + 1.2, 1.5 * len(rows) + 0.5)
    figure, axes = plt.subplots(len(rows), columns, figsize=size, layout="constrained", squeeze=False)
    for axis_row, (title, pictures) in zip(axes, rows.items(), strict=True):
        for axis, picture in zip(axis_row, pictures, strict=True):
            if kinds[title] == "map":
                heat = axis.imshow(picture / 255, cmap="inferno", vmin=0, vmax=1)
            else:
                axis.imshow(coloured(picture) if kinds[title] == "labels" else picture)
        axis_row[0].set_ylabel(title, fontsize=10)
    _bare(axes)
    if "map" in kinds.values():
        figure.colorbar(heat, ax=axes, location="bottom", shrink=0.4, aspect=30, pad=0.02, label=values)
    if classes:
        _class_legend(figure, classes)
    return closed(figure)


def samples(images: Sequence[np.ndarray], masks: Sequence[np.ndarray] | None, tags: Sequence[str], classes: Sequence[str]) -> Figure:
    """Images with their tags above their masks, if there are any: what training sees, and what only evaluation sees.

    images (H, W, 3) uint8; masks (H, W), labels 0..255; tags: a title for each image.
    """
    rows = 1 if masks is None else 2
    figure, axes = plt.subplots(rows, len(images), figsize=(1.9 * len(images), 0.4 + 1.95 * rows), layout="constrained", squeeze=False)
    for column, (image, tag) in enumerate(zip(images, tags, strict=True)):
        axes[0, column].imshow(image)
        axes[0, column].set_title(tag, fontsize=9)
    for axis, mask in zip(axes[1] if masks is not None else (), masks or (), strict=True):
        axis.imshow(coloured(mask))
    _bare(axes)
    if masks is not None:
        _class_legend(figure, classes)
    return closed(figure)


TITLES = {
    "cam": "CAM",
    "region": "uncertain region",
    "noise": "noise probability",
    "initial": "pseudo label",
    "pseudo": "pseudo label",
    "corrected": "corrected",
    "prediction": "prediction",
}
MAPS = {"cam": "inferno", "region": "gray", "noise": "viridis"}  # colour maps; the CAM lies over the image


def view_grid(images: np.ndarray, masks: np.ndarray | None, views: Views, classes: Sequence[str]) -> Figure:
    """Row by row what a network makes of an image: whatever its method draws, the image before it and, if it is known, the truth after.

    images (B, H, W, 3) uint8; masks (B, H, W); views of the same images.
    """
    titles = ["image", *(TITLES.get(name, name) for name in views.drawn), *["truth"] * (masks is not None)]
    figure, axes = plt.subplots(
        len(images), len(titles), figsize=(1.55 * len(titles), 1.62 * len(images) + 0.6), layout="constrained", squeeze=False
    )
    for i, row in enumerate(axes):
        row[0].imshow(images[i])
        for axis, (name, maps) in zip(row[1:], views.drawn.items(), strict=False):
            if not maps.is_floating_point():
                axis.imshow(coloured(maps[i]))
                continue
            if name == "cam":
                axis.imshow(images[i])
            shown = axis.imshow(maps[i], cmap=MAPS.get(name, "viridis"), vmin=0, vmax=1, alpha=0.75 if name == "cam" else 1)
            if i == 0 and name != "region":
                column = axes[:, [*views.drawn].index(name) + 1]
                figure.colorbar(shown, ax=column, location="bottom", shrink=0.9, aspect=12, pad=0.01)
        if masks is not None:
            row[-1].imshow(coloured(masks[i]))
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    _bare(axes)
    _class_legend(figure, classes)
    return closed(figure)


PART_COLOURS = {"rest": "#e6e6e6", "head": "#d55e00", "body": "#0072b2", "ground": "#b5c98a"}  # by the names of `scoring.parts.PARTS`


def part_grid(shown: Mapping[str, tuple], parts: Mapping[str, int], classes: Sequence[str]) -> Figure:
    """What a map makes of pictures, a column each: the picture, the truth, the parts of things, the map.

    shown: by title (image (H, W, 3), mask (H, W), parts (H, W), map (H, W) in [0, 1]); parts: the value of each part's name.
    """
    colours = ListedColormap([PART_COLOURS[name] for name, _ in sorted(parts.items(), key=lambda part: part[1])])
    size = (1.5 * len(shown) + 1.9, 6.6)
    figure, axes = plt.subplots(4, len(shown), figsize=size, layout="constrained", squeeze=False)
    for column, (title, (image, mask, part, map_)) in zip(axes.T, shown.items(), strict=True):
        column[0].imshow(image)
        column[0].set_title(title, fontsize=10)
        column[1].imshow(coloured(mask))
        column[2].imshow(part, cmap=colours, vmin=-0.5, vmax=len(parts) - 0.5)
        heat = column[3].imshow(map_, cmap="inferno", vmin=0, vmax=1)
    for axis, name in zip(axes[:, 0], ("picture", "truth", "parts", "CAM"), strict=True):
        axis.set_ylabel(name, fontsize=10)
    _bare(axes)
    figure.colorbar(heat, cax=axes[3, -1].inset_axes([1.06, 0, 0.07, 1])).ax.tick_params(labelsize=9)
    handles = [Patch(facecolor=colour, edgecolor="0.4", label=name) for name, colour in PART_COLOURS.items()]
    axes[2, -1].legend(handles=handles, loc="center left", bbox_to_anchor=(1.03, 0.5), fontsize=9, frameon=False)
    palette = voc_palette() / 255
    handles = [Patch(facecolor=palette[k], edgecolor="0.4", label=name) for k, name in enumerate(["background", *classes])]
    axes[1, -1].legend(handles=handles, loc="center left", bbox_to_anchor=(1.03, 0.5), fontsize=9, frameon=False)
    return closed(figure)


def _bare(axes: np.ndarray) -> None:
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.grid(False)


def _class_legend(figure: Figure, classes: Sequence[str]) -> None:
    palette = voc_palette() / 255
    names = ["background", *classes, "ignored (255)"]
    values = [*range(len(classes) + 1), 255]
    handles = [Patch(facecolor=palette[v], edgecolor="0.4", label=n) for n, v in zip(names, values, strict=True)]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(8, len(handles)), fontsize=9, frameon=False)
