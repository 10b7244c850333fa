"""Eq. 4-5: patch token contrast against a loop over all pairs."""

import oracles
import pytest
import torch
from steps import added

from dsgc.ptc import absolute_pull_and_push, pairs, patch_token_contrast, pull_and_push

IGNORE = 255


def draw(seed, batch=2, dim=4, height=3, width=3, labels=(0, 1, 2, IGNORE)):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(batch, dim, height, width, generator=generator)
    index = torch.randint(len(labels), (batch, height, width), generator=generator)
    return tokens, torch.tensor(labels)[index]


@pytest.mark.parametrize("labels", [(0, 1, 2, IGNORE), (0, 254, IGNORE), (1,), (3, 7), (0, IGNORE)])
@pytest.mark.parametrize("seed", range(4))
def test_value_equals_the_loop_over_all_pairs(seed, labels):
    tokens, label = draw(seed, labels=labels)
    expected = oracles.patch_token_contrast(tokens.tolist(), label.tolist())
    assert patch_token_contrast(tokens, label).item() == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_gradient_equals_finite_differences_of_the_loop(seed):
    tokens, labels = draw(seed, batch=2, dim=3, height=2, width=3)
    tokens.requires_grad_()
    patch_token_contrast(tokens, labels).backward()

    def loop(flat):
        nested = torch.tensor(flat, dtype=torch.float64).view(tokens.shape).tolist()
        return oracles.patch_token_contrast(nested, labels.tolist())

    expected = oracles.numerical_gradient(loop, tokens.detach().flatten().tolist())
    torch.testing.assert_close(tokens.grad.flatten(), torch.tensor(expected), rtol=1e-3, atol=1e-5)


def test_pairs_lie_within_one_image():
    """One token of label 0 in each of two images: no pair at all, though both carry the label."""
    tokens, _ = draw(0, height=1, width=2)
    labels = torch.tensor([[[0, IGNORE]], [[IGNORE, 0]]])
    assert patch_token_contrast(tokens, labels).item() == 0


def test_means_are_over_the_pairs_of_the_batch_not_over_images():
    """Image 0 has 1 unordered pair of cosine 1, image 1 has 3 of cosine 0: the mean cosine is 1/4, not 1/2."""
    tokens = torch.zeros(2, 3, 1, 3)
    tokens[0, 0] = 1
    tokens[1, [0, 1, 2], 0, [0, 1, 2]] = 1
    labels = torch.tensor([[[5, 5, IGNORE]], [[5, 5, 5]]])
    assert patch_token_contrast(tokens, labels).item() == pytest.approx(0.75, abs=1e-6)


@pytest.mark.parametrize(
    ("second", "labels", "expected"),
    [
        ([2.0, 0.0], [1, 1], 0.0),  # alike, same direction: nothing to pull
        ([-1.0, 0.0], [1, 1], 2.0),
        ([0.0, 3.0], [1, 1], 1.0),
        ([2.0, 0.0], [0, 1], 1.0),
        ([-1.0, 0.0], [0, 1], -1.0),  # the paper takes no absolute value
        ([0.0, 3.0], [0, 1], 0.0),
        ([1.0, 0.0], [0, IGNORE], 0.0),
    ],
)
def test_hand_values_of_two_tokens(second, labels, expected):
    tokens = torch.tensor([[1.0, 0.0], second]).T.reshape(1, 2, 1, 2)
    assert patch_token_contrast(tokens, torch.tensor([[labels]])).item() == pytest.approx(expected, abs=1e-6)


def test_length_of_a_token_does_not_matter():
    tokens, labels = draw(3)
    scale = torch.linspace(0.1, 30, tokens[:, :1].numel()).view_as(tokens[:, :1])
    torch.testing.assert_close(patch_token_contrast(tokens * scale, labels), patch_token_contrast(tokens, labels))


