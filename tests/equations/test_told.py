"""How well tags are told: average precision and F1, against scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score

from dsgc.metrics import average_precision, f1_scores


def drawn(seed, images=23, classes=4, values=0):
    generator = torch.Generator().manual_seed(seed)
    tags = (torch.rand(images, classes, generator=generator) < 0.4).float()
    scores = torch.randn(images, classes, generator=generator) + tags
    return (scores * values).round() if values else scores, tags


@pytest.mark.parametrize("values", [0, 1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_scikit_learn_s_also_of_equal_scores(seed, values):
    scores, tags = drawn(seed, values=values)
    expected = average_precision_score(tags.numpy(), scores.numpy(), average=None)
    assert np.allclose(average_precision(scores, tags).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_f1_is_scikit_learn_s(seed):
    scores, tags = drawn(seed)
    expected = f1_score(tags.numpy(), (scores > 0).numpy(), average=None)
    assert np.allclose(f1_scores(scores > 0, tags).numpy(), expected, atol=1e-12)


def test_the_order_of_images_with_equal_scores_is_of_no_account():
    scores, tags = drawn(1, values=1)
    turned = torch.randperm(len(scores), generator=torch.Generator().manual_seed(0))
    assert torch.equal(average_precision(scores, tags), average_precision(scores[turned], tags[turned]))
    assert torch.equal(average_precision(torch.zeros(4, 1), torch.tensor([[1.0], [0], [0], [0]])), torch.tensor([0.25]).double())


def test_a_class_that_no_image_has_is_not_a_number_and_ends_are_reached():
    scores, tags = torch.tensor([[2.0, 1.0], [-1.0, 3.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert average_precision(scores, tags)[0] == 1 and average_precision(scores, tags)[1].isnan()
    assert f1_scores(scores > 0, tags)[0] == 1 and f1_scores(scores > 0, tags)[1].isnan()
    assert f1_scores(scores < -5, tags)[0] == 0
