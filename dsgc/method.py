"""Fig. 1 in code: a batch goes through teacher and student, CAM, pseudo label, correction, and comes out as losses."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dsgc import binned, cam, correction, dskd, gmm, objective, ptc, refine
from dsgc.cam import IGNORE
from dsgc.config import Config
from dsgc.network import Network, Output

Weights = Mapping[str, float]  # of the losses of a stage, by name


class PseudoLabels(NamedTuple):
    """What supervises the decoder, and how it came about. H' x W' is the image divided by `label_stride`."""

    confidence: Tensor  # (B, H', W') strongest tagged activation after refinement, in [0, 1]
    initial: Tensor  # (B, H', W') int64, before correction
    noise: Tensor  # (B, h, w) or (B, H', W'): noise probability on the mixture's grid, 0 where it is not fitted
    corrected: Tensor  # (B, H', W') int64; the initial label where correction is off


class Counts(NamedTuple):
    """What the means of the losses are over, in a batch or a part of one; float64, so that parts add up exactly."""

    images: Tensor  # ()
    pairs: Tensor  # (2,) of tokens, with equal and with different labels
    region: Tensor  # () tokens in the uncertain region
    labelled: Tensor  # (2,) background and foreground pixels


class StepResult(NamedTuple):
    losses: dict[str, Tensor]  # scalars by name: cls, ptc, sim, punc, seg (those whose weight is not 0)
    labels: PseudoLabels | None  # where L_seg was computed from tags
    projected: Tensor | None  # (B, K, h, w) the student's projections, for the centre of Eq. 10


def network_cam(network: Network, output: Output, config: Config) -> Tensor:
    """Eq. 1 with the network's own classifier: (B, C, h, w)."""
    return _cam(output.tokens, network.patch_classifier.weight, config)


@torch.no_grad()
def _cam(tokens: Tensor, weight: Tensor, config: Config) -> Tensor:
    with torch.autocast(tokens.device.type, enabled=False):  # in float32, whatever precision the networks have
        return cam.class_activation_map(tokens.float(), weight.float(), subtract_minimum=config.subtract_minimum)


