"""Labels on fixed maps and decoders on frozen tokens: scores against plain counts, pairs that differ in their labels alone."""

import json

import pytest
import torch
from steps import CLASSES

from dsgc.cam import IGNORE
from dsgc.data.loading import EvalImages
from dsgc.data.split import open_split
from dsgc.errors import UserError
from dsgc.experiments import frozen, ladder, ladders, significance
from dsgc.methods import preset
from dsgc.scoring.evaluate import evaluate
from dsgc.training.loop import train


@pytest.fixture
def made(pair, shapes_folder, fixed):
    config = fixed(label_low=0.3, label_high=0.4, mixture_pixels="all")
    return config, pair[0], frozen.freeze(pair[0], EvalImages(open_split(shapes_folder, "train")))


def test_quality_counts_what_a_loop_counts():
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 1, 2, IGNORE])[torch.randint(4, (3, 4, 4), generator=generator)]
    masks = torch.tensor([0, 0, 1, 2, IGNORE])[torch.randint(5, (3, 4, 4), generator=generator)]
    pixels = [(a, b) for a, b in zip(labels.flatten().tolist(), masks.flatten().tolist(), strict=True) if b != IGNORE]
    called, true = [p for p in pixels if 0 < p[0] < IGNORE], [p for p in pixels if p[1] > 0]
    empty, background = [p for p in pixels if p[0] == 0], [p for p in pixels if p[1] == 0]

    def share(part, right):
        return 100 * sum(map(right, part)) / len(part)

    expected = {
        "coverage": share(pixels, lambda p: p[0] != IGNORE),
        "precision": share(called, lambda p: p[0] == p[1]),
        "recall": share(true, lambda p: p[0] == p[1]),
        "background_precision": share(empty, lambda p: p[1] == 0),
        "background_recall": share(background, lambda p: p[0] == 0),
    }
    assert frozen.quality(labels, masks) == pytest.approx(expected)


def test_the_labels_are_those_of_the_method_image_by_image(made):
    config, network, images = made
    labels = frozen.labels_of(config, network, images)
    with torch.no_grad():
        for index in (0, len(images.tags) - 1):
            one = slice(index, index + 1)
            output = network(images.images[one])
            alone = config.method.examined(network, output, images.images[one], images.tags[one]).corrected
            assert (alone != labels[one]).float().mean() < 2e-3


def test_the_same_seed_gives_the_same_decoder_and_only_labels_part_two(made):
    config, network, images = made
    labels = frozen.labels_of(config, network, images)
    one, same, other, seed = (
        frozen.taught(config, given, images, seed=number, steps=3)
        for given, number in ((labels, 0), (labels, 0), (torch.zeros_like(labels), 0), (labels, 1))
    )
    first = [decoder[0].weight for decoder in (one, same, other, seed)]
    assert torch.equal(first[0], first[1]) and not torch.equal(first[0], first[2]) and not torch.equal(first[0], first[3])


def test_a_decoder_that_learns_true_masks_beats_one_that_learns_nothing_and_is_scored_like_a_loop(made):
    config, _, images = made
    taught = frozen.taught(config, images.masks, images, seed=0, steps=60)
    blank = frozen.taught(config, torch.full_like(images.masks, IGNORE), images, seed=0, steps=1)
    good, bad = (frozen.score(decoder, images) for decoder in (taught, blank))
    assert good.miou > bad.miou + 5
    with torch.no_grad():
        logits = torch.nn.functional.interpolate(taught(images.output.tokens), images.masks.shape[-2:], mode="bilinear")
    found, known = logits.argmax(1), images.masks != IGNORE
    ious = []
    for number in range(CLASSES + 1):
        mine, theirs = (found == number) & known, images.masks == number
        if (mine | theirs).any():
            ious.append(((mine & theirs).sum() / (mine | theirs).sum()).item())
    assert good.miou == pytest.approx(100 * sum(ious) / len(ious), abs=1e-3)
    assert good.area == pytest.approx(100 * ((found > 0) & known).sum().item() / ((images.masks > 0) & known).sum().item())


def test_the_cams_iou_is_the_evaluations(made, shapes_folder):
    config, network, images = made
    found = frozen.cam_iou(config, network, images)
    scores = evaluate({"teacher": network}, EvalImages(open_split(shapes_folder, "train")), config)["teacher"]["cam"]["per_class"]
    assert found == pytest.approx([100 * value for value in list(scores.values())[1:]], abs=0.5)


