"""Every number of a run, in one frozen dataclass; each default is the paper's or a choice, and says which.

The dataclass holds the values for PASCAL VOC. A preset is that class with other values; where a preset changes a value
that the paper states, the value is a choice again: `source` tells.
"""

import dataclasses
import sys
import typing
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from dsgc.errors import UserError


def paper(default: Any, text: str, coco: Any = None) -> Any:
    """A field whose default the paper states; `coco` is the value that it states for COCO, where that is another."""
    stated = (default,) if coco is None else (default, coco)
    return dataclasses.field(default=default, metadata={"source": "paper", "text": text, "stated": stated})


def choice(default: Any, text: str) -> Any:
    """A field that the paper leaves open; `book/choices.md` gives the reason for its default."""
    return dataclasses.field(default=default, metadata={"source": "choice", "text": text})


@dataclass(frozen=True)
class Config:
    # the run
    data: str = choice("VOCdevkit/VOC2012", "data set in the layout of PASCAL VOC or of COCO")
    out: str = choice("runs/voc", "run folder; must not hold another run")
    train_split: str = choice("largest", "what to learn from: a list in ImageSets, `largest` for the largest there is, or COCO's name")
    val_split: str = choice("val", "what to validate on: a list, or COCO's name")
    seed: int = choice(0, "seed of weights, data order and augmentation")
    device: Literal["auto", "cpu"] = choice("auto", "auto takes a GPU where there is one")
    precision: Literal["no", "bf16"] = choice("bf16", "the networks' products in bfloat16; losses, CAM and mixture stay float32")
    workers: int = choice(2, "data loading processes of each training process; 0 loads in that process")
    accumulate: int = choice(1, "parts of a process's batch that pass one after another; memory falls, the result stays")
    recompute: bool = choice(False, "forget the encoder's activations and compute them again for the gradient; memory falls")

    # images
    crop_size: int = paper(448, "side of a training crop, pixels; a multiple of the encoder's patch")
    crop_scale: tuple[float, float] = paper((0.32, 1.0), "area of a crop as a share of the image")
    crop_ratio: tuple[float, float] = paper((3 / 4, 4 / 3), "width over height of a crop")
    random_flip: bool = choice(True, "mirror every second crop before either network sees it")

    # network
    encoder: str = choice("vit_base_patch16_224.orig_in21k_ft_in1k", "a timm vision transformer; the paper says ViT-B")
    weights: str = choice("hub", "encoder weights: `hub`, `none`, `shipped` (for the shapes encoder) or a .safetensors / .pth file")
    aux_block: int = choice(10, "m of Eq. 2, the block of the middle tokens, from 1")
    tag_pool: float = choice(0.0, "Eq. 8 on tokens: mean over this share of the highest logits; 0 for the maximum, 1 for the mean")
    decoder_channels: int = choice(512, "width of the LargeFOV decoder")
    decoder_dilation: int = choice(5, "dilation of its 3 x 3 convolutions, patches")
    projector: tuple[int, int, int] = choice((2048, 256, 1024), "projector: hidden width, bottleneck, outputs")

    # optimisation
    steps: int = paper(20_000, "training iterations", coco=80_000)
    warmup_steps: int = paper(2_000, "iterations of the warm-up stage", coco=5_000)
    batch_size: int = choice(4, "images a step, over all processes")
    lr: float = paper(6e-5, "base learning rate of the teacher")
    student_lr: float = paper(6e-6, "base learning rate of the student, during warm-up")
    head_lr_factor: float = choice(10.0, "learning rate of everything after the encoder, relative to the base")
    weight_decay: float = choice(0.01, "AdamW weight decay")
    lr_ramp_steps: int = choice(1_500, "iterations over which the learning rate rises linearly before the cosine")
    gradient_clip: float = choice(1.0, "largest gradient norm of a network; 0 for none")
    ema_momentum: float = paper(0.996, "momentum of Eq. 6 after warm-up, raised to 1 along a cosine")

    # losses (Eq. 23 and what it sums)
    supervision: Literal["tags", "masks"] = choice("tags", "masks trains the decoder on true masks instead: the upper bound")
    distillation: bool = choice(True, "DSKD; without it there is no student (the ablation's baseline)")
    lambda1: float = paper(0.2, "weight of L_PTC")
    lambda2: float = paper(0.5, "weight of L_sim")
    lambda3: float = paper(0.1, "weight of L_PUNC")
    lambda4: float = paper(0.1, "weight of L_seg")
    similarity_axis: Literal["channels", "tokens"] = choice("channels", "vectors compared in Eq. 7; channels as printed")
    similarity_after_warmup: bool = choice(False, "keep L_sim after warm-up")
    ptc_low: float = choice(0.25, "beta_l of Eq. 3")
    ptc_high: float = choice(0.7, "beta_h of Eq. 3")
    ptc_classes: bool = choice(True, "label patches by class in Eq. 3; otherwise foreground and background only, as printed")
    roi_low: float = paper(0.2, "l_th of Eq. 9")
    roi_high: float = paper(0.7, "h_th of Eq. 9")
    student_temperature: float = choice(0.04, "temperature of the target side of Eq. 10")
    teacher_temperature: float = choice(0.1, "temperature of the learning side of Eq. 10")
    centre_momentum: float = choice(0.9, "EMA of the centre taken off the target of Eq. 10; 1 for no centring")
    balanced_segmentation: bool = choice(True, "Eq. 22 as half background mean plus half foreground mean")

    # pseudo labels
    subtract_minimum: bool = choice(True, "take each CAM's minimum off before Eq. 1 divides by the maximum")
    label_network: Literal["teacher", "student", "both"] = choice("teacher", "whose CAM makes the pseudo label; both is their mean")
    label_low: float = choice(0.25, "pseudo label: background below this confidence")
    label_high: float = choice(0.7, "pseudo label: the strongest class above this confidence, 255 between")
    label_stride: int = choice(2, "pixels of the image to one pixel of the pseudo label")
    refine_dilations: tuple[int, ...] = choice((1, 2, 4, 8, 12, 24), "pixel-adaptive refinement: neighbour distances")
    refine_iterations: int = choice(10, "pixel-adaptive refinement: averagings; 0 for none")

    # Gaussian correction
    correction: bool = choice(True, "GC; without it the initial pseudo label is used (the ablation's baseline)")
    theta_high: float = paper(0.85, "theta_h: noise probability above which a pixel is in R_h")
    theta_low: float = paper(0.25, "theta_l: noise probability above which a pixel is in R_u")
    tau: float = choice(0.5, "cosine similarity below which two neighbours differ")
    mixture_pixels: Literal["all", "positive", "foreground"] = choice(
        "foreground", "what the mixture is fitted to: all pixels (as printed), those with a positive CAM, or those labelled foreground"
    )
    mixture_grid: Literal["patch", "pixel"] = choice("pixel", "grid on which mixture and rules work; pixels are the label's")

    # evaluation and record
    background_threshold: float = choice(0.45, "CAM as a segmentation: background where no class is stronger")
    eval_every: int = choice(2_000, "steps between evaluations; 0 for the end only")
    eval_images: int = choice(0, "images of an evaluation during training; 0 for all")
    eval_batch: int = choice(1, "images of one size evaluated at once")
    log_every: int = choice(20, "steps between lines of the log")
    checkpoint_every: int = choice(2_000, "steps between checkpoints; one is always written at the end")
    keep_checkpoints: int = choice(2, "newest checkpoints that are kept")
    pictures: int = choice(6, "validation images drawn into the run folder")

    def __post_init__(self):
        for name, hint in _hints().items():
            _check_type(name, getattr(self, name), hint)
        for low, high in (("ptc_low", "ptc_high"), ("roi_low", "roi_high"), ("label_low", "label_high"), ("theta_low", "theta_high")):
            if not 0 <= getattr(self, low) <= getattr(self, high) <= 1:
                raise UserError(
                    f"{low} {getattr(self, low)} and {high} {getattr(self, high)}: must satisfy 0 <= {low} <= {high} <= 1"
                )
        for name in POSITIVE:
            value = getattr(self, name)
            if not min(value if isinstance(value, tuple) else (value,)) > 0:
                raise UserError(f"{name} {value}: must be greater than 0")
        for name in NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise UserError(f"{name} {getattr(self, name)}: must not be negative")
        for name in ("ema_momentum", "centre_momentum", "background_threshold", "tag_pool"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} {getattr(self, name)}: must be in [0, 1]")
        if self.workers > 1024:  # a stranger's checkpoint says how many, too
            raise UserError(f"workers {self.workers}: must be at most 1024 loading processes")
        if self.seed >= 2**32:
            raise UserError(f"seed {self.seed}: must be less than 2**32")
        if not -1 <= self.tau <= 1:
            raise UserError(f"tau {self.tau}: a cosine, must be in [-1, 1]")
        if self.warmup_steps > self.steps:
            raise UserError(f"warmup_steps {self.warmup_steps}: longer than the run, which has steps {self.steps}")
        if self.label_network != "teacher" and not self.distillation:
            raise UserError(f"label_network {self.label_network}: must be teacher where distillation is off; there is no student")
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise UserError(f"crop_scale {self.crop_scale}: two shares of the image's area, 0 < smallest <= largest <= 1")
        if not 0 < self.crop_ratio[0] <= self.crop_ratio[1]:
            raise UserError(f"crop_ratio {self.crop_ratio}: two ratios, 0 < smallest <= largest")


