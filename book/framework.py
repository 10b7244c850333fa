"""Fig. 1 of the paper, redrawn: boxes on a grid, arrows between them, every box a link to where it is explained.

`BOXES` and `ARROWS` say what is drawn, the rest says how. `python book/framework.py` prints the SVG; the build puts it into
the page, so that its links work there and the page's style sheet colours it (classes `both`, `warm-up`, `expansion`).
"""

import re
from collections.abc import Callable
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 140, 66  # of a box that spans one column, pixels
GAP, ROW_GAP = 16, 30  # between columns, between rows
BREAK = 56  # between the teacher's columns and the student's
STUDENT = 4  # the first of the student's columns
MARGIN = 4
RADIUS = {"thing": 4, "loss": 18}  # of a box's corners
LINES = (20, 38, 55)  # baselines in a box: title, equation, code
SHORT = (28, 0, 49)  # of a box without an equation

PTC, DSKD, GMM, RULES, DATA = (
    f"../notebooks/{name}.html" for name in ("01_ptc", "02_dskd", "03_gmm_em", "04_gc_rules", "05_train_voc")
)
PARTS = "parts.html"
CODE = "reference.html#dsgc."


class Box(NamedTuple):
    title: str  # `L_PTC` is written with an index
    column: int
    row: int
    page: str  # the chapter's address
    code: str  # below dsgc: the entry in the reference; its last part is shown
    equation: str = ""  # `4` or `11–16`
    stage: str = "both"
    span: int = 1
    kind: str = "thing"

    @property
    def href(self) -> str:
        return f"{self.page}#eq-{self.equation.split('–')[0]}" if self.equation else self.page


BOXES = {
    "mirrored": Box("Mirrored image", 1, 0, DSKD, "methods.dsgc.Dsgc.passes", span=2),
    "image": Box("Image", 4, 0, DATA, "data.loading.Crops", span=2),
    "teacher": Box("Teacher", 0, 1, DSKD, "network.vit.Network", span=4),
    "student": Box("Student", 4, 1, DSKD, "network.vit.Network", span=2),
    "class": Box("Class token", 0, 2, f"{PARTS}#where-the-tags-are-read", "network.vit.Output.class_logits"),
    "last": Box("Last tokens", 1, 2, PTC, "network.vit.Output.tokens", span=2),
    "middle": Box("Middle tokens", 3, 2, PTC, "network.vit.Output.middle"),
    "student middle": Box("Middle tokens", 4, 2, DSKD, "network.vit.Output.middle", stage="warm-up"),
    "student last": Box("Last tokens", 5, 2, DSKD, "network.vit.Output.tokens", stage="expansion"),
    "cls": Box("L_cls", 0, 3, DSKD, "dskd.tag_loss", "8", kind="loss"),
    "auxiliary": Box("Auxiliary CAM", 3, 3, PTC, "cam.class_activation_map", "2"),
    "sim": Box("L_sim", 4, 3, DSKD, "dskd.flip_similarity_loss", "7", stage="warm-up", kind="loss"),
    "tags": Box("Tags", 0, 4, DATA, "data.voc.read_tags"),
    "cam": Box("CAM", 1, 4, PTC, "cam.class_activation_map", "1", stage="expansion"),
    "ptc": Box("L_PTC", 2, 4, PTC, "ptc.patch_token_contrast", "4", kind="loss"),
    "patch": Box("Patch labels", 3, 4, PTC, "cam.patch_labels", "3"),
    "projector": Box("Projector", 2, 5, f"{PARTS}#the-projector", "network.vit.Projector", stage="expansion"),
    "student projector": Box("Projector", 5, 5, f"{PARTS}#the-projector", "network.vit.Projector", stage="expansion"),
    "region": Box("Uncertain region", 1, 6, DSKD, "dskd.uncertain_region", "9", stage="expansion"),
    "punc": Box("L_PUNC", 2, 6, DSKD, "dskd.uncertain_region_loss", "10", stage="expansion", span=4, kind="loss"),
    "label": Box("Pseudo label", 0, 7, f"{PARTS}#how-a-map-takes-on-the-outlines-of-a-picture", "refine.refine", stage="expansion"),
    "mixture": Box("Gaussian mixture", 1, 7, GMM, "gmm.fit", "11–16", stage="expansion"),
    "noise": Box("Noise probability", 2, 7, GMM, "gmm.noise_probability", "17", stage="expansion"),
    "rules": Box("GC rules", 3, 7, RULES, "correction.correct", "18–21", stage="expansion"),
    "corrected": Box("Corrected label", 4, 7, RULES, "methods.contract.Examined", stage="expansion"),
    "seg": Box("L_seg", 5, 7, "", "objective.segmentation_loss", "22", stage="expansion", kind="loss"),
    "decoder": Box("Decoder", 5, 8, f"{PARTS}#the-decoder-and-how-far-it-sees", "network.vit.Decoder", stage="expansion"),
    "all": Box("L_all: the sum of the five losses, each with its weight", 0, 9, "", "objective.total_loss", "23", span=4, kind="loss"),
    "prediction": Box("Prediction", 5, 9, "", "metrics.ConfusionMatrix", "24", stage="expansion"),
}  # fmt: skip


