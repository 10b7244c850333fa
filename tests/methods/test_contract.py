"""What a method promises the loop, held against every method that there is, in each of its stages."""

import copy

import pytest
import torch
import torch.nn.functional as F
from apart import log_of
from steps import CLASSES, TAGS, counted, gradients, in_parts, networks_of, stage_of, stages_of, step, uneven_batch

from dsgc import correction, methods
from dsgc.cam import IGNORE
from dsgc.errors import UserError
from dsgc.methods.contract import Mean, over_all
from dsgc.methods.labels import enlarged
from dsgc.network.vit import fitted
from dsgc.objective import segmentation_loss
from dsgc.runs import checkpoint
from dsgc.training.loop import train

LABELS = {"afa": {"label_high": 0.5}}  # of a method that otherwise would label no foreground on this batch
KINDS = {
    **{name: {"method": name} | LABELS.get(name, {}) for name in methods.MODULES},
    "dsgc without student": {"distillation": False},
    "dsgc without correction": {"correction": False},
    "dsgc with neither": {"distillation": False, "correction": False},
}
STAGES = {"masks": ("masks",)} | {name: stages_of(methods.preset("shapes", name)) for name in methods.PEERS}  # the papers' are given
CASES = [(kind, stage) for kind in KINDS for stage in STAGES.get(kind, ("warm-up", "expansion"))]
each = pytest.mark.parametrize(("kind", "stage"), CASES)
kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def pair(pair):
    """The two networks with decoders that tell places apart, as those that have learnt do: some methods make their labels of that."""
    with torch.no_grad():
        for network in pair:
            network.decoder[-1].weight *= 30
    return pair


def batch_of(config):
    return uneven_batch(config.method.from_masks)


def taken(pair, config, stage, batch=None):
    batch = batch_of(config) if batch is None else batch
    return step(pair, batch.images, stage, config, tags=batch.tags, masks=batch.masks)


def weights_of(networks):
    return {f"{name}.{key}": value.clone() for name, network in networks.items() for key, value in network.state_dict().items()}


# stages


@kinds
def test_the_cases_here_are_all_stages_and_each_names_networks_that_there_are(fixed, kind):
    config = fixed(**KINDS[kind])
    stages = [config.method.stage(number, config.steps) for number in range(config.steps + 1)]  # the log asks for the one after the last
    assert stages_of(config) == STAGES.get(kind, ("warm-up", "expansion"))
    for stage in stages:
        assert stage.weights and all(weight > 0 for weight in stage.weights.values())
        assert stage.learning and set(stage.learning) <= set(config.method.networks)
    assert config.method.networks[0] in {name for stage in stages for name in stage.learning}, "the one that is reported learns"


@kinds
def test_each_network_has_a_rate(fixed, kind):
    method = fixed(**KINDS[kind]).method
    rates = method.rates(0.25)
    assert set(method.networks) <= rates.keys() and rates[method.networks[0]] == 0.25
    assert all(rates[name] > 0 for name in method.networks)


# losses and gradients


@each
def test_a_stage_has_the_losses_that_it_weighs_as_means_over_what_they_count(pair, fixed, kind, stage):
    config = fixed(**KINDS[kind])
    method, networks, part = config.method, networks_of(pair, config), batch_of(config)
    now = stage_of(config, stage)
    seen = method.passes(networks, part, now)
    with torch.no_grad():
        goals = method.goals(networks, seen, part, now)
    means = method.losses(networks, seen, goals, part, now, method.memory(networks))
    assert means.keys() == now.weights.keys()
    for name, mean in means.items():
        assert mean.value.shape == torch.as_tensor(mean.over).shape, name
        assert mean.value.isfinite().all() and (torch.as_tensor(mean.over) > 0).all(), name


@each
def test_each_loss_has_a_gradient_in_what_learns_and_none_elsewhere(pair, fixed, kind, stage):
    config = fixed(**KINDS[kind])
    networks, made = networks_of(pair, config), taken(pair, config, stage)
    reached = set()
    for name, loss in made.losses.items():
        for owner, network in networks.items():
            found = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True, allow_unused=True)
            found = [value for value in found if value is not None]
            assert all(value.isfinite().all() for value in found), (name, owner)
            if owner not in made.stage.learning:
                assert not found, (name, owner)
            elif any(value.any() for value in found):
                reached |= {name, owner}
    assert reached == {*made.losses, *made.stage.learning}


@each
def test_without_tags_or_labels_everything_is_finite(pair, fixed, kind, stage):
    config = fixed(**KINDS[kind])
    batch = batch_of(config)
    masks = None if batch.masks is None else torch.full_like(batch.masks, IGNORE)
    made = taken(pair, config, stage, batch._replace(tags=torch.zeros_like(batch.tags), masks=masks))
    made.backward()
    assert all(value.isfinite() for value in made.losses.values())
    for network in pair:
        assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in network.parameters())
    if "seg" in made.losses and config.method.from_masks:
        assert made.losses["seg"] == 0


