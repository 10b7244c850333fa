"""Runs made by jobs of Slurm, each of which is a runner of its own (`runner.make_all`) in the folder of results that all share.

submitit writes the array of jobs, hands it to the queue, follows it, keeps what they print, and puts a job that was stopped for
its time or for another's sake back into the queue. A job makes one run after another, for as long as some are left that nobody
has claimed; so the queue needs to know neither runs nor what shares a warm-up with what.
"""

import importlib.util
import re
import shlex
import shutil
import time
import typing
from collections.abc import Callable, Mapping
from pathlib import Path

from tqdm import tqdm

from dsgc.config import Config
from dsgc.errors import UserError, check_writable, first_line
from dsgc.experiments import runner
from dsgc.experiments.plan import counted, others
from dsgc.experiments.stored import look_up

if typing.TYPE_CHECKING:
    from submitit import Job

LOGS = Path("runs/slurm")  # what jobs print, and what submitit hands to them
SET = {"array", "error", "job-name", "open-mode", "output", "signal", "wrap"}  # options of sbatch that submitit gives
IN_VAIN = 3  # times that a job is stopped before anybody has made a run in it, after which it is not queued again


class Worker:
    """What a job does; submitit carries it there, and asks for a `checkpoint` when the job is stopped."""

    def __init__(self, runs: Mapping[str, Config], folder: Path):
        self.runs, self.folder = runs, folder
        self.left, self.in_vain = len(runs), 0

    def __call__(self) -> list[str]:
        """Make runs until none is left that nobody has claimed; returns a line for each that failed."""
        said: list[str] = []

        def say(line: str) -> None:
            print(line, flush=True)
            said.append(line)

        self.left = len(_left(self.runs, self.folder))
        runner.make_all(self.runs, self.folder, jobs=runner.gpus() or 1, say=say, last=False)
        return [line for line in said if " FAILED " in line]

    def checkpoint(self) -> object | None:
        """What is queued again: all as it is, since results are kept; None where the time is too short for any run."""
        from submitit.helpers import DelayedSubmission

        made = self.left > len(_left(self.runs, self.folder))
        self.in_vain = 0 if made else self.in_vain + 1
        return None if self.in_vain == IN_VAIN else DelayedSubmission(self)


def make_all(
    runs: Mapping[str, Config], folder: Path, *, jobs: int, given: str, to_the_end: bool = True,
    say: Callable[[str], None] = tqdm.write, cluster: str = "slurm",
) -> int:  # fmt: skip
    """Have so many jobs make what the folder lacks; returns how many runs lack at the end, or 0 where nobody waits for it.

    Raises:
        UserError: submitit or Slurm is not there or refuses what is `given` (see `parameters`), or a folder cannot be written to.
    """
    asked = parameters(given)
    if cluster == "slurm" and not shutil.which("sbatch"):
        raise UserError("sbatch: not on the PATH; `--on slurm` is for a machine that hands jobs to Slurm, elsewhere leave it out")
    if importlib.util.find_spec("submitit") is None:
        raise UserError("submitit: not installed, and `--on slurm` needs it; `pip install submitit`")
    for place in (folder, LOGS):
        check_writable(place)
    left = _left(runs, folder)
    say(counted(runs, left, jobs, others(left, folder)))
    if not left:
        return 0
    begun = _submit(Worker(dict(runs), folder.resolve()), min(jobs, len(left)), asked, cluster)
    number = begun[0].job_id.split("_")[0]
    say(f"job {number}: {len(begun)} at a time, logs in {LOGS}; `scancel {number}` ends them, this command may end before them")
    return _follow(begun, left, folder, say) if to_the_end else 0


def parameters(given: str) -> dict[str, str]:
    """What `--slurm` gives, as "partition=gpu time=120 gpus=1": options of sbatch by their long names; the time in minutes.

    Raises:
        UserError: a word is not NAME=VALUE, or there is no time.
    """
    try:
        words = shlex.split(given)
    except ValueError as error:
        raise UserError(f"slurm {given!r}: {first_line(error)}; write it as in 'partition=gpu time=120'") from error
    found = {}
    for word in words:
        name, equals, value = word.lstrip("-").partition("=")
        if not equals or not re.fullmatch(r"[a-z][a-z-]*", name.replace("_", "-")) or not value.isprintable() or not value:
            raise UserError(f"slurm {word!r}: is not NAME=VALUE; write it as in 'partition=gpu time=120 gpus=1'")
        found[name.replace("_", "-")] = value
    for name in SET & set(found):
        raise UserError(f"slurm {name}: is set for each job by itself; leave it out")
    if not re.fullmatch(r"[1-9][0-9]{0,6}", found.get("time", "")):
        raise UserError(f"slurm time {found.get('time', '')!r}: name a job's time in minutes, as in 'time=120'")
    return found


def _submit(worker: Worker, jobs: int, asked: Mapping[str, str], cluster: str) -> "list[Job[list[str]]]":
    """An array of jobs that all do the same. What submitit has no name for goes to sbatch as it is."""
    import submitit

    executor = submitit.AutoExecutor(LOGS, cluster=cluster, slurm_max_num_timeout=10_000)
    more = {name: value for name, value in asked.items() if name != "time"}
    try:
        executor.update_parameters(name="grid", timeout_min=int(asked["time"]), slurm_additional_parameters=more)
        return executor.submit_array([worker] * jobs)
    except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError, OSError) as error:
        lines = str(error).strip().splitlines()  # in sbatch's words
        raise UserError(f"{lines[-1] if lines else first_line(error)}; see --slurm") from error


def _follow(jobs: "list[Job[list[str]]]", left: Mapping[str, Config], folder: Path, say: Callable[[str], None]) -> int:
    """Wait for jobs, and tell what they could not make; returns how many runs lack then."""
    waiting = dict(left)
    with tqdm(total=len(left), unit="run") as bar:
        while True:
            over = all(job.done() for job in jobs)
            waiting = _left(waiting, folder)
            bar.update(len(left) - len(waiting) - bar.n)
            if over or not waiting:
                break
            time.sleep(2)
    for job in jobs if waiting else ():
        error = job.exception()
        for line in job.result() if error is None else [f"FAILED job {job.job_id}: {first_line(error)}"]:
            say(line)
    return len(waiting)


def _left(runs: Mapping[str, Config], folder: Path) -> dict[str, Config]:
    """The runs whose results are not there."""
    return {label: config for label, config in runs.items() if look_up(config, folder)[0] != "done"}
