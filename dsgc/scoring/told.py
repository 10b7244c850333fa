"""How well a network tells the tags of images: what is left to score where there are no masks.

The scores are of the classifier whose weights make the CAM of Eq. 1, or for a method without a CAM, of its segmentation. They say whether
the classes were learnt; where a network sees them they do not say, and a network that tells tags well may segment badly.
"""

import torch
from torch import Tensor

from dsgc.config import Config
from dsgc.data.loading import EvalImages, eval_batches
from dsgc.data.own import UNTOLD
from dsgc.data.split import named
from dsgc.errors import enough_memory
from dsgc.metrics import average_precision, f1_scores
from dsgc.network.vit import Network, fitted
from dsgc.runs import parallel


@torch.no_grad()
def scores(
    networks: dict[str, Network], dataset: EvalImages, config: Config, device: torch.device | str = "cpu", images: int = 0
) -> dict:
    """{"told": {network: {"map", "f1", "per_class", "f1_per_class"}}, "said", "images": n, "list", "masks": ""}, fractions in [0, 1].

    `map` and `f1` are means over the classes that occur; None for a class that does not. A class is told where its logit is above 0.
    `images` > 0 looks at that many only. Several processes share the images out, and all get the scores of all.
    """
    classes, share = dataset.folder.classes, parallel.rank_and_size()
    place = {image_id: number for number, image_id in enumerate(dataset.folder.ids)}
    logits = {name: torch.zeros(len(dataset), len(classes), device=device) for name in networks}
    seen = torch.zeros(len(dataset), device=device)
    training = {name: network.training for name, network in networks.items()}
    for items in eval_batches(dataset, batch=config.eval_batch, workers=config.workers, images=images, share=share):
        batch = torch.stack([item.image for item in items]).to(device, non_blocking=True).float() / 255
        rows = [place[item.image_id] for item in items]
        seen[rows] = 1
        for name, network in networks.items():
            with enough_memory(f"{items[0].image_id}: cannot be looked at", "take a smaller --eval-batch, or make the picture smaller"):
                logits[name][rows] = tag_logits(network.eval(), batch, config)
    for name, network in networks.items():
        network.train(training[name])
    parallel.sum_tensors([*logits.values(), seen])
    true = torch.from_numpy(dataset.tags).to(device)[seen > 0]
    told = {name: _summary(found[seen > 0], true, classes) for name, found in logits.items()}
    return {"told": told, "said": UNTOLD, "images": int(seen.sum())} | named(dataset.folder)


def tag_logits(network: Network, images: Tensor, config: Config) -> Tensor:
    """How sure a network is of each tag of images (B, 3, H, W) in [0, 1], (B, C): above 0 it is told. Of a segmentation, a class's logit
    where it is surest."""
    output = network(fitted(images, network.patch_size))
    if config.method.has_cam:
        return output.patch_logits.float()
    return network.decode(output.tokens).float().softmax(1)[:, 1:].amax((-2, -1)).logit(1e-6)


def _summary(logits: Tensor, tags: Tensor, classes: tuple[str, ...]) -> dict:
    found = {"map": average_precision(logits, tags), "f1": f1_scores(logits > 0, tags)}
    known = {name: [None if value != value else value for value in values.tolist()] for name, values in found.items()}
    means = {name: None if values.isnan().all() else float(values.nanmean()) for name, values in found.items()}
    by_class = {"per_class": known["map"], "f1_per_class": known["f1"]}
    return means | {name: dict(zip(classes, values, strict=True)) for name, values in by_class.items()}
