"""The paper's method, Fig. 1 in code: teacher and student (DSKD), and a pseudo label that a Gaussian mixture corrects (GC)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dsgc import cam, dskd, objective
from dsgc.cam import IGNORE
from dsgc.errors import UserError
from dsgc.methods import labels, register
from dsgc.methods.base import Base, contrast, tag_losses
from dsgc.methods.contract import Examined, Mean, Networks, Part, Pseudo, Stage, State, Views
from dsgc.methods.gaussian import GaussianCorrection
from dsgc.methods.labels import nearest
from dsgc.network.vit import Network, Output, fitted
from dsgc.settings import choice, departs, paper


class Seen(NamedTuple):
    """What a step's passes gave."""

    teacher: Output  # of the mirrored images
    student: Output | None  # of the images as they are, where it learns


class Goals(NamedTuple):
    """What the losses are measured against. Nothing in it takes a gradient."""

    patch_labels: Tensor | None  # (B, h, w) int64, of Eq. 3 in the mirrored frame; for L_PTC
    student: Output | None  # of the images as they are, where it is needed and does not learn
    region: Tensor | None  # (B, h, w) bool, of Eq. 9; for L_PUNC
    projected: Tensor | None  # (B, K, h, w) the student's projections; for L_PUNC
    labels: Examined | None  # for L_seg


