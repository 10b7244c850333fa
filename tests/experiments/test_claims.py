"""A claim is one process's at a time, whoever asks at once, dies, sleeps, or finds it damaged; and nothing of it is left."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dsgc.errors import UserError
from dsgc.experiments import claims
from dsgc.experiments.claims import STALE, Claims

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "making"


@pytest.fixture
def elsewhere(folder, monkeypatch):
    """The claims of a runner on another machine, of whose processes nobody here can tell whether they run."""

    class Elsewhere(Claims):
        def _follow(self, key, token):
            with monkeypatch.context() as patch:
                patch.setattr(claims, "_system", lambda: "another start of another machine")
                patch.setattr("socket.gethostname", lambda: "far")
                return super()._follow(key, token)

    return Elsewhere(folder)


def age(claim, seconds):
    """Let a claim have been touched so long ago."""
    then = claim.path.stat().st_mtime - seconds
    os.utime(claim.path, (then, then))


def test_a_claim_is_one_owners_until_it_is_released_and_leaves_nothing(folder):
    with Claims(folder) as mine, Claims(folder) as theirs:
        claim = mine.take("run")
        assert claim and theirs.take("run") is None and mine.take("run") is None
        assert theirs.owner("run").process == os.getpid() and theirs.owner("other") is None
        mine.release(claim)
        assert theirs.take("run") and mine.owner("run") and theirs.take("other")
        assert mine.keys("r") == {"run"} and mine.keys("") == {"run", "other"}
    assert not folder.exists()


def test_of_many_that_ask_at_once_one_gets_it_also_what_a_dead_owner_left(folder, elsewhere):
    together = threading.Barrier(8)

    def ask(key):
        runner = Claims(folder)
        together.wait(60)
        found.append((runner, runner.take(key)))

    for turn in range(20):
        if turn % 2:
            age(elsewhere.take(f"run{turn}"), STALE + 60)
        found = []
        threads = [threading.Thread(target=ask, args=[f"run{turn}"]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ((runner, claim),) = [(runner, claim) for runner, claim in found if claim]
        runner.release(claim)
    assert list(folder.iterdir()) == []


MANY = """
import os, random, sys
from pathlib import Path
from dsgc.experiments.claims import Claims

folder, keys = Path(sys.argv[1]), [str(key) for key in range(60)]
with Claims(folder / "making") as claims:
    while left := [key for key in keys if not (folder / f"{key}.done").exists()]:
        key = random.choice(left)
        if claim := claims.take(key):
            if not (folder / f"{key}.done").exists():
                (folder / key).open("a").write("x")
                (folder / f"{key}.done").touch()
            claims.release(claim)
