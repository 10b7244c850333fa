"""What a protocol says of an image, in the plainest way: float64, one look after another, no batch, bilinear by hand.

Nothing of the package is used but the network itself; the rules are written out anew for each name.
"""

import numpy as np
import torch
import torch.nn.functional as F

CROP, PATCH = 32, 8  # of the tiny run


def stretch(maps, size):
    """Bilinear in the plainest way: each place from the two nearest in height, then in width; (N, h, w) -> (N, H, W)."""
    for axis, new in ((1, size[0]), (2, size[1])):
        old, rows = maps.shape[axis], []
        for number in range(new):
            place = max((number + 0.5) * old / new - 0.5, 0)
            low = int(place)
            high, share = min(low + 1, old - 1), place - low
            rows.append((1 - share) * np.take(maps, low, axis) + share * np.take(maps, high, axis))
        maps = np.stack(rows, axis)
    return maps


def tokens(network, picture):
    with torch.no_grad():
        return network(torch.from_numpy(np.ascontiguousarray(picture))[None]).tokens


def at_scale(picture, scale):
    height, width = int(picture.shape[1] * scale), int(picture.shape[2] * scale)
    return stretch(picture, (height, width))[:, : height // PATCH * PATCH, : width // PATCH * PATCH]


def logits(network, picture, size):
    with torch.no_grad():
        return stretch(network.decode(tokens(network, picture))[0].numpy(), size)


def head(name, network, picture):
    """The logits, or for `ours` the probabilities, of an image (3, H, W) float64."""
    size = picture.shape[1:]
    if name == "ours":
        near = [round(side / PATCH) * PATCH for side in size]
        return logits(network, F.interpolate(torch.from_numpy(picture)[None], near, mode="bilinear", antialias=True)[0].numpy(), size)
    if name == "single":
        return logits(network, at_scale(picture, 1), size)
    if name.startswith("training"):
        return logits(network, stretch(picture, (CROP, CROP)), size)
    if "coco" in name:
        picture = stretch(picture, (CROP, CROP))
    found = []
    for scale in (1, 1.25, 1.5):
        seen = at_scale(picture, scale)
        one, other = logits(network, seen, size), logits(network, seen[:, :, ::-1], size)[:, :, ::-1]
        found.append(np.maximum(one, other) if "coco" in name else one + other)
    return sum(found) if "coco" in name else np.maximum(np.maximum(found[0], found[1]), found[2])


def cam(name, network, picture):
    """The maps (C, H, W) of all classes, in [0, 1]."""
    weight, size = network.patch_classifier.weight.detach().numpy(), picture.shape[1:]
    if name == "ours":
        near = [round(side / PATCH) * PATCH for side in size]
        picture = F.interpolate(torch.from_numpy(picture)[None], near, mode="bilinear", antialias=True)[0].numpy()
        total = np.maximum(np.einsum("dhw,cd->chw", tokens(network, picture)[0].numpy(), weight), 0)
    else:
        picture = picture if name == "single" else stretch(picture, (CROP, CROP))
        total = 0
        for scale in (1,) if name == "single" else (1, 0.5, 1.5):
            seen = at_scale(picture, scale)
            maps = stretch(np.einsum("dhw,cd->chw", tokens(network, seen)[0].numpy(), weight), picture.shape[1:])
            if name != "single":
                mirrored = np.einsum("dhw,cd->chw", tokens(network, seen[:, :, ::-1])[0].numpy(), weight)
                maps = np.maximum(maps, stretch(mirrored, picture.shape[1:])[:, :, ::-1])
            total = total + np.maximum(maps, 0)
    for number in range(len(total)):
        total[number] -= total[number].min()
        total[number] /= max(total[number].max(), 1e-30)
    return stretch(total, size)


def cam_labels(name, network, item, own_threshold):
    threshold = own_threshold if name == "ours" else 0.45 if "coco" in name else 0.5
    maps = cam(name, network, item.image.numpy() / 255) * item.tags.numpy()[:, None, None]
    return np.where(maps.max(0) > threshold, maps.argmax(0) + 1, 0)


def mean_iou(pairs):
    """Of (truth, labels) pairs, over the classes that occur."""
    truth, found = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1))
    found = found[truth != 255]
    truth = truth[truth != 255]
    both = [((truth == k) & (found == k)).sum() / ((truth == k) | (found == k)).sum() for k in {*truth, *found}]
    return sum(both) / len(both)


def softmax(values):
    values = np.exp(values - values.max(0))
    return values / values.sum(0)
