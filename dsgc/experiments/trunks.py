"""Where warm-ups that runs share lie while any run needs them, seen by all machines that share the folder.

Whoever needs one leaves a mark beside it; the last to take its mark away takes the warm-up away. It is grown and taken away under
a claim, and is there for nobody while it is claimed: so nobody goes on from what another is about to remove.
"""

import shutil
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path

from dsgc.config import Config
from dsgc.experiments import forks
from dsgc.experiments.claims import Claim, Claims


class Trunks:
    """The trunks that one runner needs, by what the runs share (`forks.shared`)."""

    def __init__(self, claims: Claims, needed: Mapping[str, Config]):
        self.claims = claims
        self.names = {key: forks.name(config) for key, config in needed.items()}
        self.marks = {key: claims.take(f"needs-{name}-{uuid.uuid4().hex}") for key, name in self.names.items()}

    def key(self, key: str) -> str:
        """What is claimed by whoever grows a trunk."""
        return f"trunk-{self.names[key]}"

    def path(self, key: str) -> Path:
        """Where a trunk lies."""
        return self._path(self.names[key])

    def growing(self, key: str, claim: Claim) -> Path:
        """Where it is grown under this claim."""
        return self.path(key).with_name(f"{self.path(key).name}-{claim.token}")

    def add(self, key: str, grown: Path) -> None:
        """Put a trunk that is whole where it is to lie."""
        forks.remove(self.path(key))  # a part of another
        grown.rename(self.path(key))

    def has(self, key: str) -> bool:
        """Whether a trunk lies there."""
        return forks.is_grown(self.path(key))

    def grown(self) -> set[str]:
        """Those that a run can go on from: the claim is asked for first, as what is claimed may go."""
        return {key for key in self.marks if self.claims.owner(self.key(key)) is None and self.has(key)}

    def keep(self, needed: Collection[str]) -> None:
        """Need only these from here on."""
        for key in [key for key in self.marks if key not in needed]:
            if mark := self.marks.pop(key):
                self.claims.release(mark)
            self._remove(self.names[key])

    def close(self) -> None:
        """Need none, and take away what killed runners left."""
        self.keep(())
        for name in {path.name.split("-")[1] for path in self.claims.folder.glob("grown-*")}:
            self._remove(name)

    def _path(self, name: str) -> Path:
        return self.claims.folder / f"grown-{name}"

    def _remove(self, name: str) -> None:
        """Take a trunk away, and what was begun of it, unless somebody needs it."""
        if not list(self.claims.folder.glob(f"grown-{name}*")) or (claim := self.claims.take(f"trunk-{name}")) is None:
            return
        if not self.claims.keys(f"needs-{name}"):
            forks.remove(self._path(name))
            for part in self.claims.folder.glob(f"grown-{name}-*"):
                shutil.rmtree(part, ignore_errors=True)
        self.claims.release(claim)