"""


def test_several_processes_make_each_of_many_things_once(tmp_path):
    made = [subprocess.Popen([sys.executable, "-c", MANY, tmp_path], env=os.environ | {"PYTHONPATH": str(ROOT)}) for _ in range(4)]
    assert [process.wait(120) for process in made] == [0] * 4
    assert [(tmp_path / str(key)).read_text() for key in range(60)] == ["x"] * 60
    assert not (tmp_path / "making").exists()


def test_what_a_killed_process_of_this_machine_held_is_free_at_once(folder):
    held = "import sys; from dsgc.experiments.claims import Claims; Claims(sys.argv[1]).take('run'); print(flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", held, folder], env=os.environ | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    process.stdout.readline()
    mine = Claims(folder)
    assert mine.take("run") is None and mine.owner("run").process == process.pid
    process.kill()
    process.communicate()
    assert mine.owner("run") is None and mine.take("run")


def test_who_leaves_takes_away_what_dead_processes_left(folder, elsewhere):
    age(elsewhere.take("dead"), STALE + 60)
    elsewhere.take("alive")
    for name in (".ticket", "gone.0123456789abcdef"):
        (folder / name).touch()
        os.utime(folder / name, (1, 1))
    (folder / ".another").touch()
    with Claims(folder):
        pass
    assert {path.name for path in folder.iterdir()} == {"alive", ".another"}


def test_another_machines_claim_is_free_when_nobody_has_touched_it_for_long(folder, elsewhere):
    theirs, mine = elsewhere.take("run"), Claims(folder)
    assert str(mine.owner("run")) == f"far, process {os.getpid()}" and mine.take("run") is None
    age(theirs, STALE - 60)
    assert mine.take("run") is None
    elsewhere._touch(theirs)
    age(theirs, STALE - 60)
    assert mine.take("run") is None, "touched again"
    age(theirs, STALE + 60)
    assert mine.owner("run") is None and (claim := mine.take("run"))
    mine.release(claim)
    assert list(folder.iterdir()) == [], "the dead owner's is gone too"


def test_an_owner_that_was_only_asleep_loses_its_claim_and_takes_nothing_away(folder, elsewhere):
    theirs, mine = elsewhere.take("run"), Claims(folder)
    age(theirs, STALE + 60)
    claim = mine.take("run")
    assert not theirs.lost.is_set()
    elsewhere._touch(theirs)
    elsewhere.release(theirs)
    assert theirs.lost.is_set() and not elsewhere.held
    mine._touch(claim)
    assert not claim.lost.is_set() and elsewhere.take("run") is None


def test_a_claim_that_was_deleted_by_hand_is_lost(folder):
    mine = Claims(folder)
    claim = mine.take("run")
    claim.path.unlink()
    mine._touch(claim)
    assert claim.lost.is_set()


def test_a_claim_that_is_released_while_another_takes_it_over_is_nobodys(folder, elsewhere, monkeypatch):
    theirs, mine, follow = elsewhere.take("run"), Claims(folder), Claims._follow
    age(theirs, STALE + 60)

    def slow(key, token):
        elsewhere.release(theirs)
        return follow(mine, key, token)

    monkeypatch.setattr(mine, "_follow", slow)
    assert mine.take("run") is None and list(folder.iterdir()) == []


def test_a_machine_that_slept_asks_the_file_system_for_the_time_before_it_calls_an_owner_dead(folder, elsewhere):
    theirs, mine = elsewhere.take("run"), Claims(folder)
    mine._clock = theirs.path.stat().st_mtime - 10_000, time.monotonic()  # as after a sleep, in which its own clock stood still
    assert mine.take("run") is None
    age(theirs, 10_000)
    assert mine.take("run")


def test_claims_are_touched_as_long_as_their_owner_is_there(folder, monkeypatch):
    monkeypatch.setattr(claims, "BEAT", 0.01)
    with Claims(folder) as mine:
        claim = mine.take("run")
        age(claim, STALE)
        then = claim.path.stat().st_mtime
        for _ in range(1000):
            if claim.path.stat().st_mtime > then:
                break
            time.sleep(0.01)
        assert claim.path.stat().st_mtime > then


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"[1]", b"{}", b"[" * 5000, b'{"process": 1e999}'], ids=repr)
def test_a_damaged_claim_is_somebodys_until_it_is_old(folder, content):
    folder.mkdir()
    path, mine = folder / "run", Claims(folder)
    path.write_bytes(content)
    assert mine.owner("run").host == "an unknown machine" and mine.take("run") is None
    os.utime(path, (1, 1))
    assert (claim := mine.take("run"))
    mine.release(claim)
    assert list(folder.iterdir()) == []


def test_claims_that_lead_back_to_themselves_end(folder):
    folder.mkdir()
    first = claims._token(b"")
    for name in ("run", f"run.{first}"):
        (folder / name).touch()
        os.utime(folder / name, (1, 1))
    assert Claims(folder).take("run") is None, "what would follow is there already"


def test_where_nothing_can_be_claimed_one_line_says_so(folder, monkeypatch):
    folder.mkdir()
    (folder / "run").mkdir()
    with pytest.raises(UserError, match=r"making/run: says who makes a run, and cannot be read \(Is a directory\); delete it"):
        Claims(folder).take("run")

    def refused(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    with pytest.raises(UserError, match=r"making: runs cannot be claimed here \(Operation not permitted\); choose another folder"):
        Claims(folder).take("other")
    assert [path.name for path in folder.iterdir()] == ["run"]


def test_an_owners_words_cannot_steer_the_terminal(folder):
    folder.mkdir()
    about = {"host": "a\x1b[2Jb\nc", "process": 1, "job": "7", "system": ""}
    (folder / "run").write_text(json.dumps(about))
    assert str(Claims(folder).owner("run")) == "a?[2Jb?c, job 7"