@torch.no_grad()
def pseudo_labels(images: Tensor, activation: Tensor, tags: Tensor, tokens: Tensor, config: Config) -> PseudoLabels:
    """CAM -> refinement -> initial label -> mixture -> corrected label.

    images (B, 3, H, W); activation (B, C, h, w) in [0, 1]; tags (B, C); tokens (B, D, h, w), the features of Eq. 18.
    """
    size = [max(1, side // config.label_stride) for side in images.shape[-2:]]
    small = F.interpolate(images, size, mode="bilinear", antialias=True)
    maps, tags, numbers = cam.present(activation, tags)  # of T classes, not of all
    maps = F.interpolate(cam.tagged(maps, tags), size, mode="bilinear", align_corners=False)
    maps = refine.refine(maps, small, dilations=config.refine_dilations, iterations=config.refine_iterations)
    confidence = maps.amax(1)
    initial = cam.patch_labels(maps, tags, config.label_low, config.label_high)  # of 1..T
    initial = torch.where(initial == IGNORE, IGNORE, numbers.gather(1, initial.clamp_max(tags.shape[1]).flatten(1)).view_as(initial))
    if not config.correction:
        return PseudoLabels(confidence, initial, torch.zeros_like(confidence), initial)

    on_patches = config.mixture_grid == "patch"
    grid = tokens.shape[-2:] if on_patches else size
    x = F.adaptive_avg_pool2d(confidence[:, None], grid)[:, 0] if on_patches else confidence
    labels = nearest(initial, grid)
    if config.mixture_pixels == "foreground":
        mask = (labels > 0) & (labels != IGNORE)
    else:
        mask = x > 0 if config.mixture_pixels == "positive" else torch.ones_like(x, dtype=torch.bool)
    mixture = binned.fit(x.flatten(1), mask.flatten(1))
    noise = gmm.noise_probability(x.flatten(1), mixture, mask.flatten(1)).view_as(x)
    features = tokens if on_patches else F.interpolate(tokens, grid, mode="bilinear", align_corners=False)
    corrected = correction.correct(
        labels, noise, features, high=config.theta_high, low=config.theta_low, tau=config.tau
    )
    if on_patches:  # a corrected patch passes its label on to all its pixels, every other pixel keeps its own
        changed = nearest((corrected != labels).long(), size).bool()
        corrected = torch.where(changed, nearest(corrected, size), initial)
    return PseudoLabels(confidence, initial, noise, corrected)


def nearest(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Labels (B, H, W) on a grid of another size, each place with the label nearest to it; never mixed."""
    return F.interpolate(labels[:, None].float(), tuple(size), mode="nearest-exact")[:, 0].long()


def tag_losses(output: Output, tags: Tensor) -> Tensor:
    """Eq. 8 on the class token, and on the pooled last and middle tokens, without which no CAM would be trained."""
    return sum(dskd.tag_loss(logits, tags) for logits in (output.class_logits, output.patch_logits, output.aux_logits))


def follow(student: Network | None, images: Tensor, stage: objective.Stage, weights: Weights, config: Config) -> Output | None:
    """The student's pass over the unmirrored images, where anything needs it; it learns in the warm-up only, else makes no graph."""
    if student is None or not (stage == "warm-up" or {"sim", "punc"} & weights.keys() or config.label_network != "teacher"):
        return None
    with torch.set_grad_enabled(stage == "warm-up" and torch.is_grad_enabled()):
        return student(images)


class Goals(NamedTuple):
    """What the losses of a batch, or of a part of one, are measured against. Nothing in it takes a gradient."""

    patch_labels: Tensor | None  # (B, h, w) int64, of Eq. 3 in the mirrored frame; for L_PTC
    region: Tensor | None  # (B, h, w) bool, of Eq. 9; for L_PUNC
    projected: Tensor | None  # (B, K, h, w) the student's projections; for L_PUNC
    labels: PseudoLabels | None  # for L_seg

    def counts(self, tags: Tensor) -> Counts:
        """What the means of the losses are over. Those of all parts of a batch add up to the batch's."""
        nothing = tags.new_zeros(2, dtype=torch.float64)
        return Counts(
            images=tags.new_full((), len(tags), dtype=torch.float64),
            pairs=nothing if self.patch_labels is None else ptc.pairs(self.patch_labels),
            region=nothing[0] if self.region is None else self.region.sum().double(),
            labelled=nothing if self.labels is None else objective.labelled(self.labels.corrected),
        )


@torch.no_grad()
def goals(
    teacher: Network,
    student: Network | None,
    seen: Output,
    following: Output | None,
    images: Tensor,
    tags: Tensor,
    weights: Weights,
    config: Config,
) -> Goals:
    """From a pass of each network: `seen`, the teacher's over the mirrored images, and `following`, from `follow`."""
    patch_labels = region = projected = labels = None
    if "ptc" in weights:
        patch_labels = cam.patch_labels(_cam(seen.middle, teacher.aux_classifier.weight, config), tags, config.ptc_low, config.ptc_high)
        if not config.ptc_classes:
            patch_labels = torch.where(patch_labels == IGNORE, patch_labels, patch_labels.clamp(max=1))
    if {"punc", "seg"} & weights.keys():
        activation = network_cam(teacher, seen, config).flip(-1)  # back in the unmirrored frame
    if "punc" in weights:
        projected = student.project(following.tokens)
        region = dskd.uncertain_region(cam.tagged(activation, tags), config.roi_low, config.roi_high)
    if "seg" in weights:
        features = seen.tokens.flip(-1).float()
        if student is not None and config.label_network != "teacher":
            theirs = network_cam(student, following, config)
            activation = theirs if config.label_network == "student" else (activation + theirs) / 2
            features = following.tokens.float()
        with torch.autocast(images.device.type, enabled=False):  # float32, for its products too
            labels = pseudo_labels(images, activation, tags, features, config)
    return Goals(patch_labels, region, projected, labels)


def losses(
    teacher: Network,
    seen: Output,
    following: Output | None,
    tags: Tensor,
    goals: Goals,
    total: Counts,
    stage: objective.Stage,
    weights: Weights,
    centre: Tensor,
    config: Config,
) -> dict[str, Tensor]:
    """What a part of a batch adds to each loss of the batch, which `total` counts: scalars by name, no term without a weight."""
    share = (len(tags) / total.images).float()  # 1 where the part is the batch
    found = {"cls": share * tag_losses(seen, tags)}
    if following is not None and stage == "warm-up":
        found["cls"] = found["cls"] + share * tag_losses(following, tags)
    if "sim" in weights and following is not None:
        found["sim"] = share * dskd.flip_similarity_loss(seen.middle, following.middle, axis=config.similarity_axis)
    if "ptc" in weights:
        found["ptc"] = ptc.patch_token_contrast(seen.tokens, goals.patch_labels, total.pairs)
    tokens = seen.tokens.flip(-1)  # (B, D, h, w), back in the unmirrored frame
    if "punc" in weights:
        found["punc"] = dskd.uncertain_region_loss(
            _within(goals.region, goals.projected),
            teacher.project(_within(goals.region, tokens)),
            goals.region[goals.region][None, None],
            centre=centre if config.centre_momentum < 1 else None,
            student_temperature=config.student_temperature,
            teacher_temperature=config.teacher_temperature,
            total=total.region,
        )
    if "seg" in weights:
        found["seg"] = segmentation(teacher, tokens, goals.labels.corrected, total.labelled, config)
    return found


def _within(region: Tensor, maps: Tensor) -> Tensor:
    """The places of a region (B, h, w) in a row: (B, D, h, w) -> (1, D, 1, R). What lies outside needs no work."""
    return maps.permute(0, 2, 3, 1)[region].T[None, :, None]


def step_losses(
    teacher: Network,
    student: Network | None,
    images: Tensor,
    tags: Tensor,
    stage: objective.Stage,
    weights: Weights,
    centre: Tensor,
    config: Config,
) -> StepResult:
    """The losses of one step from tags: one forward pass of each network, and no term whose weight is missing.

    images (B, 3, S, S) in [0, 1]; tags (B, C); weights from `objective.stage_weights`; centre (K,) of Eq. 10. The
    teacher sees the mirrored images; what is compared with the unmirrored side is mirrored back.
    """
    seen, following = teacher(images.flip(-1)), follow(student, images, stage, weights, config)
    aims = goals(teacher, student, seen, following, images, tags, weights, config)
    found = losses(teacher, seen, following, tags, aims, aims.counts(tags), stage, weights, centre, config)
    return StepResult(found, aims.labels, aims.projected)


@torch.no_grad()
def monitors(result: StepResult, centre: Tensor, config: Config) -> dict[str, Tensor]:
    """What is worth watching besides the losses: scalars by name.

    `labelled` and `corrected`: shares of the pseudo label's pixels that have a label, and that the correction changed.
    `projection_entropy`: of the mean target of Eq. 10, in nats; 0 if one output wins everywhere, log K if all are alike.
    """
    values = {}
    if result.labels is not None:
        values["labelled"] = (result.labels.corrected != IGNORE).float().mean()
        values["corrected"] = (result.labels.corrected != result.labels.initial).float().mean()
    if result.projected is not None:
        target = ((result.projected.float() - centre[:, None, None]) / config.student_temperature).softmax(1)
        values["projection_entropy"] = torch.special.entr(target.mean((0, 2, 3))).sum()
    return values


def segmentation(network: Network, tokens: Tensor, labels: Tensor, total: Tensor, config: Config) -> Tensor:
    """Eq. 22 at the resolution of the labels; total from `objective.labelled`."""
    logits = F.interpolate(network.decode(tokens).float(), labels.shape[-2:], mode="bilinear", align_corners=False)
    return objective.segmentation_loss(logits, labels, balanced=config.balanced_segmentation, total=total)


def mask_losses(teacher: Network, images: Tensor, masks: Tensor, total: Tensor, config: Config) -> StepResult:
    """The upper bound: the same decoder trained on true masks (B, S, S)."""
    return StepResult({"seg": segmentation(teacher, teacher(images).tokens, masks, total, config)}, None, None)
