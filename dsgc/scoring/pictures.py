"""Sample pictures of a run, made with Pillow alone: what the networks see in the first validation images."""

import base64
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dsgc.config import Config
from dsgc.data.loading import EvalImages
from dsgc.data.palette import coloured, voc_palette
from dsgc.errors import enough_memory
from dsgc.network.vit import Network
from dsgc.scoring.evaluate import SMALLER, collate, views

RAMP = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], float)  # dark to bright


def heat(map: Tensor) -> np.ndarray:
    """(H, W) in [0, 1] -> (H, W, 3) uint8, dark to bright."""
    values = map.float().cpu().numpy()
    return np.stack([np.interp(values, np.linspace(0, 1, len(RAMP)), RAMP[:, c]) for c in range(3)], -1).astype(np.uint8)


def write(folder: Path, networks: dict[str, Network], dataset: EvalImages, config: Config, device: torch.device | str) -> None:
    """One PNG an image, one row a network: the image, what the method draws (`Method.views`), the truth if it is known."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(min(config.pictures, len(dataset))):
        item = dataset[index]
        images, tags, masks = collate([item], device)
        rows, truth = [], [coloured(masks[0].cpu())] if dataset.folder.truth else []
        for network in networks.values():
            with enough_memory(f"{item.image_id}: cannot be drawn", SMALLER):
                drawn = views(network, images, tags, config).drawn.values()
            maps = [map[0] if map.is_floating_point() else map[0].cpu() for map in drawn]
            panels = [heat(map) if map.is_floating_point() else coloured(map) for map in maps]
            rows.append(np.concatenate([item.image.permute(1, 2, 0).numpy(), *panels, *truth], 1))
        Image.fromarray(np.concatenate(rows)).save(folder / f"{item.image_id}.png")


def encoded(network: Network, dataset: EvalImages, config: Config, device: torch.device | str) -> dict[str, dict[str, str]]:
    """Of each sample image what a network makes of it: "cam" (grey), "pseudo", "prediction" (VOC's palette), PNG in base64;
    those of them that the method has."""
    samples = {}
    for index in range(min(config.pictures, len(dataset))):
        item = dataset[index]
        images, tags, _ = collate([item], device)
        scored, drawn, _ = views(network, images, tags, config)
        found = {}
        if "cam" in drawn:
            found["cam"] = _png((drawn["cam"][0] * 255).round().byte().cpu().numpy(), palette=False)
        for name, score in (("pseudo", "pseudo"), ("prediction", "seg")):
            if score in scored:
                found[name] = _png(scored[score][0].byte().cpu().numpy(), palette=True)
        samples[item.image_id] = found
    return samples


def decoded(png: str) -> np.ndarray:
    """(H, W) uint8 of a map that `encoded` made."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png)), formats=["PNG"]))  # no other: an EPS would be run, by Ghostscript


def _png(values: np.ndarray, *, palette: bool) -> str:
    image = Image.fromarray(values)
    if palette:
        image.putpalette(voc_palette().ravel().tolist())
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")
