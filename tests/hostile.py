"""Numbers that break careless arithmetic, as strategies of hypothesis: every image of a batch may be of another kind.

Examples are the same at every run, whatever else has been imported, and nothing is stored.
"""

from unittest import mock

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture import providers

settings.register_profile("dsgc", derandomize=True, deadline=None, max_examples=80, database=None)
settings.load_profile("dsgc")
# By itself hypothesis tries constants of all modules imported so far, and keeps them in a folder `.hypothesis`.
mock.patch.object(providers, "_get_local_constants", providers.Constants).start()

FLOATS = (torch.float32, torch.float64)
GRIDS = st.sampled_from([(1, 1), (1, 4), (3, 1), (2, 2), (3, 4)])
TURNS = {  # of a grid
    "left to right": lambda maps: maps.flip(-1),
    "upside down": lambda maps: maps.flip(-2),
    "transposed": lambda maps: maps.transpose(-1, -2),
}


def normal(generator, shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def uniform(generator, shape):
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def ten_to(least, most):
    """Sizes anywhere between two powers of ten, of either sign."""
    return lambda generator, shape: normal(generator, shape).sign() * 10 ** (least + (most - least) * uniform(generator, shape))


def one_huge(generator, shape):
    numbers = normal(generator, shape)
    numbers.view(-1)[int(torch.randint(numbers.numel(), (), generator=generator))] = 1e30
    return numbers


GENTLE = {  # what a network may well give, and its limits
    "zero": lambda generator, shape: torch.zeros(shape, dtype=torch.float64),
    "constant": lambda generator, shape: normal(generator, ()).expand(shape).clone(),
    "ordinary": normal,
    "half of it zero": lambda generator, shape: normal(generator, shape) * (uniform(generator, shape) < 0.5),
    "few values": lambda generator, shape: (2 * normal(generator, shape)).round() / 2,
    "small": lambda generator, shape: 1e-6 * normal(generator, shape),
    "large": lambda generator, shape: 1e6 * normal(generator, shape),
    "uneven": ten_to(-6, 6),
}
HARSH = GENTLE | {  # nothing is infinite; squares may be
    "subnormal": lambda generator, shape: 1e-40 * normal(generator, shape),
    "all but nothing": lambda generator, shape: 1e-30 * normal(generator, shape),
    "at the limit of squares": lambda generator, shape: 1e19 * normal(generator, shape),
    "huge": lambda generator, shape: 1e30 * normal(generator, shape),
    "one huge": one_huge,
    "every size": ten_to(-40, 30),
}
SHARES = {  # numbers in [0, 1], as activations and noise probabilities are
    "zero": GENTLE["zero"],
    "one": lambda generator, shape: torch.ones(shape, dtype=torch.float64),
    "constant": lambda generator, shape: uniform(generator, ()).expand(shape).clone(),
    "ordinary": uniform,
    "zeros and ones": lambda generator, shape: uniform(generator, shape).round(),
    "four values": lambda generator, shape: (3 * uniform(generator, shape)).round() / 3,
    "mostly zero": lambda generator, shape: uniform(generator, shape) * (uniform(generator, shape) < 0.1),
    "close to zero": lambda generator, shape: uniform(generator, shape) ** 8,
    "every size": lambda generator, shape: 10 ** (-40 * uniform(generator, shape)),
    "subnormal": lambda generator, shape: 1e-40 * uniform(generator, shape),
    "all but constant": lambda generator, shape: 0.5 + 0.003 * uniform(generator, shape),
}


def generators():
    return st.integers(0, 2**32 - 1).map(lambda seed: torch.Generator().manual_seed(seed))


@st.composite
def tensors(draw, *shape, kinds=HARSH, dtypes=FLOATS):
    """A tensor of the shape, each entry of dim 0 of a kind of its own."""
    generator = draw(generators())
    rows = [kinds[draw(st.sampled_from(sorted(kinds)))](generator, shape[1:]) for _ in range(shape[0])]
    return torch.stack(rows).to(draw(st.sampled_from(dtypes)))


@st.composite
def label_maps(draw, *shape, classes=3, top=None):
    """Labels 0..classes, or 255: mixed, of one value, none at all; where `top` is given, the last class is called so."""
    values = torch.tensor([*range(classes), classes if top is None else top, 255])
    chosen = values[draw(st.lists(st.integers(0, len(values) - 1), min_size=1, max_size=len(values)))]
    return chosen[torch.randint(len(chosen), shape, generator=draw(generators()))]


@st.composite
def tags(draw, *shape):
    """Tags (B, C) in {0, 1}; many an image has none or all."""
    share = torch.tensor([draw(st.sampled_from([0.0, 0.5, 1.0])) for _ in range(shape[0])])
    return (torch.rand(shape, generator=draw(generators())) < share[:, None]).long()


@st.composite
def orders(draw, number):
    """A permutation of 0..number - 1."""
    return torch.randperm(number, generator=draw(generators()))


@st.composite
def thresholds(draw):
    """low <= high in [0, 1]: often 0, 1 or equal."""
    return tuple(sorted(draw(st.tuples(*[st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]) | st.floats(0, 1)] * 2))))


def around(threshold, dtype):
    """The numbers just below and above a threshold, as far as they are in [0, 1], and the threshold itself: (3,)."""
    value, ends = torch.tensor(threshold, dtype=dtype), torch.tensor([0, 1], dtype=dtype)
    return torch.cat([value.nextafter(ends), value[None]])
