"""Measure the open choices: one change at a time from the `shapes` preset, scored on the development split.

    python benchmarks/choices.py run [NAME ...]     run what results/choices.json lacks (or the variants named), one by one
    python benchmarks/choices.py table              write book/measured.md from results/choices.json

Each variant is one training run with seed 0: differences of a point or two are within what another seed would change.
"""

import dataclasses
import json
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "results" / "choices.json", ROOT / "book" / "measured.md"
SEED, SPLIT = 0, "dev"

VARIANTS: dict[str, dict] = {
    "preset": {},
    "baseline: no DSKD, no GC": {"distillation": False, "correction": False},
    "DSKD without GC": {"correction": False},
    "GC without DSKD": {"distillation": False},
    "GC over all pixels (as printed)": {"mixture_pixels": "all"},
    "GC on the patch grid": {"mixture_grid": "patch"},
    "GC, all pixels of the patch grid": {"mixture_pixels": "all", "mixture_grid": "patch"},
    "GC, tau 0.95": {"tau": 0.95},
    "Eq. 10 as printed: no centre, temperatures 1": {
        "centre_momentum": 1.0, "student_temperature": 1.0, "teacher_temperature": 1.0,
    },
    "Eq. 7 over tokens": {"similarity_axis": "tokens"},
    "Eq. 7 after warm-up too": {"similarity_after_warmup": True},
    "Eq. 3 with two labels (as printed)": {"ptc_classes": False},
    "Eq. 1 without minimum (as printed)": {"subtract_minimum": False},
    "mean of the 5 % highest for Eq. 8": {"tag_pool": 0.05},
    "no refinement": {"refine_iterations": 0},
    "labels from the student's CAM": {"label_network": "student"},
    "lambda4 = 1": {"lambda4": 1.0},
    "Eq. 22 unbalanced (as printed)": {"balanced_segmentation": False},
    "learning rates 0.0003 and 0.00003": {"lr": 3e-4, "student_lr": 3e-5},
}  # fmt: skip


def run(names: list[str]) -> None:
    """Train each variant, score it and add it to the results."""
    from dsgc.config import preset
    from dsgc.data import shapes
    from dsgc.runner import described, provenance
    from dsgc.train import train

    data = ROOT / "data" / "shapes"
    if not data.exists():
        data.parent.mkdir(exist_ok=True)
        shapes.write(data)
    for name in names or [name for name in VARIANTS if name not in read()]:
        with tempfile.TemporaryDirectory() as folder:
            config = dataclasses.replace(
                preset("shapes"), data=str(data), out=f"{folder}/run", val_split=SPLIT, seed=SEED, eval_every=0, pictures=0,
                **VARIANTS[name],
            )  # fmt: skip
            started = time.perf_counter()
            out = train(config)
            scores = json.loads((out / "metrics.json").read_text())
            log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        entry = {
            "changes": VARIANTS[name],
            "config": described(config),
            "scores": scores,
            "projection_entropy": next((line["projection_entropy"] for line in log[::-1] if "projection_entropy" in line), None),
            "seed": SEED,
            "split": SPLIT,
        } | provenance(config, time.perf_counter() - started)
        results = read() | {name: entry}
        RESULTS.parent.mkdir(exist_ok=True)
        partial = RESULTS.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(json.dumps({key: results[key] for key in VARIANTS if key in results}, indent=1) + "\n")
        partial.replace(RESULTS)


def read() -> dict:
    """The results so far."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def table() -> str:
    """The results as a page: mIoU in per cent."""
    lines = [
        "# The choices, measured",
        "",
        "One change at a time from the preset `shapes`, mIoU in per cent on the development split, one run each with seed "
        f"{SEED}: a difference of a point or two may be chance. *Head* is the segmentation of either network; what follows is "
        "the teacher's: its CAM, its pseudo label before and after the correction (over the labelled pixels). *Labelled* is "
        "the share of pixels that the corrected pseudo label labels. Made by `benchmarks/choices.py` from "
        "`results/choices.json`; change neither the page nor the numbers "
        "by hand. These are not the paper's numbers, and need not order as PASCAL VOC would.",
        "",
        "| variant | head, teacher | student | CAM | pseudo label | corrected | labelled | fields changed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    results = read()
    for name, fields in VARIANTS.items():
        changes = ", ".join(f"`{key} = {value!r}`" for key, value in fields.items()) or "–"
        if name not in results:
            lines.append(f"| {name} | not measured yet | | | | | | {changes} |")
            continue
        entry = results[name]
        teacher, student = entry["scores"]["teacher"], entry["scores"].get("student")
        cells = [teacher["seg"]["miou"], student and student["seg"]["miou"]]
        cells += [teacher[key]["miou"] for key in ("cam", "pseudo_initial", "pseudo")] + [teacher["pseudo"]["coverage"]]
        numbers = " | ".join("–" if value is None else f"{100 * value:.1f}" for value in cells)
        lines.append(f"| {name} | {numbers} | {changes} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    command, *names = sys.argv[1:] or ["help"]
    unknown = [name for name in names if name not in VARIANTS]
    if command not in ("run", "table") or unknown:
        print(f"choices: {unknown[0]!r} is no variant; there are: {'; '.join(VARIANTS)}" if unknown else __doc__, file=sys.stderr)
        sys.exit(2)
    if command == "run":
        run(names)
    PAGE.write_text(table())