def test_a_ladder_goes_on_where_it_was_stopped_and_is_read_as_gains(tiny, shapes_folder, tmp_path, monkeypatch):
    config = tiny(out=str(tmp_path / "warm"), warmup_steps=4, steps=4, checkpoint_every=2, keep_checkpoints=4, pictures=0)
    monkeypatch.setattr(ladders, "preset", lambda name: config)
    monkeypatch.setattr(frozen, "AT_ONCE", 3)
    run, file, found = train(config), tmp_path / "ladder.json", []
    rows = [ladders.PLAIN, "preset"]
    drawn = ladders.DRAWN._replace(rows=rows, file=file)
    ladder.climb(drawn._replace(rows=rows[:1]), run, 0, str(shapes_folder), 2, found)
    first = json.loads(file.read_text())["warm_ups"]
    ladder.climb(drawn, run, 0, str(shapes_folder), 2, found)
    assert [(one["seed"], list(one["rows"])) for one in found] == [(0, rows)]
    assert json.loads(file.read_text())["warm_ups"][0]["rows"][ladders.PLAIN] == first[0]["rows"][ladders.PLAIN]
    table = ladder.read(file)
    plain, preset = (table[table.row == row].iloc[0] for row in rows)
    assert plain.gain_val == 0 and len(table) == 2 and preset.gain_val == pytest.approx(preset.miou_val - plain.miou_val)
    assert ladder.gains(table, "val").to_dict() == {0: {"preset": preset.gain_val}}
    (rung,) = ladder.switched(table, "dev", {"a": ("preset", ladders.PLAIN)}).to_dict("records")
    assert rung == {
        "thresholds": "a", "seed": 0, "precision": plain.precision, "recall": plain.recall, "area": plain.area_dev,
        "corrected_area": preset.area_dev, "gain": preset.miou_dev - plain.miou_dev,
    }  # fmt: skip
    pairs = {("one", "less"): ("preset", ladders.PLAIN), ("another", "less"): ("tau 0.5", "preset")}
    change = ladder.differences(table, "val", pairs)
    assert change.index.tolist() == [("one", "less")] and change[0].item() == preset.gain_val  # of the other a row is not there
    with pytest.raises(UserError, match="make ladder"):
        ladder.read(tmp_path / "none.json")
    found[0]["cam"][1] += 10
    with pytest.raises(UserError, match="its CAM is 10.0 points from that of the warm-up whose rows .* move that file away"):
        ladder.climb(drawn._replace(rows=[*rows, "tau 0.5"]), run, 0, str(shapes_folder), 2, found)


def test_a_ladder_that_is_none_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(UserError, match="nonsense: no ladder; there are drawn, early, pooled, photographs"):
        ladder.main(tmp_path, "data", "nonsense")


TOGETHER = {  # of one rule or one program, so that they are changed together
    "EM as in DuPL", "EM as in scikit-learn", "tau the lowest 10 % of pairs", "255 filled, 10 rounds", "255 filled, raster order",
}  # fmt: skip


def test_a_detail_differs_from_its_row_in_one_thing_and_ten_seeds_can_decide_the_family():
    for row, other in ladders.DETAILS.items():
        mine, theirs = (ladders.DRAWN.config(name).flat() for name in (row, other))
        changed = sum(mine[name] != theirs[name] for name in mine)
        assert changed == 0 if row in ladders.TRIALS else changed > 1 if row in TOGETHER else changed == 1
    for family in (ladders.DETAILS, ladders.CROSSED, ladders.ROWS):
        assert significance.smallest(len(ladder.SEEDS)) * len(family) <= significance.LEVEL


def test_a_reading_on_a_rung_is_the_rung_and_the_reading_and_nothing_else():
    for (thresholds, reading), (row, off) in ladders.CROSSED.items():
        config, rung = ladders.DRAWN.config(row), ladders.DRAWN.config(ladders.RUNGS[thresholds][0])
        assert config == rung.changed(**ladders.CHANGES[reading]) and ladders.DRAWN.config(off) == rung.changed(correction=False)


@pytest.mark.parametrize("of", ladders.LADDERS.values(), ids=ladders.LADDERS)
def test_a_rung_switches_the_correction_on_and_changes_nothing_else(of):
    for thresholds, (on, off) in of.rungs.items():
        with_it, without = of.config(on), of.config(off)
        assert with_it.changed(correction=False) == without and with_it.method.correction
        assert thresholds == f"{with_it.method.label_low} and {with_it.method.label_high}" and {on, off} <= {*of.rows}
    highs = [of.config(on).method.label_high for on, _ in of.rungs.values()]
    assert highs == sorted(highs, reverse=True)  # from labels that claim little to labels that claim much
    assert of.config() == preset(of.scale).changed(**of.fields) and of.config(ladders.PLAIN) == of.config().changed(correction=False)
    assert significance.smallest(len(ladder.SEEDS)) * (len(of.rows) - 1) <= significance.LEVEL or of is ladders.DRAWN
    share = of.config().method.warmup_steps / of.config().steps
    assert share == 0.1 if of is ladders.EARLY else share >= 0.3


def test_photographs_are_squeezed_to_squares_of_the_crop(made, shapes_folder):
    assert ladders.PHOTOGRAPHS.side == preset("voc6").crop_size and not ladders.DRAWN.side
    _, network, whole = made
    side = 5 * network.patch_size
    small = frozen.freeze(network, EvalImages(open_split(shapes_folder, "train")), images=3, side=side)
    assert small.images.shape == (3, 3, side, side) and small.masks.shape == (3, side, side) and len(small.output.tokens) == 3
    assert small.masks.dtype == torch.int64 and {*small.masks.unique().tolist()} <= {*whole.masks.unique().tolist()}
    same = frozen.freeze(network, EvalImages(open_split(shapes_folder, "train")), images=3, side=whole.images.shape[-1])
    assert torch.equal(same.images, whole.images[:3]) and torch.equal(same.masks, whole.masks[:3])


COMMITTED = {name: of for name, of in ladders.LADDERS.items() if name == "drawn" or of.file.is_file()}


@pytest.mark.parametrize("of", COMMITTED.values(), ids=COMMITTED)
def test_the_committed_ladders_have_every_row_under_every_seed(of):
    table = ladder.read(of.file)
    assert set(table.row) == set(of.rows) <= {*of.changes, *ladders.TRIALS}
    for _, part in table.groupby("row"):
        assert sorted(part.seed) == list(ladder.SEEDS)
