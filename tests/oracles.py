"""The paper's equations once more, slowly: float64 numbers in nested lists, loops over images, classes and pixels.

Written from the paper, not from the package; the tests compare the two. Lists are indexed as the tensors are, so
tokens[b][d][y][x]. Numbers in parentheses are the paper's equations.
"""

import math

IGNORE = 255


def dot(u, v):
    return sum(a * b for a, b in zip(u, v, strict=True))


def cosine(u, v):
    """(5); 0 where a vector is 0."""
    norms = math.sqrt(dot(u, u) * dot(v, v))
    return dot(u, v) / norms if norms else 0.0


def mean(values):
    """The mean; 0 of an empty set, as the package promises of every loss."""
    return sum(values) / len(values) if values else 0.0


def places(maps):
    """(y, x) over one map[y][x]."""
    return [(y, x) for y in range(len(maps)) for x in range(len(maps[0]))]


def vector(tokens, y, x):
    """The D numbers of one image's tokens[d][y][x] at one place."""
    return [channel[y][x] for channel in tokens]


def softmax(values):
    top = max(values)
    total = sum(math.exp(v - top) for v in values)
    return [math.exp(v - top) / total for v in values]


def numerical_gradient(function, values, step=1e-5):
    """Central differences of function(flat list of floats) -> float."""

    def moved(i, by):
        return function([*values[:i], values[i] + by, *values[i + 1 :]])

    return [(moved(i, step) - moved(i, -step)) / (2 * step) for i in range(len(values))]


# cam: (1)-(3)


def class_activation_map(tokens, weight, subtract_minimum=False):
    """(1), (2)."""
    maps = []
    for image in tokens:
        maps.append([])
        for theta in weight:
            m = [
                [max(0.0, dot(theta, token)) for token in zip(*rows, strict=True)] for rows in zip(*image, strict=True)
            ]
            least = min(min(row) for row in m) if subtract_minimum else 0.0
            m = [[v - least for v in row] for row in m]
            peak = max(max(row) for row in m)
            maps[-1].append([[v / peak if peak > 0 else 0.0 for v in row] for row in m])
    return maps


def patch_labels(cam, tags, low, high):
    """(3) of the strongest tagged class."""
    labels = []
    for maps, tag in zip(cam, tags, strict=True):
        label = [[IGNORE for _ in row] for row in maps[0]]
        for y, x in places(maps[0]):
            best, winner = max(((m[y][x], -c) for c, m in enumerate(maps) if tag[c]), default=(0.0, 0))
            if best > high:
                label[y][x] = 1 - winner
            elif best < low:
                label[y][x] = 0
        labels.append(label)
    return labels


# ptc: (4)


def patch_token_contrast(tokens, labels):
    """(4) over all ordered pairs i != j within each image; each mean is over the pairs of the batch."""
    same, other = [], []
    for image, label in zip(tokens, labels, strict=True):
        kept = [(vector(image, y, x), label[y][x]) for y, x in places(label) if label[y][x] != IGNORE]
        for i, (p, a) in enumerate(kept):
            for j, (q, b) in enumerate(kept):
                if i != j:
                    (same if a == b else other).append(cosine(p, q))
    return mean([1 - s for s in same]) + mean(other)


# dskd: (6)-(10)


def ema(student, teacher, momentum):
    """(6) with beta = 1 - momentum, on flat lists."""
    return [(1 - momentum) * v + momentum * s for s, v in zip(student, teacher, strict=True)]


def flip_similarity_loss(teacher, student, axis):
    """(7), by channel or by token."""
    similarities = []
    for t, s in zip(teacher, student, strict=True):
        back = [[row[::-1] for row in channel] for channel in t]
        if axis == "channels":
            pairs = [(sum(a, []), sum(b, [])) for a, b in zip(back, s, strict=True)]
        else:
            pairs = [(vector(back, y, x), vector(s, y, x)) for y, x in places(s[0])]
        similarities += [cosine(a, b) for a, b in pairs]
    return -mean(similarities)


def tag_loss(logits, tags):
    """(8), averaged over images and classes."""
    terms = []
    for row, tag in zip(logits, tags, strict=True):
        for z, y in zip(row, tag, strict=True):
            p = 1 / (1 + math.exp(-z))
            terms.append(-(y * math.log(p) + (1 - y) * math.log(1 - p)))
    return mean(terms)


def uncertain_region(cam, low, high):
    """(9)."""
    columns = range(len(cam[0][0][0]))
    return [[[low < max(r[x] for r in rows) < high for x in columns] for rows in zip(*m, strict=True)] for m in cam]


def uncertain_region_loss(student, teacher, region, centre=None, student_temperature=1.0, teacher_temperature=1.0):
    """(10)."""
    terms = []
    for s, t, roi in zip(student, teacher, region, strict=True):
        for y, x in places(roi):
            if roi[y][x]:
                centred = [v - (centre[k] if centre else 0.0) for k, v in enumerate(vector(s, y, x))]
                target = softmax([v / student_temperature for v in centred])
                prediction = softmax([v / teacher_temperature for v in vector(t, y, x)])
                terms.append(-sum(p * math.log(q) for p, q in zip(target, prediction, strict=True)))
    return mean(terms)


# gmm: (11)-(17), one row of values at a time