def test_ignored_tokens_change_nothing_and_take_no_gradient():
    tokens, labels = draw(1)
    ignored = (labels == IGNORE)[:, None].expand_as(tokens)
    other = torch.where(ignored, 1e3 * torch.ones_like(tokens), tokens).requires_grad_()
    loss = patch_token_contrast(other, labels)
    torch.testing.assert_close(loss, patch_token_contrast(tokens, labels))
    loss.backward()
    assert ignored.any() and (other.grad[ignored] == 0).all() and other.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "labels",
    [
        torch.full((2, 2, 2), IGNORE),
        torch.tensor([[[0, IGNORE], [IGNORE, IGNORE]], [[IGNORE, IGNORE], [IGNORE, 2]]]),
    ],
)
def test_no_pair_is_zero_with_zero_gradient(labels):
    tokens = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = patch_token_contrast(tokens, labels)
    loss.backward()
    assert loss.item() == 0 and (tokens.grad == 0).all()


def test_one_label_has_no_push_and_two_single_tokens_have_no_pull():
    tokens, _ = draw(2, batch=1, height=1, width=2)
    pull, push = (patch_token_contrast(tokens, torch.tensor([[pair]])).item() for pair in ([4, 4], [4, 5]))
    assert pull == pytest.approx(1 - push, abs=1e-6)


@pytest.mark.parametrize("labels", [[1, 1, 1], [0, 0, 1], [0, 1, 2]])
@pytest.mark.parametrize("zeros", [1, 2, 3])
def test_zero_tokens_have_cosine_zero_with_every_token(zeros, labels):
    """Also with themselves: the diagonal that is taken off must count only what was put on."""
    tokens = torch.randn(1, 4, 1, 3, generator=torch.Generator().manual_seed(zeros))
    tokens[..., :zeros] = 0
    label = torch.tensor([[labels]])
    expected = oracles.patch_token_contrast(tokens.tolist(), label.tolist())
    tokens.requires_grad_()
    loss = patch_token_contrast(tokens, label)
    loss.backward()
    assert tokens.grad.isfinite().all()
    assert loss.item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e15, 1e30])
def test_extreme_tokens_give_finite_loss_and_gradient(scale):
    tokens, labels = draw(4)
    tokens = (tokens * scale).requires_grad_()
    loss = patch_token_contrast(tokens, labels)
    loss.backward()
    assert loss.isfinite() and tokens.grad.isfinite().all()


