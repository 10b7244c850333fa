"""What each command takes, as dataclasses whose fields become options; the text below a field is its help."""

import dataclasses
import typing
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from dsgc.config import Config
from dsgc.data import label_files, shapes, shapes_coco
from dsgc.data.scenes import DIALS, Dials
from dsgc.scoring import protocols
from dsgc.settings import Settings

arg = tyro.conf.arg
Run = Annotated[Positional[Path], arg(metavar="RUN")]
Out = Annotated[Positional[Path], arg(metavar="OUT")]
Text = Annotated[str | None, arg(metavar="STR", help_behavior_hint="")]  # what may be left out has no default to be told
Whole = Annotated[int | None, arg(metavar="INT", help_behavior_hint="")]
Wholes = Annotated[tuple[int, ...] | None, arg(metavar="INT ...", help_behavior_hint="")]
Factors = Annotated[tuple[float, ...] | None, arg(metavar="FLOAT ...", help_behavior_hint="")]
Named = Annotated[protocols.Name | None, arg(metavar="NAME", help_behavior_hint="")]

ABOUT = {  # each preset in a line
    "shapes": "the drawn pictures and the small encoder that come with the package: minutes on two CPU cores, no GPU",
    "voc6": "six classes of PASCAL VOC 2012 in small",
    "voc": "PASCAL VOC 2012 in the paper's setting, and what pictures of one's own are trained with: a GPU",
    "coco": "MS COCO 2014 in the paper's setting: a GPU",
}


def options_of(config: Config) -> type:
    """A dataclass with all fields of a run and of its method, whose defaults are `config`'s and whose help says where each is from."""
    fields = []
    for owner in (config, config.method):
        for field in dataclasses.fields(owner):
            if field.name == "method":
                continue
            hint = Annotated[field.type, tyro.conf.FlagConversionOff, arg(help=_help_of(owner, field))]
            fields.append((field.name, hint, getattr(owner, field.name)))
    return dataclasses.make_dataclass("Options", fields, frozen=True)


def _help_of(owner: Settings, field: dataclasses.Field) -> str:
    """The mark of a field's value, what the field is, and where the value departs from the paper's, that."""
    mark, about = owner.source_of(field.name), field.metadata
    text = f"[{mark}] {about['text']}"
    if mark == "departs" and about["source"] == "paper":  # a field that always departs has it in its text
        text += f"; the paper has {', for COCO '.join(map(str, about['stated']))}"
    return text


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """Score a run's newest checkpoint on a split that has masks; without masks, how well it tells the tags."""

    run: Run
    """run folder, one of its checkpoints, a file that `export` wrote, or weights that come with the package: `shapes` or `shapes-dsgc`"""
    data: Text = None
    """data set in the layout of VOC or COCO, or a folder of pictures with --tags; the run's own if not given"""
    split: Text = None
    """list of ids, `largest` for the largest training list, or COCO's name; the run's validation split if not given; `all` for all of
    one's own pictures"""
    tags: Text = None
    """tag file of pictures without a layout"""
    masks: Text = None
    """folder with a PNG of labels for each of them; then there is mIoU"""
    out: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None
    """JSON file for the scores; printed if not given"""
    network: str = ""
    """the one network to score, named before its score is known; all that the run has if not given"""
    protocol: Named = None
    """how others score segmentation and CAM: ours, single, training[-coco] or published[-coco][-no-crf]; without
    --scales, --mirror and --crf, which make a protocol of their own"""
    scales: Factors = None
    """sizes at which an image is looked at, relative to its own; then the segmentation alone is scored"""
    mirror: bool = False
    """look at the mirror image too; then the segmentation alone is scored"""
    crf: bool = False
    """dense CRF afterwards; then the segmentation alone is scored; needs pydensecrf2"""
    workers: Whole = None
    """data loading processes; as many as the run had if not given"""
    eval_batch: Whole = None
    """images of one size that pass together, without protocol, scales, mirror and CRF; as many as in the run if not given"""


