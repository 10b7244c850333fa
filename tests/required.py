"""What the repository requires, as tests read it."""

from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


def requirements() -> dict[str, Requirement]:
    """requirements.txt by canonical name."""
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    parsed = [Requirement(line) for line in lines if line]
    assert len({canonicalize_name(item.name) for item in parsed}) == len(parsed), "a package is listed twice"
    return {canonicalize_name(item.name): item for item in parsed}