def normal(x, mu, variance):
    """(11)."""
    return math.exp(-((x - mu) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)


def mixture_density(x, mu, variance, weight):
    """(12)."""
    return sum(w * normal(x, m, v) for m, v, w in zip(mu, variance, weight, strict=True))


def posterior(values, mu, variance, weight):
    """(13): gamma[k][n]."""
    return [
        [w * normal(x, m, v) / mixture_density(x, mu, variance, weight) for x in values]
        for m, v, w in zip(mu, variance, weight, strict=True)
    ]


def m_step(values, gamma):
    """(14)-(16)."""
    mu = [dot(g, values) / sum(g) for g in gamma]
    variance = [dot(g, [(x - m) ** 2 for x in values]) / sum(g) for g, m in zip(gamma, mu, strict=True)]
    return mu, variance, [sum(g) / len(values) for g in gamma]


def em(values, iterations):
    """That many iterations from the start the package documents: the mean -/+ one standard deviation, weights 1/2."""
    centre = mean(values)
    spread = mean([(x - centre) ** 2 for x in values])
    mu, variance, weight = [centre - math.sqrt(spread), centre + math.sqrt(spread)], [spread] * 2, [0.5, 0.5]
    for _ in range(iterations):
        mu, variance, weight = m_step(values, posterior(values, mu, variance, weight))
    return mu, variance, weight


def log_likelihood(values, mu, variance, weight):
    """Per value, in nats."""
    return mean([math.log(mixture_density(x, mu, variance, weight)) for x in values])


def noise_probability(values, mu, variance, weight):
    """(17)."""
    return posterior(values, mu, variance, weight)[mu.index(min(mu))]


# correction: (18)-(21)


def neighbours(y, x, height, width):
    """(place or None) up, down, left, right."""
    around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
    return [p if 0 <= p[0] < height and 0 <= p[1] < width else None for p in around]


def neighbour_similarity(features):
    """(18), (20): similarity[b][k][y][x], None off the image."""
    result = []
    for image in features:
        height, width = len(image[0]), len(image[0][0])
        maps = [[[None] * width for _ in range(height)] for _ in range(4)]
        for y, x in places(image[0]):
            for k, place in enumerate(neighbours(y, x, height, width)):
                if place:
                    maps[k][y][x] = cosine(vector(image, y, x), vector(image, *place))
        result.append(maps)
    return result


def correct(labels, noise, similarity, high, low, tau):
    """(19), (21) on one image: labels[y][x], noise[y][x], similarity[k][y][x]; an unsure pixel alone becomes 255."""
    height, width = len(labels), len(labels[0])
    out = [list(row) for row in labels]
    for y, x in places(labels):
        near = [(k, place) for k, place in enumerate(neighbours(y, x, height, width)) if place]
        boundary = any(similarity[k][y][x] < tau for k, _ in near)
        if noise[y][x] > high:
            out[y][x] = 0 if boundary else IGNORE
        elif low < noise[y][x] < high:
            best, label = -math.inf, IGNORE
            for k, place in near:
                if similarity[k][y][x] > best:
                    best, label = similarity[k][y][x], labels[place[0]][place[1]]
            out[y][x] = 0 if boundary else label
    return out


# objective and metrics: (22)-(24)


def segmentation_loss(logits, labels, average="pixels"):
    """(22)."""
    terms = {True: [], False: []}  # by "is background"
    for image, label in zip(logits, labels, strict=True):
        for y, x in places(label):
            if label[y][x] != IGNORE:
                terms[label[y][x] == 0].append(-math.log(softmax(vector(image, y, x))[label[y][x]]))
    if average == "none":
        return sum(terms[True] + terms[False]) / len(labels)
    return (mean(terms[True]) + mean(terms[False])) / 2 if average == "balanced" else mean(terms[True] + terms[False])


def total_loss(cls, ptc, sim, punc, seg, lambdas):
    """(23)."""
    return cls + lambdas[0] * ptc + lambdas[1] * sim + lambdas[2] * punc + lambdas[3] * seg


def iou(prediction, target, num_classes, ignore=IGNORE):
    """(24) class by class on flat lists; None for a class that occurs nowhere."""
    pairs = [(p, t) for p, t in zip(prediction, target, strict=True) if t != ignore]
    result = []
    for c in range(num_classes):
        both = sum(p == c and t == c for p, t in pairs)
        either = sum(p == c or t == c for p, t in pairs)
        result.append(both / either if either else None)
    return result


# refine: Ru et al. 2022


def refinement_weights(image, y, x, dilations):
    """[(place, weight)] of one pixel of image[channel][y][x]; places beyond an edge are moved onto it."""
    height, width = len(image[0]), len(image[0][0])
    steps = [(dy * d, dx * d) for d in dilations for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
    near = [(min(max(y + dy, 0), height - 1), min(max(x + dx, 0), width - 1)) for dy, dx in steps]

    def deviation(values):
        return math.sqrt(sum((v - mean(values)) ** 2 for v in values) / (len(values) - 1))

    colour = [0.0] * len(near)
    for channel in image:
        values = [channel[v][u] for v, u in near]
        scale = 0.3 * deviation(values) + 1e-8
        colour = [c - ((v - channel[y][x]) / scale) ** 2 / len(image) for c, v in zip(colour, values, strict=True)]
    lengths = [math.hypot(dy, dx) for dy, dx in steps]
    position = [-((length / (0.3 * deviation(lengths))) ** 2) for length in lengths]
    weights = [(c + 0.01 * p) / 1.01 for c, p in zip(softmax(colour), softmax(position), strict=True)]
    return list(zip(near, weights, strict=True))


def refine(maps, image, dilations, iterations):
    """One image's maps[c][y][x]."""
    table = {place: refinement_weights(image, *place, dilations) for place in places(image[0])}
    for _ in range(iterations):
        maps = [
            [[sum(w * m[v][u] for (v, u), w in table[y, x]) for x in range(len(m[0]))] for y in range(len(m))]
            for m in maps
        ]
    return maps
