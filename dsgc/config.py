"""What every run has, whatever its method: data, images, network, optimiser, evaluation and record, each with its source.

The dataclass holds the values for PASCAL VOC; `PRESETS` says which of them other presets change. What one method has stands
with that method (`dsgc.methods`), and `Config.method` is such a method with its own numbers.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from dsgc.data.own import Source as Pictures
from dsgc.errors import UserError
from dsgc.settings import Settings, Source, choice, paper


@dataclass(frozen=True)
class Config(Settings):
    method: Settings  # a `dsgc.methods.Method`

    # the run
    data: str = choice("VOCdevkit/VOC2012", "data set in the layout of PASCAL VOC or of COCO, or a folder of pictures of one's own")
    tags: str = choice("", "tag file of one's own pictures, .csv or .json; without it each class is a folder of them")
    masks: str = choice("", "folder with a PNG of labels for each of one's own pictures that validate; without it there is no mIoU")
    out: str = choice("runs/voc", "run folder; must not hold another run")
    train_split: str = choice("largest", "what to learn from: a list in ImageSets, `largest` for the largest there is, or COCO's name")
    val_split: str = choice("val", "what to validate on: a list, COCO's name, or a folder or a list's file of one's own pictures")
    val_share: float = choice(0.1, "share of one's own pictures, of each class, that validates where no list or folder does")
    seed: int = choice(0, "seed of weights, data order and augmentation")
    device: Literal["auto", "cpu"] = choice("auto", "auto takes a GPU where there is one")
    precision: Literal["no", "bf16"] = choice("bf16", "the networks' products in bfloat16; losses, CAM and mixture stay float32")
    workers: int = choice(2, "data loading processes of each training process; 0 loads in that process")
    accumulate: int = choice(1, "parts of a process's batch that pass one after another; memory falls, the result stays")
    recompute: bool = choice(False, "forget the encoder's activations and compute them again for the gradient; memory falls")
    compile: bool = choice(False, "compile the encoder's blocks (torch.compile): minutes first, then faster steps on a GPU")

    # images
    crop_size: int = paper(448, "side of a training crop, pixels; a multiple of the encoder's patch")
    crop_scale: tuple[float, float] = paper((0.32, 1.0), "area of a crop as a share of the image")
    crop_ratio: tuple[float, float] = paper((3 / 4, 4 / 3), "width over height of a crop")
    random_flip: bool = choice(True, "mirror every second crop before a network sees it")

    # network
    encoder: str = choice("vit_base_patch16_224.orig_in21k_ft_in1k", "a timm ViT with a class token (DINOv3, EVA-02, ...); paper: ViT-B")
    weights: str = choice("hub", "encoder weights: `hub`, `none`, `shipped` (for the shapes encoder) or a .safetensors / .pth file")
    frozen_blocks: int = choice(0, "first blocks of the encoder that do not learn, nor what lies before them; all blocks: heads only")
    frozen_views: int = choice(0, "fixed crops of each picture, whose tokens after the frozen blocks are kept; 0: always new crops")
    aux_block: int = choice(10, "m of Eq. 2, the block of the middle tokens, from 1")
    tag_pool: float = choice(0.0, "Eq. 8 on tokens: mean over this share of the highest; 0 for the maximum, 1 for the mean")
    tag_pool_of: Literal["logits", "tokens"] = choice("tokens", "the highest of each channel of the tokens (ToCo), or of a class's logits")
    decoder_channels: int = choice(512, "width of the LargeFOV decoder")
    decoder_dilation: int = choice(5, "dilation of its 3 x 3 convolutions, patches")
    projector: tuple[int, int, int] = choice((2048, 256, 1024), "projector: hidden width, bottleneck, outputs")
    projector_gain: bool = choice(False, "learn the gain of the projector's weight-normalised layer; else it is 1")

    # optimisation
    steps: int = paper(20_000, "training iterations", coco=80_000)
    batch_size: int = choice(4, "images a step, over all processes")
    lr: float = paper(6e-5, "base learning rate")
    head_lr_factor: float = choice(10.0, "learning rate of everything after the encoder, relative to the base")
    weight_decay: float = choice(0.01, "AdamW weight decay")
    lr_ramp_steps: int = choice(1_500, "iterations over which the learning rate rises linearly before the cosine")
    gradient_clip: float = choice(1.0, "largest gradient norm of a network; 0 for none")

    # evaluation and record
    background_threshold: float = choice(0.45, "CAM as a segmentation: background where no class is stronger")
    eval_every: int = choice(2_000, "steps between evaluations; 0 for the end only")
    eval_images: int = choice(0, "images of an evaluation during training; 0 for all")
    eval_batch: int = choice(1, "images of one size evaluated at once")
    log_every: int = choice(20, "steps between lines of the log")
    checkpoint_every: int = choice(2_000, "steps between checkpoints; one is always written at the end")
    keep_checkpoints: int = choice(2, "newest checkpoints that are kept")
    pictures: int = choice(6, "validation images drawn into the run folder")

    POSITIVE: ClassVar = (
        "crop_size", "steps", "batch_size", "lr", "head_lr_factor", "aux_block", "decoder_channels", "decoder_dilation",
        "eval_batch", "log_every", "checkpoint_every", "keep_checkpoints", "accumulate", "projector",
    )  # fmt: skip
    NOT_NEGATIVE: ClassVar = (
        "workers", "frozen_blocks", "frozen_views", "weight_decay", "lr_ramp_steps", "gradient_clip", "eval_every", "eval_images",
        "pictures", "seed",
    )  # fmt: skip
    SHARES: ClassVar = ("background_threshold", "tag_pool", "val_share")
    AREAS: ClassVar = ("crop_scale",)
    OWN: ClassVar = ("tags", "masks", "val_share")  # of pictures without a layout alone

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.workers > 1024:  # a stranger's checkpoint says how many, too
            raise UserError(f"workers {self.workers}: must be at most 1024 loading processes")
        if self.seed >= 2**32:
            raise UserError(f"seed {self.seed}: must be less than 2**32")
        if not 0 < self.crop_ratio[0] <= self.crop_ratio[1]:
            raise UserError(f"crop_ratio {self.crop_ratio}: two ratios, 0 < smallest <= largest")
        if self.frozen_views and not self.frozen_blocks:
            raise UserError(f"frozen_views {self.frozen_views}: no block is frozen, so nothing can be kept; give frozen_blocks, or 0")
        self.method.check(self.steps)

    def changed(self, **values: Any) -> Self:
        """With other values of some fields, the method's own among them. Raises `UserError` for a name that is neither's."""
        method = values.pop("method", self.method)
        theirs = {name: value for name, value in values.items() if name in method.names()}
        own = {name: value for name, value in values.items() if name in self.names()}
        if unknown := values.keys() - own.keys() - theirs.keys():
            raise UserError(f"{min(unknown)}: no setting of a run, nor of the method {method.name}")
        return self.replaced(method=method.replaced(**theirs) if theirs else method, **own)

    def source_of(self, name: str) -> Source:
        """Where the value of a field comes from, of the method's fields too."""
        return self.method.source_of(name) if name in self.method.names() else super().source_of(name)

    @property
    def pictures_of(self) -> Pictures:
        """Where one's own pictures have tags and masks from, and which validate."""
        return Pictures(self.tags, self.masks, self.val_share, self.train_split, self.val_split)

    def flat(self) -> dict[str, Any]:
        """Every value by name: the method by its name, its numbers beside the others."""
        run = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return run | {"method": self.method.name} | dataclasses.asdict(self.method)