@dataclasses.dataclass(frozen=True)
class PredictOptions:
    """Segment images with a run's newest checkpoint and write PNGs in VOC's palette, of a VOC list in the test server's folders."""

    run: Run
    """run folder, one of its checkpoints, a file that `export` wrote, or weights that come with the package: `shapes` or `shapes-dsgc`"""
    out: Out
    """folder to write to; of weights that come with the package, and without --data, the folder of the pictures"""
    data: Text = None
    """data set in the layout of VOC or COCO, or a folder of pictures; the run's own if not given"""
    split: str = "test"
    """list of ids, `largest` for the largest training list, or folder of images; nothing else is needed of them"""
    network: str = ""
    """whose segmentation; that of the network that is reported if not given"""
    protocol: Named = None
    """how others look at an image: ours, single, training[-coco] or published[-coco][-no-crf]; without
    --scales, --mirror and --crf, which make a protocol of their own"""
    scales: Factors = None
    """sizes at which an image is looked at, relative to its own, 1 if not given; the probabilities of all looks are averaged"""
    mirror: bool = False
    """look at the mirror image too"""
    crf: bool = False
    """dense CRF afterwards, in processes of its own; needs pydensecrf2"""
    workers: Whole = None
    """data loading processes; as many as the run had if not given"""


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """Write the network of a run's newest checkpoint into one file with its configuration and its classes: safetensors, nothing that is
    run when it is read. `predict`, `evaluate`, `train --weights` and `dsgc.load` take it."""

    run: Run
    """run folder, one of its checkpoints, a file that `export` wrote, or weights that come with the package: `shapes` or `shapes-dsgc`"""
    file: Annotated[Positional[Path], arg(metavar="FILE")]
    """a new .safetensors file"""
    network: str = ""
    """which network; the one that is reported if not given"""
    half: bool = False
    """store float16, half the size; labels at the edge of two classes may change"""


@dataclasses.dataclass(frozen=True)
class LabelsOptions:
    """Write CAMs, pseudo labels and confidence of pictures with tags, at their own sizes, for a second network to be trained on."""

    run: Run
    """run folder, one of its checkpoints, a file that `export` wrote, or weights that come with the package: `shapes` or `shapes-dsgc`"""
    out: Out
    """folder to write to"""
    data: Text = None
    """data set in the layout of VOC or COCO, or a folder of pictures with --tags; the run's own if not given"""
    split: Text = None
    """list of ids, `largest` for the largest training list, or COCO's name; what the run learnt from if not given, all of other pictures
    without a layout"""
    tags: Text = None
    """tag file of pictures without a layout"""
    format: label_files.Format = "voc"
    """voc: palette PNGs in SegmentationClass and a list of ids; coco: PNGs and instances in JSON, one for each class of a picture, with
    run-length codes; plain: PNGs and classes.txt"""
    network: str = ""
    """whose labels; those of the network that is reported if not given"""
    scales: Factors = None
    """sizes at which the CAM looks at an image, relative to its own; as the run makes its labels if not given"""
    mirror: bool = False
    """look at the mirror image too, at scale 1 if none is given"""
    cams: Annotated[bool, arg(help_behavior_hint="")] = True
    """leave out the CAMs, which take most of the room"""
    eval_batch: int = 1
    """images of one size that pass together; more are faster on a GPU, and wait in memory until there are as many of their size"""
    workers: Whole = None
    """data loading processes; as many as the run had if not given"""


@dataclasses.dataclass(frozen=True)
class CheckOptions:
    """Look a data set over: counts, sizes, doubles, hints, and all that training would refuse. Exit code 0 if that is nothing, else 2."""

    data: Annotated[Positional[Path], arg(metavar="DATA")]
    """data set in the layout of VOC or COCO, or a folder of pictures"""
    tags: str = ""
    """tag file of pictures without a layout, .csv or .json; without it each class is a folder of them"""
    masks: str = ""
    """folder with a PNG of labels for each of these that validates"""
    train_split: str = ""
    """what to learn from, as a run names it; the layout's usual if not given"""
    val_split: str = ""
    """what to validate on"""
    val_share: float = Config.val_share
    """share of pictures without a layout that validates where neither a list nor a folder says which"""
    sheet: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None
    """PNG file for a contact sheet: some pictures of each class with their tags"""


