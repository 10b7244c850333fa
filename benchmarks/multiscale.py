"""What does a training step cost, against one in the style of the published single-stage code? And where does it go?

Theirs makes its CAM in every step from three scales, each with its mirror image, and its pseudo label image by image. Both
steps have the same networks, losses and batch: ViT-S/16 at 224. Ours is the step that training takes. A third case fits the
mixture with scikit-learn in addition, as DuPL does; in memory there is one more, whose attention is written out, as published
code has it. Memory is what a process grows by in a step. Writes `benchmarks/multiscale.json`.

    python benchmarks/multiscale.py
"""

import copy
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from statistics import median
from unittest import mock

import dsgc  # noqa: F401, isort: skip; before torch, whose threads then share the cores with others
import torch
import torch.nn.functional as F
from measure import alternate, compared, peak_memory, report_peak, write
from mixture import sklearn_per_map
from torch import Tensor

from dsgc import binned, cam, dskd, gmm, refine
from dsgc.config import Config
from dsgc.methods import labels, preset
from dsgc.methods.contract import Examined, Part, over_all
from dsgc.methods.dsgc import Dsgc, Goals, Seen
from dsgc.methods.gaussian import GaussianCorrection
from dsgc.network.build import build_network
from dsgc.network.vit import Network
from dsgc.objective import total_loss
from dsgc.runs.parallel import accelerator_of
from dsgc.training import step

SCALES = (1.0, 0.5, 1.5)
NUMBERS_OF_TAGS = (1, 2, 1, 3)  # of the images of a batch; PASCAL VOC has 1.5 on average
CONFIG = preset("voc").changed(encoder="vit_small_patch16_224", weights="none", crop_size=224, batch_size=4, precision="no")


class Setting:
    """Networks and a batch, alike for all cases."""

    def __init__(self, config: Config = CONFIG, classes: int = 20):
        torch.manual_seed(0)
        self.method, self.accelerator = config.method, accelerator_of(config)
        device = self.accelerator.device
        teacher: Network = build_network(config, classes)[0].to(device)
        self.networks = {"teacher": teacher, "student": copy.deepcopy(teacher)}
        coarse = torch.rand(config.batch_size, 3, 28, 28)
        images = F.interpolate(coarse, (config.crop_size,) * 2, mode="bicubic").clamp(0, 1)
        tags = torch.zeros(config.batch_size, classes)
        for row, image in enumerate(tags):
            image[torch.randperm(classes)[: NUMBERS_OF_TAGS[row % len(NUMBERS_OF_TAGS)]]] = 1
        self.part = Part(images.to(device), tags.to(device), torch.arange(len(images)))
        self.stage = self.method.stage(self.method.warmup_steps, config.steps)  # the expansion
        self.memory = self.method.memory(self.networks)

    def forget(self) -> None:
        for network in self.networks.values():
            network.zero_grad(set_to_none=True)

    def ours(self) -> None:
        step.backward(self.method, self.networks, [self.part], self.stage, self.memory, self.accelerator)
        self.forget()

    def theirs(self) -> None:
        """The same losses, from CAMs of many scales and pseudo labels made one by one."""
        images, tags, method = self.part.images, self.part.tags, self.method
        teacher, student = self.networks.values()
        with torch.no_grad():
            final, middle = multi_scale(teacher, images.flip(-1))
        seen = teacher(images.flip(-1))
        grid = seen.tokens.shape[-2:]
        with torch.no_grad():
            following = student(images)
            patch_labels = cam.patch_labels(F.interpolate(middle, grid, mode="bilinear"), tags, method.ptc_low, method.ptc_high)
            activation, features = final.flip(-1), seen.tokens.flip(-1)
            on_grid = F.interpolate(activation, grid, mode="bilinear")
            region = dskd.uncertain_region(cam.tagged(on_grid, tags), method.roi_low, method.roi_high)
            rows = [slice(row, row + 1) for row in range(len(images))]
            made = [method.pseudo_labels(images[row], activation[row], tags[row], features[row]) for row in rows]
            pseudo = Examined(*(torch.cat(parts) for parts in zip(*made, strict=True)))
            goals = Goals(patch_labels, following, region, student.project(following.tokens), pseudo)
        means = method.losses(self.networks, Seen(seen, None), goals, self.part, self.stage, self.memory)
        found = over_all(means, {name: torch.as_tensor(mean.over) for name, mean in means.items()})
        total_loss(found, self.stage.weights).backward()
        self.forget()

    def theirs_with_sklearn(self) -> None:
        def fitted(x: Tensor, mask: Tensor, **options: float) -> gmm.Mixture:
            if mask.sum() > 1:
                sklearn_per_map(x[mask][None])
            return plain(x, mask, **options)

        plain = binned.fit
        with mock.patch.object(binned, "fit", fitted):
            self.theirs()


