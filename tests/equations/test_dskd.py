"""Eq. 6-10: the EMA, the flip similarity, the tag loss, the uncertain region and its cross-entropy."""

import math

import oracles
import pytest
import torch
from steps import added
from torch import nn

from dsgc import dskd


def module(seed):
    """Parameters of several shapes, float buffers and an integer buffer."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2)).double()
    net(torch.randn(4, 2, 4, 4, dtype=torch.float64))  # moves the running statistics
    for _ in range(seed):
        net[1].num_batches_tracked += 1
    return net


def flat(tensors):
    return torch.cat([t.detach().double().flatten() for t in tensors])


# Eq. 6


@pytest.mark.parametrize("momentum", [0.0, 0.1, 0.5, 0.9, 0.996, 1.0])
def test_ema_equals_the_formula_and_copies_buffers(momentum):
    student, teacher = module(1), module(2)
    before, target = flat(student.parameters()), flat(teacher.parameters())
    dskd.ema_update(student, teacher, momentum)
    expected = torch.tensor(oracles.ema(before.tolist(), target.tolist(), momentum), dtype=torch.float64)
    torch.testing.assert_close(flat(student.parameters()), expected, rtol=1e-14, atol=1e-15)
    assert torch.equal(flat(teacher.parameters()), target)
    for mine, theirs in zip(student.buffers(), teacher.buffers(), strict=True):
        assert torch.equal(mine, theirs) and mine.dtype == theirs.dtype and mine is not theirs


@pytest.mark.parametrize(("momentum", "survivor"), [(0.0, 2), (1.0, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ema_at_momentum_0_and_1_is_bitwise_a_copy(momentum, survivor, dtype):
    student, teacher = module(1).to(dtype), module(2).to(dtype)
    dskd.ema_update(student, teacher, momentum)
    assert torch.equal(flat(student.parameters()), flat(module(survivor).to(dtype).parameters()))


def test_ema_repeated_approaches_the_teacher_geometrically():
    student, teacher = module(1), module(2)
    gap = flat(student.parameters()) - flat(teacher.parameters())
    for _ in range(10):
        dskd.ema_update(student, teacher, 0.8)
    torch.testing.assert_close(flat(student.parameters()) - flat(teacher.parameters()), gap * 0.8**10)


def test_ema_is_in_place_and_leaves_no_graph():
    student, teacher = module(1), module(2)
    held = list(student.parameters())
    dskd.ema_update(student, teacher, 0.5)
    assert all(a is b for a, b in zip(held, student.parameters(), strict=True))
    assert all(p.requires_grad and p.grad_fn is None and p.grad is None for p in held)


@pytest.mark.parametrize("start", [0.0, 0.9, 0.996, 1.0])
def test_momentum_runs_from_start_to_one_without_falling(start):
    values = [dskd.momentum_at(i / 50, start) for i in range(51)]
    assert values[0] == pytest.approx(start, abs=1e-15) and values[-1] == 1
    assert values[25] == pytest.approx((1 + start) / 2)
    assert all(a <= b for a, b in zip(values, values[1:], strict=False))
    assert dskd.momentum_at(-0.5, start) == values[0] and dskd.momentum_at(1.5, start) == 1


# Eq. 7


@pytest.mark.parametrize("axis", ["channels", "tokens"])
@pytest.mark.parametrize("seed", range(4))
def test_flip_similarity_equals_the_loop(seed, axis):
    generator = torch.Generator().manual_seed(seed)
    teacher, student = torch.randn(2, 2, 5, 3, 4, generator=generator)
    expected = oracles.flip_similarity_loss(teacher.tolist(), student.tolist(), axis)
    got = dskd.flip_similarity_loss(teacher, student, axis=axis)
    assert got.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_flip_similarity_compares_channels_unless_told():
    teacher, student = torch.randn(2, 1, 3, 2, 4, generator=torch.Generator().manual_seed(0))
    assert dskd.flip_similarity_loss(teacher, student) == dskd.flip_similarity_loss(teacher, student, axis="channels")
    assert dskd.flip_similarity_loss(teacher, student) != dskd.flip_similarity_loss(teacher, student, axis="tokens")


@pytest.mark.parametrize("axis", ["channels", "tokens"])
def test_flip_similarity_of_a_mirrored_copy_is_minus_one_and_of_its_negative_plus_one(axis):
    tokens = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    assert dskd.flip_similarity_loss(tokens.flip(-1), 3 * tokens, axis=axis).item() == pytest.approx(-1, abs=1e-6)
    assert dskd.flip_similarity_loss(-tokens.flip(-1), tokens, axis=axis).item() == pytest.approx(1, abs=1e-6)
    assert dskd.flip_similarity_loss(tokens, tokens, axis=axis).item() > -0.9  # not mirrored: no agreement
    assert dskd.flip_similarity_loss(tokens.flip(-2), tokens, axis=axis).item() > -0.9  # the wrong mirror


@pytest.mark.parametrize("axis", ["channels", "tokens"])
@pytest.mark.parametrize("value", [0.0, 1e-30, 1e30])
def test_flip_similarity_of_extreme_tokens_is_finite_with_finite_gradient(value, axis):
    teacher = torch.full((1, 3, 2, 2), value, requires_grad=True)
    student = torch.full((1, 3, 2, 2), value, requires_grad=True)
    loss = dskd.flip_similarity_loss(teacher, student, axis=axis)
    loss.backward()
    assert loss.isfinite() and teacher.grad.isfinite().all() and student.grad.isfinite().all()


# Eq. 8


@pytest.mark.parametrize("seed", range(4))
def test_tag_loss_equals_the_loop(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(3, 5, generator=generator)
    tags = (torch.rand(3, 5, generator=generator) < 0.4).long()
    expected = oracles.tag_loss(logits.tolist(), tags.tolist())
    assert dskd.tag_loss(logits, tags).item() == pytest.approx(expected, rel=1e-5)


def test_tag_loss_of_undecided_logits_is_log_two():
    assert dskd.tag_loss(torch.zeros(2, 7), torch.ones(2, 7)).item() == pytest.approx(math.log(2))


def test_tag_loss_of_huge_logits_is_zero_or_huge_but_finite():
    logits = torch.tensor([[1e30, -1e30]], requires_grad=True)
    right, wrong = dskd.tag_loss(logits, torch.tensor([[1, 0]])), dskd.tag_loss(logits, torch.tensor([[0, 1]]))
    (right + wrong).backward()
    assert right.item() == 0 and wrong.item() == pytest.approx(1e30) and logits.grad.isfinite().all()


# Eq. 9


@pytest.mark.parametrize("seed", range(3))
def test_uncertain_region_equals_the_loop(seed):
    maps = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed))
    got = dskd.uncertain_region(maps, 0.5, 0.8)
    assert got.dtype == torch.bool and got.any() and not got.all()
    assert got.tolist() == oracles.uncertain_region(maps.tolist(), 0.5, 0.8)


def test_uncertain_region_leaves_out_both_thresholds():
    maps = torch.tensor([0.0, 0.2, 0.21, 0.69, 0.7, 1.0]).view(1, 1, 1, 6)
    assert dskd.uncertain_region(maps, 0.2, 0.7).flatten().tolist() == [False, False, True, True, False, False]


@pytest.mark.parametrize(("low", "high"), [(0.7, 0.2), (-0.1, 0.5), (0.5, 1.1), (float("nan"), 0.5)])
def test_uncertain_region_refuses_thresholds_out_of_order(low, high):
    with pytest.raises(ValueError, match="low"):
        dskd.uncertain_region(torch.zeros(1, 1, 2, 2), low, high)


# Eq. 10


def draw_projections(seed):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = 2 * torch.randn(2, 2, 6, 3, 4, generator=generator)
    region = torch.rand(2, 3, 4, generator=generator) < 0.5
    return student, teacher, region, torch.randn(6, generator=generator)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("temperatures", [(1.0, 1.0), (0.04, 1.0), (0.5, 0.1)])
@pytest.mark.parametrize("seed", range(2))
def test_uncertain_region_loss_equals_the_loop(seed, temperatures, centred):
    student, teacher, region, centre = draw_projections(seed)
    names = dict(zip(("student_temperature", "teacher_temperature"), temperatures, strict=True))
    got = dskd.uncertain_region_loss(student, teacher, region, centre=centre if centred else None, **names)
    lists = (student.tolist(), teacher.tolist(), region.tolist(), centre.tolist() if centred else None)
    assert got.item() == pytest.approx(oracles.uncertain_region_loss(*lists, **names), rel=1e-4)


def test_uncertain_region_loss_is_the_printed_formula_by_default():
    student, teacher, region, _ = draw_projections(5)
    printed = -(student.softmax(1) * teacher.log_softmax(1)).sum(1)[region].mean()
    torch.testing.assert_close(dskd.uncertain_region_loss(student, teacher, region), printed)


def test_uncertain_region_loss_teaches_the_teacher_only_and_inside_the_region_only():
    student, teacher, region, _ = draw_projections(0)
    student.requires_grad_(), teacher.requires_grad_()
    dskd.uncertain_region_loss(student, teacher, region).backward()
    assert student.grad is None
    assert (teacher.grad.abs().sum(1) > 0).eq(region).all()
    expected = (teacher.softmax(1) - student.softmax(1)) * region[:, None] / region.sum()
    torch.testing.assert_close(teacher.grad, expected.detach(), rtol=1e-4, atol=1e-6)


def test_uncertain_region_loss_ignores_what_lies_outside():
    student, teacher, region, _ = draw_projections(1)
    changed = torch.where(region[:, None], teacher, 1e30)
    expected = dskd.uncertain_region_loss(student, teacher, region)
    torch.testing.assert_close(dskd.uncertain_region_loss(student, changed, region), expected)


@pytest.mark.parametrize("scale", [1.0, 1e30])
def test_empty_region_is_zero_with_zero_gradient(scale):
    student, teacher, region, _ = draw_projections(2)
    teacher = (scale * teacher).requires_grad_()
    loss = dskd.uncertain_region_loss(scale * student, teacher, torch.zeros_like(region))
    loss.backward()
    assert loss.item() == 0 and (teacher.grad == 0).all()


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("sizes", [(2, 2), (1, 3), (1, 1, 1, 1)], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_values_and_gradients_of_the_parts_add_up_to_those_of_the_whole(seed, sizes, centred):
    """The region is large in the first image, a single token in the second, and empty in the last two."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = 2 * torch.randn(2, 4, 6, 3, 4, generator=generator, dtype=torch.float64)
    region = torch.rand(4, 3, 4, generator=generator) < 0.8
    region[1:] = False
    region[1, 2, 3] = True
    options = {"centre": torch.randn(6, generator=generator) if centred else None, "student_temperature": 0.5}
    whole = teacher.clone().requires_grad_()
    loss = dskd.uncertain_region_loss(student, whole, region, **options)
    loss.backward()
    parted = teacher.clone().requires_grad_()
    parts = list(zip(student.split(sizes), parted.split(sizes), region.split(sizes), strict=True))
    losses = added((dskd.uncertain_region_loss(*part, **options), part[2].sum()) for part in parts)
    sum(losses).backward()
    assert sum(losses).item() == pytest.approx(loss.item(), rel=1e-5)
    torch.testing.assert_close(parted.grad, whole.grad, rtol=1e-5, atol=1e-5 * whole.grad.abs().max().item())
    own = sum(dskd.uncertain_region_loss(*part, **options).item() for part in parts) / len(parts)
    assert own != pytest.approx(loss.item(), rel=0.05)  # the mean of the parts' own means is another number