@each
@pytest.mark.parametrize("parts", [4])
def test_parts_give_the_losses_and_gradients_of_the_batch(pair, fixed, kind, stage, parts):
    config = fixed(**KINDS[kind])
    (whole, one), (made, found) = (gradients(pair, in_parts(batch_of(config), count), stage, config) for count in (1, parts))
    assert found.keys() == one.keys() and made.losses.keys() == whole.losses.keys() and made.watched.keys() == whole.watched.keys()
    for name, value in one.items():
        assert (found[name] - value).abs().max() <= 1e-5 * value.abs().max() + 1e-9, name  # some are a difference that is nearly 0
    for name, value in whole.losses.items():
        assert made.losses[name].item() == pytest.approx(value.item(), rel=1e-5), name


@each
def test_a_step_changes_nothing_by_itself(pair, fixed, kind, stage):
    """Neither weights nor what is remembered; that is for the optimiser and for `follow`."""
    config = fixed(**KINDS[kind])
    networks = networks_of(pair, config)
    memory = config.method.memory(networks)
    before, remembered = weights_of(networks), copy.deepcopy(memory)
    batch = batch_of(config)
    made = step(pair, batch.images, stage, config, tags=batch.tags, masks=batch.masks, memory=memory)
    watched = config.method.watched(made.goals, memory)
    assert all(value.isfinite().all() and not value.requires_grad for value in watched.values())
    after = weights_of(networks)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert memory.keys() == remembered.keys() and all(torch.equal(memory[name], remembered[name]) for name in memory)


@each
@pytest.mark.parametrize("sound", [True, False])
def test_after_a_step_only_networks_that_do_not_learn_change_and_none_if_it_was_skipped(pair, fixed, kind, stage, sound):
    config = fixed(**KINDS[kind])
    networks = networks_of(pair, config)
    memory, now = config.method.memory(networks), stage_of(config, stage)
    made = taken(pair, config, stage)
    with torch.no_grad():
        watched = config.method.watched(made.goals, memory)
    before, remembered = weights_of(networks), copy.deepcopy(memory)
    number = next(n for n in range(config.steps) if config.method.stage(n, config.steps) == now)
    facts = config.method.follow(networks, watched, memory, number, config.steps, sound=sound)
    assert all(isinstance(value, float) for value in facts.values())
    after = weights_of(networks)
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    follows = {"student"} if kind in ("dsgc", "dsgc without correction") and stage == "expansion" else set()
    assert changed == (follows if sound else set())
    moved = {name for name in memory if not torch.equal(memory[name], remembered[name])}
    if kind in methods.PEERS:
        assert sound or not moved
    else:
        assert moved == ({"centre"} if follows and sound else set())


def test_over_all_weighs_each_mean_by_its_share_of_what_is_counted():
    parts = [
        {"a": Mean(torch.tensor(3.0), 1), "b": Mean(torch.tensor([1.0, 10.0]), torch.tensor([2, 0]))},
        {"a": Mean(torch.tensor(7.0), 3), "b": Mean(torch.tensor([4.0, 20.0]), torch.tensor([1, 5]))},
    ]
    added = [over_all(part, counted(*parts)) for part in parts]
    assert sum(part["a"] for part in added).item() == (3 + 3 * 7) / 4
    assert sum(part["b"] for part in added).item() == pytest.approx((2 * 1 + 4) / 3 + 20)
    alone = over_all(parts[1], counted(parts[1]))
    assert alone["a"] == 7 and alone["b"] == 24 and alone["a"].dtype == torch.float32


def test_over_all_of_nothing_is_zero_with_zero_gradient():
    value = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    (made,) = over_all({"a": Mean(value, torch.zeros(2))}, {"a": torch.zeros(2, dtype=torch.float64)}).values()
    made.backward()
    assert made == 0 and not value.grad.any()


# off is off


@pytest.mark.parametrize("stage", ["warm-up", "expansion"])
@pytest.mark.parametrize("parts", [1, 4])
def test_without_student_and_correction_the_papers_method_is_the_baseline_to_the_bit(pair, fixed, stage, parts):
    batch = in_parts(uneven_batch(), parts)
    made, found = gradients(pair, batch, stage, fixed(distillation=False, correction=False))
    base, expected = gradients(pair, batch, stage, fixed("base"))
    assert made.losses.keys() == base.losses.keys() and all(torch.equal(made.losses[name], base.losses[name]) for name in base.losses)
    renamed = {name.replace("teacher.", "network."): value for name, value in found.items()}
    assert renamed.keys() == expected.keys() and all(torch.equal(renamed[name], expected[name]) for name in expected)