class Arrow(NamedTuple):
    start: str
    end: str
    sides: str  # side of the start and of the end: t, b, l, r; two that face each other make a straight line
    stage: str = "expansion"
    via: str = ""  # the corners of a line that is not straight, as a rule of `route`
    text: str = ""
    page: str = ""  # where the text leads, if anywhere


ARROWS = [
    Arrow("image", "mirrored", "lr", "both", text="mirror"),
    Arrow("mirrored", "teacher", "bt", "both"),
    Arrow("image", "student", "bt", "both"),
    Arrow("teacher", "student", "rl", text="EMA", page=f"{DSKD}#eq-6"),
    Arrow("teacher", "class", "bt", "both"),
    Arrow("teacher", "last", "bt", "both"),
    Arrow("teacher", "middle", "bt", "both"),
    Arrow("student", "student middle", "bt", "warm-up"),
    Arrow("student", "student last", "bt"),
    Arrow("class", "cls", "bt", "both"),
    Arrow("tags", "cls", "tb", "both"),
    Arrow("tags", "cam", "rl"),
    Arrow("last", "cam", "bt"),
    Arrow("last", "ptc", "bt", "both"),
    Arrow("middle", "auxiliary", "bt", "both"),
    Arrow("auxiliary", "patch", "bt", "both"),
    Arrow("patch", "ptc", "lr", "both"),
    Arrow("middle", "sim", "rl", "warm-up", via="between"),
    Arrow("student middle", "sim", "bt", "warm-up"),
    Arrow("last", "projector", "bl", via="down"),
    Arrow("student last", "student projector", "bt"),
    Arrow("projector", "punc", "bt"),
    Arrow("student projector", "punc", "bt"),
    Arrow("cam", "region", "bt"),
    Arrow("region", "punc", "rl"),
    Arrow("cam", "label", "bt", via="aside"),
    Arrow("label", "mixture", "rl"),
    Arrow("mixture", "noise", "rl"),
    Arrow("noise", "rules", "rl"),
    Arrow("rules", "corrected", "rl"),
    Arrow("corrected", "seg", "rl"),
    Arrow("last", "rules", "bb", via="under"),
    Arrow("last", "decoder", "bl", via="down"),
    Arrow("decoder", "seg", "tb"),
    Arrow("decoder", "prediction", "bt"),
]
LEGEND = [
    ("both", "thing", "in both stages"),
    ("warm-up", "thing", "in the warm-up only"),
    ("expansion", "thing", "in expansion and segmentation only"),
    ("both", "loss", "a loss"),
]
EQUATION, EXPLAINS, ENTRY = "Eq.", "the page that explains it", "its entry in the reference"
FIGURE, TITLE = "Figure: the framework", "The framework of the method"
ABOUT = (
    "The teacher sees the mirrored image, the student the image. Losses on their tokens and on the labels made of the "
    "teacher's class activation map train the teacher; the text below the figure says the same in words."
)


def left(column: int) -> float:
    return MARGIN + column * (WIDTH + GAP) + (BREAK - GAP) * (column >= STUDENT)


def top(row: int) -> float:
    return MARGIN + row * (HEIGHT + ROW_GAP)


def frame(box: Box) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a box."""
    return left(box.column), top(box.row), left(box.column + box.span - 1) + WIDTH, top(box.row) + HEIGHT


def route(arrow: Arrow) -> list[tuple[float, float]]:
    """The corners of an arrow's line, from its start to its end."""
    start, end = BOXES[arrow.start], BOXES[arrow.end]
    (l0, t0, r0, b0), (l1, t1, r1, b1) = frame(start), frame(end)
    x, y = (l1 + r1) / 2, (t1 + b1) / 2  # the middle of the end
    if arrow.via == "between":  # out to the side, down between the two columns, in from the side
        lane = (r0 + l1) / 2
        return [(r0, (t0 + b0) / 2), (lane, (t0 + b0) / 2), (lane, y), (l1, y)]
    if arrow.via == "aside":  # a little down, over the end's column, down
        lane, out = b0 + ROW_GAP / 2, l0 + WIDTH / 5
        return [(out, b0), (out, lane), (x, lane), (x, t1)]
    lane = (l0 + r0) / 2  # the gap between the two columns of a wide box
    if arrow.via == "down":
        return [(lane, b0), (lane, y), (l1, y)]
    if arrow.via == "under":
        return [(lane, b0), (lane, b1 + ROW_GAP / 2), (x, b1 + ROW_GAP / 2), (x, b1)]
    edge = {"t": (t0, b1), "b": (b0, t1), "l": (l0, r1), "r": (r0, l1)}[arrow.sides[0]]
    if arrow.sides in ("tb", "bt"):
        across = x if r1 - l1 <= r0 - l0 else (l0 + r0) / 2  # the middle of the narrower one
        return [(across, edge[0]), (across, edge[1])]
    return [(edge[0], y), (edge[1], y)]