PRESETS: dict[str, dict[str, Any]] = {
    "voc": {},
    "coco": {
        "data": "coco",
        "out": "runs/coco",
        "train_split": "train2014",
        "val_split": "val2014",
        "steps": 80_000,
        "batch_size": 8,
        "eval_every": 10_000,
        "eval_images": 2_000,
        "checkpoint_every": 5_000,
    },
    "voc6": {  # VOC's pictures in the noisy regime of few steps, small crops and an encoder of which three blocks learn
        "data": "VOCdevkit/VOC2012",
        "out": "runs/voc6",
        "train_split": "voc6_train",
        "val_split": "voc6_val",
        "crop_size": 168,
        "encoder": "vit_small_patch14_dinov2",
        "frozen_blocks": 9,
        "decoder_channels": 256,
        "decoder_dilation": 2,
        "projector": (512, 128, 512),
        "steps": 400,
        "batch_size": 16,
        "lr": 1e-4,
        "lr_ramp_steps": 20,
        "background_threshold": 0.4,
        "eval_every": 200,
        "eval_images": 64,
        "eval_batch": 8,
        "log_every": 10,
        "checkpoint_every": 1_000,
        "precision": "no",
    },
    "shapes": {
        "data": "data/shapes",
        "out": "runs/shapes",
        "train_split": "train",
        "crop_size": 96,
        "encoder": "dsgc_vit_nano_patch8",
        "weights": "shipped",
        "aux_block": 3,
        "tag_pool_of": "logits",
        "decoder_channels": 128,
        "decoder_dilation": 2,
        "projector": (256, 64, 256),
        "steps": 200,
        "batch_size": 16,
        "lr": 2e-4,
        "lr_ramp_steps": 20,
        "background_threshold": 0.4,
        "eval_every": 100,
        "eval_images": 64,
        "eval_batch": 32,
        "log_every": 5,
        "checkpoint_every": 1_000,
        "precision": "no",
    },
}