@register
@dataclass(frozen=True)
class Dsgc(GaussianCorrection, Base):
    """The baseline, a student that the teacher pulls along, and a correction of the label that the teacher learns."""

    name: ClassVar = "dsgc"
    corrects: ClassVar = True
    scores: ClassVar[tuple[str, ...]] = ("seg", "cam", "pseudo_initial", "pseudo")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "coco": Base.presets["coco"],
        "voc6": {**Base.presets["voc6"], "student_lr": 1e-5, "ema_momentum": 0.98},
        "shapes": {**Base.presets["shapes"], "student_lr": 2e-5, "ema_momentum": 0.98},
    }

    later: ClassVar[tuple[str, ...]] = (  # in the warm-up the student learns by itself, nothing is exchanged and nothing corrected
        *Base.later, *GaussianCorrection.names(),
        "ema_momentum", "ema_weighs", "lambda3", "similarity_after_warmup", "roi_low", "roi_high", "punc_tokens", "punc_mean",
        "student_temperature", "teacher_temperature", "centre_momentum", "label_network",
        "correction", "correction_from", "correction_until",
    )  # fmt: skip

    # dual-stage knowledge distillation
    distillation: bool = choice(True, "DSKD; without it there is no student")
    student_lr: float = paper(6e-6, "base learning rate of the student, during warm-up")
    ema_momentum: float = paper(0.996, "momentum of Eq. 6 after warm-up, raised to 1 along a cosine")
    lambda2: float = paper(0.5, "weight of L_sim")
    lambda3: float = paper(0.1, "weight of L_PUNC")
    ema_weighs: Literal["student", "teacher"] = choice("student", "whose weights the momentum multiplies in Eq. 6")
    similarity_axis: Literal["channels", "tokens"] = paper("channels", "vectors compared in Eq. 7")
    similarity_after_warmup: bool = choice(False, "keep L_sim after warm-up")
    roi_low: float = paper(0.2, "l_th of Eq. 9")
    roi_high: float = paper(0.7, "h_th of Eq. 9")
    punc_tokens: Literal["last", "middle"] = choice("last", "tokens that Eq. 10 projects")
    punc_mean: Literal["image", "batch"] = paper("image", "Eq. 10 as a mean of each image's region, or of all regions as one")
    student_temperature: float = departs(0.04, "temperature of the target side", stated=1.0, where="Eq. 10")
    teacher_temperature: float = departs(0.1, "temperature of the learning side", stated=1.0, where="Eq. 10")
    centre_momentum: float = departs(0.9, "EMA of the centre taken off the target, 1 for no centring", stated=1.0, where="Eq. 10")
    label_network: Literal["teacher", "student", "both"] = choice("teacher", "whose CAM makes the pseudo label; both is their mean")

    # Gaussian correction: `GaussianCorrection` has its numbers
    correction: bool = choice(True, "GC; without it the initial pseudo label is used")
    correction_from: float = choice(0.0, "share of the run after which labels are corrected")
    correction_until: float = choice(1.0, "share of the run up to which labels are corrected")

    POSITIVE: ClassVar = (
        *Base.POSITIVE, *GaussianCorrection.POSITIVE, "student_lr", "student_temperature", "teacher_temperature",
    )  # fmt: skip
    NOT_NEGATIVE: ClassVar = (*Base.NOT_NEGATIVE, *GaussianCorrection.NOT_NEGATIVE, "lambda2", "lambda3")
    SHARES: ClassVar = ("ema_momentum", "centre_momentum")
    ORDERED: ClassVar = (
        *Base.ORDERED, *GaussianCorrection.ORDERED, ("roi_low", "roi_high"), ("correction_from", "correction_until"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.label_network != "teacher" and not self.distillation:
            raise UserError(f"label_network {self.label_network}: must be teacher where distillation is off; there is no student")

    @property
    def networks(self) -> tuple[str, ...]:
        return ("teacher", "student") if self.distillation else ("teacher",)

    def rates(self, lr: float) -> dict[str, float]:
        return {"teacher": lr, "student": self.student_lr}

    def stage(self, step: int, steps: int) -> Stage:
        name = objective.stage_at(step, self.warmup_steps)
        lambda2, lambda3 = (self.lambda2, self.lambda3) if self.distillation else (0.0, 0.0)
        weights = objective.stage_weights(
            name, self.lambda1, lambda2, lambda3, self.lambda4, similarity_after_warmup=self.similarity_after_warmup
        )
        return Stage(name, weights, self.networks if name == "warm-up" else ("teacher",), progress=step / steps)

    def memory(self, networks: Networks) -> dict[str, Tensor]:
        """The centre (K,) of Eq. 10."""
        outputs = networks["teacher"].projector.direction
        return {"centre": torch.zeros(len(outputs), device=outputs.device)} if self.distillation else {}

    # a step

    def passes(self, networks: Networks, part: Part, stage: Stage) -> Seen:
        """The teacher sees the mirrored images; what is compared with the unmirrored side is mirrored back."""
        seen = networks["teacher"](part.images.flip(-1))
        return Seen(seen, networks["student"](part.images) if "student" in stage.learning else None)

    def goals(self, networks: Networks, seen: Seen, part: Part, stage: Stage) -> Goals:
        teacher, weights = networks["teacher"], stage.weights
        patch_labels = region = projected = made = following = None
        if seen.student is None and self.distillation and ({"sim", "punc"} & weights.keys() or self.label_network != "teacher"):
            following = networks["student"](part.images)
        if "ptc" in weights:
            patch_labels = self.patch_labels(teacher, seen.teacher, part.tags)
        if {"punc", "seg"} & weights.keys():
            maps = self.cam(teacher, seen.teacher).flip(-1)  # back in the unmirrored frame
        if "punc" in weights:
            projected = networks["student"].project(self.exchanged(following))
            region = dskd.uncertain_region(cam.tagged(maps, part.tags), self.roi_low, self.roi_high)
        if "seg" in weights:
            maps, features = self.over_scales(teacher, maps, part.images), self.features(teacher, seen.teacher).flip(-1)
            if self.label_network != "teacher":
                student = networks["student"]
                theirs = self.over_scales(student, self.cam(student, following), part.images)
                maps = theirs if self.label_network == "student" else (maps + theirs) / 2
                features = self.features(student, following)
            correct = self.correction_from <= stage.progress <= self.correction_until
            made = self.pseudo_labels(part.images, maps, part.tags, features, correct=correct)
        return Goals(patch_labels, following, region, projected, made)

    def losses(
        self, networks: Networks, seen: Seen, goals: Goals, part: Part, stage: Stage, memory: State
    ) -> dict[str, Mean]:
        teacher, images = networks["teacher"], len(part.tags)
        following = seen.student or goals.student
        tags = tag_losses(seen.teacher, part.tags)
        found = {"cls": Mean(tags if seen.student is None else tags + tag_losses(seen.student, part.tags), images)}
        if "sim" in stage.weights:
            value = dskd.flip_similarity_loss(seen.teacher.middle, following.middle, axis=self.similarity_axis)
            found["sim"] = Mean(value, images)
        if "ptc" in stage.weights:
            found["ptc"] = contrast(seen.teacher.tokens, goals.patch_labels)
        if "punc" in stage.weights:
            found["punc"] = self.exchange(teacher, self.exchanged(seen.teacher).flip(-1), goals, memory)
        if "seg" in stage.weights:
            tokens = seen.teacher.tokens.flip(-1)  # (B, D, h, w), back in the unmirrored frame
            found["seg"] = self.segmentation(teacher, tokens, goals.labels.corrected)
        return found

    def watched(self, goals: Goals, memory: State) -> dict[str, Tensor]:
        """For the log, and for the centre of Eq. 10.

        `labelled` and `corrected`: shares of the pseudo label's pixels that have a label, and that the correction changed.
        `projection_entropy`: of the mean target of Eq. 10, in nats; 0 if one output wins everywhere, log K if all are alike.
        `projected`: (K,) mean of the student's projections.
        """
        found = {}
        if goals.labels is not None:
            found["labelled"] = (goals.labels.corrected != IGNORE).float().mean()
            found["corrected"] = (goals.labels.corrected != goals.labels.initial).float().mean()
        if goals.projected is not None:
            projected = goals.projected.float()
            target = ((projected - memory["centre"][:, None, None]) / self.student_temperature).softmax(1)
            found["projection_entropy"] = torch.special.entr(target.mean((0, 2, 3))).sum()
            found["projected"] = projected.mean((0, 2, 3))
        return found

    def follow(
        self, networks: Networks, watched: Mapping[str, Tensor], memory: State, step: int, steps: int, *, sound: bool
    ) -> dict[str, float]:
        """After the warm-up: Eq. 6, with a momentum that rises to 1 at the last step, and the centre of Eq. 10.

        The momentum in the log is the weight of the student's own past.
        """
        if not self.distillation or step < self.warmup_steps:
            return {"momentum": 0.0}
        progress = (step - self.warmup_steps) / max(steps - self.warmup_steps, 1)
        momentum = dskd.momentum_at(progress, self.ema_momentum)
        if self.ema_weighs == "teacher":
            momentum = 1 - momentum
        if sound:
            dskd.ema_update(networks["student"], networks["teacher"], momentum)
            if "projected" in watched and self.centre_momentum < 1:
                dskd.centre_update(memory["centre"], watched["projected"], self.centre_momentum)
        return {"momentum": momentum}

    # its parts

    def exchanged(self, output: Output) -> Tensor:
        """The tokens (B, D, h, w) that Eq. 10 projects."""
        return output.tokens if self.punc_tokens == "last" else output.middle

    def exchange(self, teacher: Network, tokens: Tensor, goals: Goals, memory: State) -> Mean:
        """Eq. 10 of the teacher's tokens (B, D, h, w); what lies outside the region needs no work."""
        losses = dskd.exchange_losses(
            _within(goals.region, goals.projected),
            teacher.project(_within(goals.region, tokens)),
            centre=memory["centre"] if self.centre_momentum < 1 else None,
            student_temperature=self.student_temperature,
            teacher_temperature=self.teacher_temperature,
        ).flatten()  # (R,)
        if self.punc_mean == "image":
            losses = dskd.region_means(losses, goals.region)  # (I,) of the images that have a region
        return Mean(losses.sum() / max(len(losses), 1), len(losses))

    def features(self, network: Network, output: Output) -> Tensor:
        """F of Eq. 18: (B, D, h, w), float32."""
        if self.correction_features == "projected":
            return network.project(output.tokens).float()
        return (output.tokens if self.correction_features == "last" else output.middle).float()

    @torch.no_grad()
    def pseudo_labels(self, images: Tensor, maps: Tensor, tags: Tensor, features: Tensor, *, correct: bool = True) -> Examined:
        """CAM -> refinement -> initial label -> mixture -> corrected label, the last two where the method corrects and `correct` is true.

        images (B, 3, H, W); maps (B, C, h, w) in [0, 1]; tags (B, C); features (B, D, h, w) of Eq. 18.
        """
        initial = self.initial_label(images, maps, tags)
        confidence, first = initial.confidence, initial.labels
        if not (self.correction and correct):
            return Examined(confidence, first, torch.zeros_like(confidence), first, torch.zeros_like(first))
        with torch.autocast(images.device.type, enabled=False):  # float32, for its products too
            noise, rule, corrected = self.corrected(initial, maps, tags, features)
        return Examined(confidence, first, noise, corrected, nearest(rule, first.shape[-2:]))

    # evaluation

    def views(self, network: Network, images: Tensor, tags: Tensor, background: float) -> Views:
        size = images.shape[-2:]
        scaled = fitted(images, network.patch_size)
        output = network(scaled)
        maps = self.cam(network, output)
        made = self.examined(network, output, scaled, tags)
        full = F.interpolate(cam.tagged(maps, tags), size, mode="bilinear", align_corners=False)
        region = dskd.uncertain_region(cam.tagged(maps, tags), self.roi_low, self.roi_high)
        before, after = (labels.enlarged(found, size).long() for found in (made.initial, made.corrected))
        head = labels.segmented(network, output.tokens, size)
        scored = {"seg": head, "cam": labels.by_threshold(full, background), "pseudo_initial": before, "pseudo": after}
        drawn = {"cam": full.amax(1), "region": labels.enlarged(region, size), "noise": labels.enlarged(made.noise, size)}
        drawn |= {"initial": before, "corrected": after, "prediction": head}
        return Views(scored, drawn, self.evidence(network, output))

    def made(self, network: Network, output: Output, images: Tensor, maps: Tensor, tags: Tensor) -> Pseudo:
        label = self.pseudo_labels(images, maps, tags, self.features(network, output))
        return Pseudo(maps, label.confidence, label.initial if self.correction else None, label.corrected)

    def examined(self, network: Network, output: Output, images: Tensor, tags: Tensor) -> Examined:
        maps = self.over_scales(network, self.cam(network, output), images)
        return self.pseudo_labels(images, maps, tags, self.features(network, output))


def _within(region: Tensor, maps: Tensor) -> Tensor:
    """The places of a region (B, h, w) in a row: (B, D, h, w) -> (1, D, 1, R)."""
    return maps.permute(0, 2, 3, 1)[region].T[None, :, None]