def multi_scale(network: Network, images: Tensor) -> tuple[Tensor, Tensor]:
    """CAMs of the last and the middle tokens, (B, C, H, W) in [0, 1]: the sum over scales of the stronger of map and mirror map."""
    size, totals = images.shape[-2:], [0.0, 0.0]
    for scale in SCALES:
        sides = [round(side * scale / network.patch_size) * network.patch_size for side in size]
        scaled = F.interpolate(images, sides, mode="bilinear", align_corners=False)
        output = network(torch.cat([scaled, scaled.flip(-1)]))
        for k, (tokens, head) in enumerate(((output.tokens, network.patch_classifier), (output.middle, network.aux_classifier))):
            maps = F.interpolate(torch.einsum("bdhw,cd->bchw", tokens, head.weight), size, mode="bilinear", align_corners=False)
            straight, mirrored = maps.chunk(2)
            totals[k] = totals[k] + torch.maximum(straight, mirrored.flip(-1)).relu()
    least = [total - total.amin((-2, -1), keepdim=True) for total in totals]
    return tuple(total / (total.amax((-2, -1), keepdim=True) + 1e-5) for total in least)


@contextmanager
def clocked(owner: object, name: str, spent: dict[str, float], label: str | Callable[[], str]):
    """Add up the seconds that calls of a function take."""
    function = getattr(owner, name)

    def timed(*args, **kwargs):
        begun = time.perf_counter()
        result = function(*args, **kwargs)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        key = label() if callable(label) else label
        spent[key] = spent.get(key, 0.0) + time.perf_counter() - begun
        return result

    with mock.patch.object(owner, name, timed):
        yield


def profile(setting: Setting, rounds: int = 5) -> list[dict]:
    """Seconds of the parts of our step and their shares, medians over rounds; parts of the pseudo label stand below it."""
    places = [
        (Network, "forward", lambda: "forward pass, teacher" if torch.is_grad_enabled() else "forward pass, student"),
        (Tensor, "backward", "backward pass"),
        (labels, "activation", "CAM (Eq. 1, 2)"),
        (Dsgc, "pseudo_labels", "pseudo label"),
        (refine, "refine", "pseudo label: refinement"),
        (binned, "fit", "pseudo label: mixture"),
        (gmm, "noise_probability", "pseudo label: noise probability"),
        (GaussianCorrection, "_rewritten", "pseudo label: rules"),
        (Network, "project", "projections"),
        (Network, "decode", "decoder"),
    ]
    found: list[dict[str, float]] = []
    for _ in range(rounds):
        spent: dict[str, float] = {}
        with contextmanager(nested)(places, spent):
            begun = time.perf_counter()
            setting.ours()
            whole = time.perf_counter() - begun
        spent["everything else"] = whole - sum(value for name, value in spent.items() if ": " not in name)
        found.append(spent | {"step": whole})
    return [
        {"part": name, "seconds": median(each[name] for each in found), "share": median(each[name] / each["step"] for each in found)}
        for name in found[0]
    ]


def nested(places, spent):
    if not places:
        yield
        return
    with clocked(*places[0][:2], spent, places[0][2]):
        yield from nested(places[1:], spent)


MEMORY = ("dsgc", "dsgc, activations computed twice", "multi-scale", "multi-scale, attention written out")


def memory_of(side: int, images: int, case: str) -> None:
    """Report the peak of a step, in this process."""
    setting = Setting(CONFIG.changed(crop_size=side, batch_size=images))
    for network in setting.networks.values():
        network.encoder.set_grad_checkpointing(case == MEMORY[1])
        for block in network.encoder.blocks:
            block.attn.fused_attn = case != MEMORY[3]
    take = setting.ours if case in MEMORY[:2] else setting.theirs
    take()  # what is made once is there from now on
    report_peak(take)


def main() -> None:
    begun = time.monotonic()
    setting = Setting()
    cases = {"dsgc": setting.ours, "multi-scale": setting.theirs, "multi-scale and scikit-learn": setting.theirs_with_sklearn}
    seconds = compared(alternate(cases), to="multi-scale")
    memory = [
        {"side": side, "images": images, "case": name, "MiB": peak_memory(__file__, str(side), str(images), name)}
        for side, images in ((224, 4), (448, 2))
        for name in MEMORY
    ]
    result = {
        "question": "A training step against one with a multi-scale CAM; ViT-S/16, 224 x 224, 4 images",
        "cases": [{"name": name} | numbers for name, numbers in seconds.items()],
        "memory": memory,
        "profile": profile(setting),
    }
    write(__file__, result, begun, ["scikit-learn"])


if __name__ == "__main__":
    if len(sys.argv) == 4:  # a process of `peak_memory`
        memory_of(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
    else:
        main()