LARGEST = 1e15  # of a number that is not whole
POSITIVE = (
    "crop_size", "steps", "batch_size", "lr", "student_lr", "head_lr_factor", "student_temperature",
    "teacher_temperature", "aux_block", "decoder_channels", "decoder_dilation", "label_stride", "eval_batch", "log_every",
    "checkpoint_every", "keep_checkpoints", "accumulate", "refine_dilations", "projector",
)  # fmt: skip
NOT_NEGATIVE = (
    "workers", "warmup_steps", "weight_decay", "lr_ramp_steps", "gradient_clip", "lambda1", "lambda2", "lambda3", "lambda4",
    "refine_iterations", "eval_every", "eval_images", "pictures", "seed",
)  # fmt: skip


@cache
def _hints() -> dict[str, Any]:
    return typing.get_type_hints(Config)


def _check_type(name: str, value: Any, hint: Any) -> None:
    """Refuse a value of another type than the field's; an int serves as a float."""
    if typing.get_origin(hint) is Literal:
        if value not in typing.get_args(hint):
            raise UserError(f"{name} {value!r}: must be one of {', '.join(typing.get_args(hint))}")
    elif typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)
        if not isinstance(value, tuple) or (inner[-1] is not Ellipsis and len(value) != len(inner)) or not value:
            raise UserError(f"{name} {value!r}: must be a tuple like {getattr(Config, name)}")
        for item in value:
            _check_type(name, item, inner[0])
    elif hint is float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
            raise UserError(f"{name} {value!r:.40}: must be a finite number")
        if abs(value) > LARGEST:
            raise UserError(f"{name} {value!r}: must be at most {LARGEST:.0e}, or products of it leave the range of float32")
    elif not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise UserError(f"{name} {value!r}: must be of type {hint.__name__}")
    elif hint is int and abs(value) >= 2**63:
        raise UserError(f"{name} {value!r:.40}: must be less than 2**63")


