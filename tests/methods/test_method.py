"""One training step of the paper's method: which losses it has, what it costs, and who learns from them."""

import math

import pytest
import torch
from steps import CLASSES, TAGS, step

from dsgc import dskd, ptc
from dsgc.cam import IGNORE
from dsgc.methods.dsgc import Dsgc


def forwards(network):
    """A list that grows by one with every forward pass."""
    calls = []
    network.register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize(
    ("stage", "names"), [("warm-up", {"cls", "ptc", "sim"}), ("expansion", {"cls", "ptc", "punc", "seg"})]
)
def test_each_stage_has_its_losses(pair, images, fixed, stage, names):
    taken = step(pair, images, stage, fixed())
    assert taken.losses.keys() == taken.stage.weights.keys() == names
    assert all(value.ndim == 0 and value.isfinite() for value in taken.losses.values())
    assert (taken.goals.labels is None) == (taken.goals.projected is None) == (stage == "warm-up")


STEPS = {
    "warm-up": ("warm-up", {}),
    "expansion": ("expansion", {}),
    "similarity goes on": ("expansion", {"similarity_after_warmup": True}),
    "labels of both": ("expansion", {"label_network": "both"}),
    "labels of the student": ("expansion", {"label_network": "student", "lambda3": 0.0}),
    "pixel grid": ("expansion", {"mixture_grid": "pixel"}),
}


@pytest.mark.parametrize("case", STEPS)
def test_a_step_costs_one_teacher_and_one_student_forward(pair, images, fixed, case):
    stage, changes = STEPS[case]
    teacher, student = map(forwards, pair)
    step(pair, images, stage, fixed(**changes))
    assert (len(teacher), len(student)) == (1, 1)


def test_without_distillation_there_is_no_student_and_no_term_of_it(pair, images, fixed):
    config = fixed(distillation=False)
    for stage, names in (("warm-up", {"cls", "ptc"}), ("expansion", {"cls", "ptc", "seg"})):
        taken = step(pair[:1], images, stage, config)
        assert taken.losses.keys() == taken.stage.weights.keys() == names
    assert config.method.networks == ("teacher",)


@pytest.mark.parametrize("case", STEPS)
def test_the_student_learns_in_the_warm_up_only(pair, images, fixed, case):
    stage, changes = STEPS[case]
    step(pair, images, stage, fixed(**changes)).backward()
    learns = [parameter.grad is not None for parameter in pair[1].parameters()]
    assert any(learns) if stage == "warm-up" else not any(learns)


@pytest.mark.parametrize("changes", [{}, {"lambda2": 0.0}, {"lambda1": 0.0}], ids=str)
def test_both_networks_learn_the_tags_in_the_warm_up(pair, images, fixed, changes):
    step(pair, images, "warm-up", fixed(**changes)).backward()
    for network in pair:
        for head in (network.class_classifier, network.patch_classifier, network.aux_classifier):
            assert head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("case", STEPS)
def test_gradients_are_finite_and_reach_the_first_layer(pair, images, fixed, case):
    stage, changes = STEPS[case]
    step(pair, images, stage, fixed(**changes)).backward()
    for parameter in pair[0].parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()
    assert pair[0].encoder.patch_embed.proj.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("blank", [0.0, 1.0])
def test_gradients_are_finite_on_images_of_one_colour_without_tags(pair, fixed, blank):
    for stage in ("warm-up", "expansion"):
        step(pair, torch.full((2, 3, 32, 32), blank), stage, fixed(), tags=torch.zeros(2, CLASSES)).backward()
    for network in pair:
        assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in network.parameters())


UNUSED = {"lambda1": (ptc, "pull_and_push"), "lambda2": (dskd, "flip_similarity_loss")}
UNUSED |= {"lambda3": (dskd, "exchange_losses"), "lambda4": (Dsgc, "pseudo_labels")}


@pytest.mark.parametrize("name", UNUSED)
def test_a_term_of_weight_0_is_not_computed(pair, images, fixed, monkeypatch, name):
    def refuse(*_, **__):
        raise AssertionError("computed")

    monkeypatch.setattr(*UNUSED[name], refuse)
    stage = "warm-up" if name == "lambda2" else "expansion"
    with pytest.raises(AssertionError, match="computed"):
        step(pair, images, stage, fixed())
    step(pair, images, stage, fixed(**{name: 0.0}))


def test_without_its_terms_the_student_does_not_run_in_the_expansion(pair, images, fixed):
    calls = forwards(pair[1])
    step(pair, images, "expansion", fixed(lambda3=0.0))
    assert not calls


def test_the_centre_is_taken_off_unless_centring_is_off(pair, images, fixed):
    centre = torch.linspace(-1, 1, 32)

    def punc(centre, **changes):
        return step(pair, images, "expansion", fixed(**changes), memory={"centre": centre}).losses["punc"].item()

    assert punc(centre) != pytest.approx(punc(0 * centre), rel=1e-3)
    assert punc(centre, centre_momentum=1.0) == pytest.approx(punc(0 * centre, centre_momentum=1.0))


def test_classes_of_the_patch_labels_can_be_left_out_of_ptc(pair, images, fixed, monkeypatch):
    seen = []
    monkeypatch.setattr(ptc, "pull_and_push", lambda tokens, labels: seen.append(labels) or tokens.sum() * torch.zeros(2))
    for classes in (True, False):
        step(pair, images, "expansion", fixed(ptc_classes=classes, ptc_low=0.3, ptc_high=0.4))
    by_class, binary = seen
    assert by_class[by_class != IGNORE].max() > 1
    assert torch.equal(binary, torch.where(by_class == IGNORE, by_class, by_class.clamp(max=1)))


def test_true_masks_train_the_decoder_alone(pair, fixed):
    masks = torch.randint(0, CLASSES + 1, (2, 32, 32), generator=torch.Generator().manual_seed(0))
    taken = step(pair, torch.rand(2, 3, 32, 32), "masks", fixed("masks"), tags=TAGS[:2], masks=masks)
    assert taken.losses.keys() == {"seg"}
    assert 0 < taken.losses["seg"].item() < 3 * math.log(CLASSES + 1)
    taken.backward()
    assert pair[0].patch_classifier.weight.grad is None
    assert pair[0].decoder[0].weight.grad.isfinite().all()
