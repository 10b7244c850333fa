"""Who makes what: claims that several processes, of one machine or of many, see in a folder that they share.

A claim on a key is a file that appears whole or not at all, by a hard link, which a network file system grants to one alone. Its
owner touches it while it lives. What has not been touched for long, or was owned by a process of this machine that is gone, is
the next one's to take. Ages are differences of two times that the file system itself wrote: no machine's clock is asked.

A claim is never broken, it is followed. Each has a token of its own, and whoever is first to link `KEY.TOKEN` ends the claim of
that token: another, who takes over from a dead owner, or the owner itself, who lets go. So two cannot both take over, nor can an
owner that was only asleep take away what is another's by now.
"""

import contextlib
import hashlib
import json
import os
import socket
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import NamedTuple

from dsgc.errors import UserError, printable

BEAT = 20  # seconds between two touches
STALE = 300  # seconds; a network file system may show another machine's touch a minute late
LONGEST = 4096  # bytes of a claim that are read


class Owner(NamedTuple):
    """What a claim says of the process that made it; one that is damaged says nothing."""

    host: str = "an unknown machine"
    process: int = 0
    job: str = ""  # of a queue, if the process is one
    system: str = ""  # in which the number of a process means that process

    def __str__(self) -> str:
        return printable(f"{self.host}, " + (f"job {self.job}" if self.job else f"process {self.process}"))


class Claim:
    """A key that is this process's until it is released or lost."""

    def __init__(self, key: str, path: Path, token: str):
        self.key, self.path, self.token = key, path, token
        self.lost = threading.Event()  # another has taken over


class _Link(NamedTuple):
    path: Path
    token: str
    owner: Owner
    touched: float  # by the file system's clock


class Claims:
    """The claims of one process in a folder. While it is entered they are touched; when it is left they are released."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.held: dict[str, Claim] = {}
        self._over = threading.Event()
        self._clock: tuple[float, float] | None = None  # the file system's and this process's

    def __enter__(self) -> "Claims":
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for claim in list(self.held.values()):
            self.release(claim)
        with contextlib.suppress(UserError, OSError):
            self._clean()
            self.folder.rmdir()  # where nobody else has a claim

    def take(self, key: str) -> Claim | None:
        """The claim on a key; None where somebody alive holds it, this process too, or another was faster.

        Raises:
            UserError: nothing can be written or linked in the folder, or a claim there cannot be read.
        """
        chain = self._chain(key)
        if chain and self._alive(chain[-1]):
            return None
        claim = self._follow(key, chain[-1].token if chain else None)
        if claim is None:
            return None
        if all(link.token != claim.token for link in self._chain(key)):  # what it follows was released just now
            claim.path.unlink(missing_ok=True)
            return None
        self.held[key] = claim
        return claim

    def release(self, claim: Claim) -> None:
        """Let go of a claim. One that another has taken over stays as it is."""
        self.held.pop(claim.key, None)
        with contextlib.suppress(UserError, OSError):  # no room for it, say: then it lies there until somebody takes over
            if (last := self._follow(claim.key, claim.token)) is None:
                return
            for path in (*(link.path for link in self._chain(claim.key)), claim.path, last.path):  # the one that all hang on first
                path.unlink(missing_ok=True)

    def owner(self, key: str) -> Owner | None:
        """Who holds a key, if it is somebody alive."""
        chain = self._chain(key)
        return chain[-1].owner if chain and self._alive(chain[-1]) else None

    def keys(self, beginning: str) -> set[str]:
        """The keys that begin so and that somebody alive holds."""
        return {path.name for path in self.folder.glob(f"{beginning}*") if "." not in path.name and self.owner(path.name)}

    def _clean(self) -> None:
        """Take away what processes have left that are gone."""
        for path in self.folder.iterdir():
            key, _, rest = path.name.partition(".")
            if path.is_file() and not rest and self.owner(key) is None and (claim := self.take(key)):
                self.release(claim)
            elif path.is_file() and rest and not (self.folder / key).is_file() and self._now(True) - path.stat().st_mtime > STALE:
                path.unlink(missing_ok=True)  # it hangs on nothing

    def _path(self, key: str, token: str | None) -> Path:
        return self.folder / (key if token is None else f"{key}.{token}")

    def _chain(self, key: str) -> list[_Link]:
        """The claims on a key, each of which follows the one before; the last one counts."""
        chain: list[_Link] = []
        while (link := _read(self._path(key, chain[-1].token if chain else None))) and all(link.token != old.token for old in chain):
            chain.append(link)
        return chain

    def _follow(self, key: str, token: str | None) -> Claim | None:
        """The claim that follows the one of a token, or is the first of its key; None where another follows it."""
        about = Owner(socket.gethostname(), os.getpid(), os.environ.get("SLURM_JOB_ID", ""), _system())._asdict()
        content = json.dumps(about | {"id": uuid.uuid4().hex}).encode()
        path, ticket = self._path(key, token), self.folder / f".{uuid.uuid4().hex}"
        try:
            _write(ticket, content)
            with contextlib.suppress(FileExistsError):  # as is also said of a request that was granted and sent a second time
                os.link(ticket, path)
            won = ticket.stat().st_nlink == 2
        except OSError as error:
            raise UserError(f"{self.folder}: runs cannot be claimed here ({error.strerror}); choose another folder") from error
        finally:
            with contextlib.suppress(OSError):
                ticket.unlink(missing_ok=True)
        return Claim(key, path, _token(content)) if won else None

    def _alive(self, link: _Link) -> bool:
        if link.owner.system and link.owner.system == _system() and not Path(f"/proc/{link.owner.process}").exists():
            return False
        return any(abs(self._now(asked) - link.touched) <= STALE for asked in (False, True))

    def _now(self, asked: bool) -> float:
        """The time by the file system's clock: asked for, or as this process, which may have slept since, counts on from there."""
        if self._clock is None or asked:
            try:
                with tempfile.TemporaryFile(dir=self.folder) as file:
                    self._clock = os.fstat(file.fileno()).st_mtime, time.monotonic()
            except OSError:  # who may not write here only looks, and this machine's clock is good enough for that
                return time.time()
        return self._clock[0] + time.monotonic() - self._clock[1]

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            for claim in list(self.held.values()):
                with contextlib.suppress(OSError):  # the file system is away: its own clock tells how long, when it is back
                    self._touch(claim)

    def _touch(self, claim: Claim) -> None:
        try:
            os.utime(claim.path)
            taken = self._path(claim.key, claim.token).exists()
        except FileNotFoundError:
            taken = True  # by hand
        if taken and self.held.pop(claim.key, None):
            claim.lost.set()


def _read(path: Path) -> _Link | None:
    try:
        with path.open("rb") as file:
            content, touched = file.read(LONGEST), os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: says who makes a run, and cannot be read ({error.strerror}); delete it if nobody does") from error
    owner = Owner()
    with contextlib.suppress(ValueError, KeyError, TypeError, OverflowError, RecursionError):
        about = json.loads(content)
        owner = Owner(str(about["host"])[:80], int(about["process"]), str(about["job"])[:80], str(about["system"]))
    return _Link(path, _token(content), owner, touched)


def _write(path: Path, content: bytes) -> None:
    """Write a file, in a folder that another may take away, empty, the moment before."""
    for last in (False, False, True):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.write_bytes(content)
            return
        except FileNotFoundError:
            if last:
                raise


def _token(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _system() -> str:
    """What the number of a process counts within: one start of one machine, and a container of it. Empty where nothing tells."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip() + os.readlink("/proc/self/ns/pid")
    return ""