PRESETS: dict[str, Config] = {
    "voc": Config(),
    "coco": Config(
        data="coco",
        out="runs/coco",
        train_split="train2014",
        val_split="val2014",
        steps=80_000,
        warmup_steps=5_000,
        batch_size=8,
        ptc_high=0.65,
        label_high=0.65,
        eval_every=10_000,
        eval_images=2_000,
        checkpoint_every=5_000,
    ),
    "shapes": Config(
        data="data/shapes",
        out="runs/shapes",
        train_split="train",
        crop_size=96,
        encoder="dsgc_vit_nano_patch8",
        weights="shipped",
        aux_block=3,
        decoder_channels=128,
        decoder_dilation=2,
        projector=(256, 64, 256),
        steps=300,
        warmup_steps=100,
        batch_size=16,
        lr=1e-3,
        student_lr=1e-4,
        head_lr_factor=2.0,
        lr_ramp_steps=20,
        ema_momentum=0.98,
        ptc_low=0.2,
        ptc_high=0.4,
        label_high=0.5,
        refine_dilations=(1, 2, 4),
        background_threshold=0.4,
        eval_every=100,
        eval_images=64,
        eval_batch=32,
        log_every=5,
        checkpoint_every=1_000,
        precision="no",
    ),
}


def preset(name: str) -> Config:
    """The configuration of a preset. Raises `UserError` for a name that is none."""
    if name not in PRESETS:
        raise UserError(f"preset {name!r}: unknown; there are {', '.join(PRESETS)}")
    return PRESETS[name]


def source(config: Config, name: str) -> Literal["paper", "choice"]:
    """Where the value of a field comes from: "paper" if the paper states it and it has not been changed."""
    field = next(f for f in dataclasses.fields(Config) if f.name == name)
    return "paper" if getattr(config, name) in field.metadata.get("stated", ()) else "choice"