@dataclasses.dataclass(frozen=True)
class ResumeOptions:
    """Go on with a run that was stopped, from its newest checkpoint; it ends as if it had never been stopped."""

    run: Run
    """run folder"""
    data: Text = None
    """where the data set is now; the run's own place if not given"""
    tags: Text = None
    """where the tag file of pictures without a layout is now"""
    masks: Text = None
    """where their masks are now"""
    workers: Whole = None
    """data loading processes of each training process"""
    accumulate: Whole = None
    """parts of a process's batch that pass one after another"""
    device: Annotated[typing.Literal["auto", "cpu"] | None, arg(metavar="auto|cpu", help_behavior_hint="")] = None
    """auto takes a GPU where there is one"""


@dataclasses.dataclass(frozen=True)
class DrawnOptions:
    """What both layouts of the embedded data set are written with."""

    out: Out
    """a new folder"""
    seed: int = 0
    """the same seed gives the same files"""
    body: float = DIALS.body
    """share of a thing's length that is body, whose look another class shares; this and what follows make pictures harder, 0 for not"""
    grounds: float = DIALS.grounds
    """share of things that stand on the ground of their class"""
    touching: float = DIALS.touching
    """share of things, after a picture's first, that are put close beside another; the others lie by chance, at 0 all apart"""
    small: float = DIALS.small
    """share of things that are half as large"""
    wrong_tags: float = DIALS.wrong_tags
    """share of training pictures with one tag missing or too many"""

    @property
    def dials(self) -> Dials:
        """How hard pictures are."""
        return Dials(self.body, self.grounds, self.touching, self.small, self.wrong_tags)


@dataclasses.dataclass(frozen=True)
class ShapesOptions(DrawnOptions):
    """Write the embedded data set in the PASCAL VOC layout."""

    train: int = shapes.SPLITS["train"]
    """images to learn from"""
    dev: int = shapes.SPLITS["dev"]
    """images to make choices on"""
    val: int = shapes.SPLITS["val"]
    """images to report on"""


@dataclasses.dataclass(frozen=True)
class ShapesCocoOptions(DrawnOptions):
    """Write the embedded data set in COCO's layout."""

    train: int = shapes_coco.SPLITS["train2014"]
    """images with instances to learn from"""
    val: int = shapes_coco.SPLITS["val2014"]
    """images with instances to report on"""


@dataclasses.dataclass(frozen=True)
class GridOptions:
    """Make the runs behind the ablation tables. What is there already is not made again; a run that was stopped is."""

    names: Annotated[Positional[tuple[str, ...]], arg(metavar="[NAME ...]", help_behavior_hint="")] = ()
    """modules, peers, stability, thresholds, weights, choices, readings, reach, precision, and for voc6 real, 'real, peers' and 'real, all
    blocks'; all of the scale's if none is named"""
    scale: str = "shapes"
    """preset on which the runs are based"""
    seeds: Wholes = None
    """each run is made once with each; 10 for modules, peers and reach, 20 for stability, 6 for precision, real and 'real, peers', 3 for
    'real, all blocks', 8 for the others if none is named"""
    data: str = ""
    """data set in the layout of VOC or COCO; the preset's own if not given"""
    out: Path = Path("results")
    """results are kept in a folder of the scale's name under it"""
    jobs: Whole = None
    """runs at a time; one for each GPU, or for each core where there is none; with --on slurm the jobs to queue, to be named"""
    on: typing.Literal["local", "slurm"] = "local"
    """where runs are made: on this machine, or by jobs of Slurm, for which submitit must be installed; several machines that see one
    folder of results can work on it at the same time either way"""
    slurm: str = ""
    """with --on slurm: options of sbatch for each job, as in 'partition=gpu time=120 gpus=1'; the time, in minutes, must be named"""
    no_wait: bool = False
    """with --on slurm: end when the jobs are queued"""
    dry_run: bool = False
    """only say what would run, and how long it would take"""