def test_whole_runs_of_the_two_end_with_the_same_weights(tiny, tmp_path):
    one = train(tiny("base", out=str(tmp_path / "base"), pictures=0))
    other = train(tiny(out=str(tmp_path / "off"), pictures=0, distillation=False, correction=False))
    (mine,), (theirs,) = (checkpoint.load(run).weights.values() for run in (one, other))
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
    losses = [[line["losses"] for line in log_of(run) if "losses" in line] for run in (one, other)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("average", ["balanced", "pixels", "none"])
def test_the_bound_is_the_segmentation_loss_on_true_masks_and_sees_no_tag(pair, fixed, average):
    config, batch = fixed("masks", segmentation_average=average), uneven_batch(masks=True)
    made, found = gradients(pair, [batch], "masks", config)
    network = copy.deepcopy(pair[0])
    logits = F.interpolate(network.decode(network(batch.images).tokens), batch.masks.shape[1:], mode="bilinear", align_corners=False)
    loss = segmentation_loss(logits, batch.masks, average=average)
    loss.backward()
    assert made.losses["all"].item() == made.losses["seg"].item() == pytest.approx(loss.item(), rel=1e-6)
    expected = {f"network.{name}": value.grad for name, value in network.named_parameters() if value.grad is not None}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6 * value.abs().max().item())
    _, other = gradients(pair, [batch._replace(tags=1 - batch.tags)], "masks", config)
    assert all(torch.equal(other[name], found[name]) for name in found)


# evaluation


@kinds
@pytest.mark.parametrize("size", [(32, 32), (37, 54)], ids=str)
def test_views_are_the_scores_that_a_method_names_and_maps_to_draw(pair, fixed, kind, size):
    config = fixed(**KINDS[kind])
    batch = uneven_batch()
    images = F.interpolate(batch.images, size, mode="bilinear")
    network = networks_of(pair, config)[config.method.networks[0]].eval()
    with torch.no_grad():
        view = config.method.views(network, images, batch.tags, config.background_threshold)
    assert tuple(view.scored) == config.method.scores and view.scored["seg"].max() <= CLASSES
    for name, labels in view.scored.items():
        assert labels.shape == (8, *size) and labels.dtype == torch.int64, name
        allowed = [{0, IGNORE, *(int(tag) + 1 for tag in tags.nonzero())} for tags in batch.tags]
        if name != "seg":
            assert all(set(found.unique().tolist()) <= names for found, names in zip(labels, allowed, strict=True)), name
    for name, drawn in view.drawn.items():
        assert drawn.shape == (8, *size), name
        assert drawn.dtype == torch.int64 or (0 <= drawn.min() and drawn.max() <= 1), name


@kinds
def test_a_method_says_how_labels_are_corrected_if_it_corrects_them(pair, fixed, kind):
    config, batch = fixed(**KINDS[kind]), uneven_batch()
    network = networks_of(pair, config)[config.method.networks[0]].eval()
    with torch.no_grad():
        found = config.method.examined(network, network(fitted(batch.images, 8)), batch.images, batch.tags)
    assert (found is not None) == config.method.corrects
    if found is not None:
        assert found.initial.shape == found.corrected.shape == found.confidence.shape == found.rule.shape == (8, 16, 16)
        assert 0 <= found.noise.min() and found.noise.max() <= 1 and found.rule.max() < len(correction.RULES)
        changed = found.initial != found.corrected
        assert changed.any() == config.method.correction and (found.rule[changed] > 0).all()


# labels for a second network


@kinds
def test_the_label_that_is_written_is_the_one_that_is_scored(pair, fixed, images, kind):
    """At an image's own size, which is no multiple of the patch; with its CAM, and its confidence in [0, 1]."""
    config = fixed(**KINDS[kind])
    network = networks_of(pair, config)[config.method.networks[0]].eval()
    pictures, size = F.interpolate(images, (45, 52), mode="bilinear"), (45, 52)
    with torch.no_grad():
        made = config.method.pseudo(network, pictures, TAGS)
        scored = config.method.views(network, pictures, TAGS, 0.5).scored
    assert (made is None) == ("pseudo" not in scored)
    if made is None:
        return
    assert (made.initial is None) == ("pseudo_initial" not in scored) or not config.method.correction
    for label, name in ((made.labels, "pseudo"), (made.initial, "pseudo_initial")):
        assert label is None or torch.equal(enlarged(label, size).long(), scored[name])
    assert made.maps.shape[:2] == TAGS.shape and made.confidence.shape == made.labels.shape
    for values in (made.maps, made.confidence):
        assert -0.01 < values.min() <= values.max() < 1.01, "a refinement may go a little beyond"


@kinds
def test_labels_are_made_over_scales_or_it_is_said_that_they_are_not(pair, fixed, images, kind):
    config = fixed(**KINDS[kind])
    network = networks_of(pair, config)[config.method.networks[0]].eval()
    with torch.no_grad():
        if (plain := config.method.pseudo(network, images, TAGS)) is None:
            return
        try:
            made = config.method.pseudo(network, images, TAGS, (0.5, 1.0), mirror=True)
        except UserError as error:
            assert "leave out --scales and --mirror" in str(error)
            return
    assert made.labels.shape == plain.labels.shape and not torch.equal(made.confidence, plain.confidence)