def test_huge_projections_give_finite_loss_and_gradient():
    student, teacher, region, _ = draw_projections(3)
    teacher = (1e30 * teacher).requires_grad_()
    loss = dskd.uncertain_region_loss(1e30 * student, teacher, region)
    loss.backward()
    assert loss.isfinite() and loss > 0 and teacher.grad.isfinite().all()


def test_centre_moves_towards_the_mean_projection_in_place():
    student, _, _, centre = draw_projections(4)
    expected = 0.9 * centre + 0.1 * student.mean((0, 2, 3))
    dskd.centre_update(centre, student.mean((0, 2, 3)), 0.9)
    torch.testing.assert_close(centre, expected)


@pytest.mark.parametrize("seed", range(2))
def test_a_mean_by_image_is_the_mean_of_each_images_own_loss(seed):
    """Eq. 10 is written for one image; of a batch the images that have a region count alike, whatever its size."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, 4, 7, 3, 5, generator=generator)
    region = torch.rand(4, 3, 5, generator=generator) < torch.tensor([0.2, 0.9, 0.0, 0.5])[:, None, None]
    names = {"centre": torch.randn(7, generator=generator), "student_temperature": 0.5, "teacher_temperature": 2.0}
    losses = dskd.exchange_losses(student, teacher, **names)
    own = [dskd.uncertain_region_loss(student[b : b + 1], teacher[b : b + 1], region[b : b + 1], **names) for b in (0, 1, 3)]
    torch.testing.assert_close(dskd.region_means(losses[region], region), torch.stack(own))
    assert dskd.region_means(losses[region[2:3].expand(4, -1, -1)], torch.zeros_like(region)).shape == (0,)