def test_large_map_of_one_label_keeps_its_precision():
    """28 x 28 tokens close to one direction: the loss is small, the sums behind it are not."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.ones(2, 16, 28, 28) + 0.01 * torch.randn(2, 16, 28, 28, generator=generator)
    unit = torch.nn.functional.normalize(tokens.double().flatten(2), dim=1)
    cosines = unit.transpose(1, 2) @ unit
    expected = 1 - (cosines.sum() - 2 * 784) / (2 * 784 * 783)
    loss = patch_token_contrast(tokens, torch.ones(2, 28, 28, dtype=torch.int64))
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)


# a batch that comes in parts


@pytest.mark.parametrize("seed", range(3))
def test_the_value_is_the_sum_of_two_means_each_over_its_own_pairs(seed):
    tokens, labels = draw(seed)
    means = pull_and_push(tokens, labels)
    assert means.shape == pairs(labels).shape == (2,) and means.dtype == torch.float64
    pull, push = means.tolist()
    assert patch_token_contrast(tokens, labels).item() == pytest.approx(pull + push, rel=1e-6)
    assert 0 <= pull <= 2 and -1 <= push <= 1


def uneven(seed):
    """Six images with very different numbers of pairs: rich ones, poor ones, and the last two without any."""
    tokens, labels = draw(seed, batch=6, labels=(0, 0, 1, 2, IGNORE))
    labels[1] = torch.where(torch.arange(9).view(3, 3) < 2, labels[1], IGNORE)
    labels[2], labels[4:] = 7, IGNORE
    labels[5, 0, 0] = 3
    return tokens, labels


@pytest.mark.parametrize("seed", range(5))
def test_pairs_are_those_of_a_loop(seed):
    labels = uneven(seed)[1]
    expected = [0, 0]
    for image in labels.flatten(1).tolist():
        for i, one in enumerate(image):
            for j, two in enumerate(image):
                if i != j and IGNORE not in (one, two):
                    expected[one != two] += 1
    counted = pairs(labels)
    assert counted.tolist() == expected and counted.dtype == torch.float64


@pytest.mark.parametrize("sizes", [(2, 2, 2), (1, 5), (4, 2), (1, 1, 1, 1, 1, 1), (6,)], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_values_and_gradients_of_the_parts_add_up_to_those_of_the_whole(seed, sizes):
    tokens, labels = uneven(seed)
    whole = tokens.clone().requires_grad_()
    loss = patch_token_contrast(whole, labels)
    loss.backward()
    parted = tokens.clone().requires_grad_()
    parts = zip(parted.split(sizes), labels.split(sizes), strict=True)
    losses = added((pull_and_push(*part), pairs(part[1])) for part in parts)
    sum(losses).backward()
    assert sum(losses).item() == pytest.approx(loss.item(), rel=1e-5)
    torch.testing.assert_close(parted.grad, whole.grad, rtol=1e-5, atol=1e-5 * whole.grad.abs().max().item())


def test_the_mean_of_the_parts_own_values_is_another_number():
    tokens, labels = uneven(0)
    losses = [patch_token_contrast(*part).item() for part in zip(tokens.split(2), labels.split(2), strict=True)]
    assert sum(losses) / 3 != pytest.approx(patch_token_contrast(tokens, labels).item(), rel=0.1)


def test_a_part_without_pairs_adds_nothing_and_takes_no_gradient():
    tokens, labels = uneven(1)
    last = tokens[4:].clone().requires_grad_()
    parts = zip((tokens[:4], last), labels.split((4, 2)), strict=True)
    first, loss = added((pull_and_push(*part), pairs(part[1])) for part in parts)
    loss.backward()
    assert first.item() == pytest.approx(patch_token_contrast(tokens, labels).item(), rel=1e-5)
    assert loss.item() == 0 and (last.grad == 0).all()


def absolute_by_loops(tokens, labels):
    """ToCo's form, pair by pair, in float64."""
    tokens, labels = tokens.double().flatten(2), labels.flatten(1)
    found = {True: [], False: []}
    for image, marks in zip(tokens, labels, strict=True):
        for i in range(len(marks)):
            for j in range(len(marks)):
                if i != j and 255 not in (marks[i], marks[j]):
                    cosine = float(image[:, i] @ image[:, j] / (image[:, i].norm() * image[:, j].norm()))
                    found[bool(marks[i] == marks[j])].append(abs(cosine))
    mean = {kind: sum(values) / max(len(values), 1) for kind, values in found.items()}
    return [(1 - mean[True]) / 2 if found[True] else 0.0, mean[False] / 2]


@pytest.mark.parametrize("seed", range(4))
def test_the_absolute_form_is_that_of_loops(seed):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(2, 5, 3, 3, generator=generator)
    labels = torch.tensor([0, 1, 2, 255])[torch.randint(0, 4, (2, 3, 3), generator=generator)]
    found = absolute_pull_and_push(tokens, labels)
    assert found.tolist() == pytest.approx(absolute_by_loops(tokens, labels), abs=1e-6)
    assert torch.equal(found, absolute_pull_and_push(-tokens, labels)), "a sign does not matter to it"


@pytest.mark.parametrize("label", [0, 255])
def test_the_absolute_form_of_no_pair_is_zero_and_of_the_other_as_it_was(label):
    tokens = torch.randn(1, 4, 2, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.full((1, 2, 2), label)
    found = absolute_pull_and_push(tokens, labels)
    found.sum().backward()
    assert found[1] == 0 and tokens.grad.isfinite().all() and bool(tokens.grad.any()) == (label == 0)
