"""Whether the masks of a split say what its tags say: seen before anything is scored against them or learnt from them.

A single mask may be odd. Where most are, the masks are not what they are taken for: 0 and 255 for one class, numbers shifted by
one, numbers of objects in place of classes, boxes without an outline; and a score against them would be a number without a meaning.
"""

from typing import TYPE_CHECKING

import numpy as np

from dsgc.errors import UserError

if TYPE_CHECKING:
    from dsgc.data.split import Split

IGNORE = 255
LOOKED_AT = 64  # masks, spread over the split; of so many, those of a sound split are not most of them odd by chance


def check(split: "Split", tags: np.ndarray) -> None:
    """Look at masks from all over a split and compare the classes in them with the tags (N, C). Every process sees the same ones.

    Raises:
        UserError: no mask shows an object though tags name some; or most masks hold classes that the tags of their image do not
            name; or most of what tags name is in no mask. A mask that is all 255 is scored nowhere and says nothing either way.
    """
    number = min(LOOKED_AT, len(split.ids))
    masks = [_compared(split, tags, place * len(split.ids) // number) for place in range(number)]
    named, shown = (sum(len(part) for part in parts) for parts in ([n for _, n, _ in masks], [n & s for _, n, s in masks]))
    holding = [mask for mask in masks if mask[2]]
    if named and not holding:
        raise UserError(
            f"{split.origin}: the masks show no object, though tags name {_words(split, set().union(*(n for _, n, _ in masks)))}, so "
            f"background alone would be scored; a mask holds the number of a class, 1 for {split.classes[0]}, not 255"
        )
    foreign = [mask for mask in holding if mask[2] - mask[1]]
    if 2 * len(foreign) > len(holding):
        image_id, tagged, seen = foreign[0]
        raise UserError(
            f"{split.origin}: {len(foreign)} of {len(holding)} masks hold classes that the tags of their image do not name, as that of "
            f"{image_id}: {_words(split, seen - tagged)}, tags {_words(split, tagged) or 'none'}; number the classes in the masks "
            f"as they are listed, {split.classes[0]} 1, and no objects"
        )
    if 2 * shown < named:
        image_id, tagged, seen = next(mask for mask in masks if mask[1] - mask[2])
        raise UserError(
            f"{split.origin}: of {named} tags that were looked at, {named - shown} have no pixel in their mask, as "
            f"{_words(split, tagged - seen)} in that of {image_id}; a mask holds the number of each class, not 255, and a box "
            "alone is no mask"
        )


def _compared(split: "Split", tags: np.ndarray, index: int) -> tuple[str, set[int], set[int]]:
    """The id of an image, the classes that its tags name and those in its mask, 1..C; nothing of a mask that is all 255."""
    image_id = split.ids[index]
    counts = np.bincount(np.asarray(split.mask(image_id, split.image(image_id).size)).ravel(), minlength=IGNORE + 1)
    if not counts[:IGNORE].any():
        return image_id, set(), set()
    return image_id, {int(i) + 1 for i in np.flatnonzero(tags[index])}, {int(i) for i in np.flatnonzero(counts[1:IGNORE]) + 1}


def _words(split: "Split", labels: set[int]) -> str:
    """Names of some classes, with their numbers."""
    words = [f"{split.classes[label - 1]} ({label})" for label in sorted(labels)]
    return ", ".join(words[:4]) + (" ..." if len(words) > 4 else "")