def words() -> list[str]:
    """What the figure says, beside formulas."""
    titles = [box.title for box in BOXES.values() if box.title[1:2] != "_" or ":" in box.title]
    arrows, legend = [arrow.text for arrow in ARROWS if arrow.text], [text for *_, text in LEGEND]
    return list(dict.fromkeys([*titles, *arrows, *legend, EQUATION, EXPLAINS, ENTRY, FIGURE, TITLE, ABOUT]))


def indexed(title: str) -> str:
    """`L_PTC and more` with PTC as an index of L."""
    name, _, rest = title.partition("_")
    if not rest:
        return escape(title)
    index, *after = re.split("(?=[:：])", rest, maxsplit=1)
    after = "".join(f'<tspan dy="-3">{escape(more)}</tspan>' for more in after)
    return f'<tspan class="variable">{name}</tspan><tspan class="index" dy="3">{escape(index)}</tspan>{after}'


def draw_box(box: Box, code: str, _: Callable[[str], str]) -> str:
    x0, y0, x1, _y1 = frame(box)
    x = (x0 + x1) / 2
    name = box.code.split(".")[-1]
    title, equation = _(box.title), f", {_(EQUATION)} {box.equation}" if box.equation else ""
    lines = LINES if box.equation else SHORT
    number = f'<tspan class="number" x="{x:g}" y="{y0 + lines[1]:g}">{_(EQUATION)} {box.equation}</tspan>' if box.equation else ""
    return f"""<g class="{box.stage}">
<rect x="{x0:g}" y="{y0:g}" width="{x1 - x0:g}" height="{HEIGHT}" rx="{RADIUS[box.kind]}"/>
<a href="{escape(box.href)}" aria-label="{escape(title.replace("_", " "))}{equation}: {_(EXPLAINS)}"
><text x="{x:g}" y="{y0 + lines[0]:g}">{indexed(title)}{number}</text></a>
<a href="{code}{box.code}" aria-label="{name}: {_(ENTRY)}"
><text class="code" x="{x:g}" y="{y0 + lines[2]:g}">{name}</text></a>
</g>"""


def draw_arrow(arrow: Arrow, _: Callable[[str], str]) -> str:
    points = route(arrow)
    line = "M" + " L".join(f"{x:g},{y:g}" for x, y in points)
    text = ""
    if arrow.text:
        (x0, y0), (x1, _y1) = points
        text = f'\n<text class="word" x="{(x0 + x1) / 2:g}" y="{y0 - 8:g}">{_(arrow.text)}</text>'
    if arrow.page:
        text = f'<a href="{arrow.page}" aria-label="{_(arrow.text)}: {_(EXPLAINS)}">{text}</a>'
    return f'<path class="{arrow.stage}" d="{line}" marker-end="url(#framework-{arrow.stage})"/>{text}'


def draw_legend(y: float, _: Callable[[str], str]) -> str:
    parts, x = [], float(MARGIN)
    for stage, kind, english in LEGEND:
        text = _(english)
        parts.append(
            f'<g class="{stage}"><rect x="{x:g}" y="{y:g}" width="34" height="20" rx="{min(RADIUS[kind], 10)}"/>'
            f'<text class="word start" x="{x + 42:g}" y="{y + 14:g}">{text}</text></g>'
        )
        x += 42 + 7.5 * sum(1 + (sign > "\u2e80") for sign in text) + 24  # a Chinese sign is as wide as two letters
    return "\n".join(parts)


def svg(code: str = CODE, _: Callable[[str], str] = str) -> str:
    """The whole figure; where the entries of the code stand, and what is said in which language."""
    width = left(max(box.column + box.span - 1 for box in BOXES.values())) + WIDTH + MARGIN
    legend = top(max(box.row for box in BOXES.values()) + 1)
    heads = "".join(
        f'<marker id="framework-{stage}" class="{stage}" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z"/></marker>'
        for stage in ("both", "warm-up", "expansion")
    )
    arrows = "\n".join(draw_arrow(arrow, _) for arrow in ARROWS)
    boxes = "\n".join(draw_box(box, code, _) for box in BOXES.values())
    return f"""<div class="framework full-width" role="region" aria-label="{_(FIGURE)}" tabindex="0">
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {legend + 20 + MARGIN:g}" role="group"
aria-labelledby="framework-title" aria-describedby="framework-about">
<title id="framework-title">{_(TITLE)}</title>
<desc id="framework-about">{escape(_(ABOUT))}</desc>
<defs>{heads}</defs>
<g class="arrows">
{arrows}
</g>
{boxes}
{draw_legend(legend, _)}
</svg>
</div>
"""


if __name__ == "__main__":
    print(svg())
