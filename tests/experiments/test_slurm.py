"""Jobs of a queue make runs as runners of one machine do. There is no Slurm here: programs of its names stand in its place."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from kept import store
from test_machines import Light

from dsgc.errors import UserError
from dsgc.experiments import forks, plan, runner, slurm, stored
from dsgc.experiments.claims import Claims

ROOT = Path(__file__).resolve().parents[2]
SBATCH = """#!PYTHON
# Notes what it is given, and runs the job file in bash, once for each job of the array, as Slurm would on its nodes.
import os, re, subprocess, sys
text = open(sys.argv[1]).read()
with open("sbatch.txt", "a") as file:
    file.write(text)
if "partition=closed" in text:
    sys.exit("sbatch: error: invalid partition specified: closed")
count = re.search(r"--array=0-([0-9]+)", text)
for task in range(int(count[1]) + 1 if count else 1):
    own = {"SLURM_JOB_ID": str(71 + task), "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_CPUS_PER_TASK": "1"}
    own |= {"SLURM_ARRAY_JOB_ID": "71", "SLURM_ARRAY_TASK_ID": str(task)} if count else {"SLURM_JOB_ID": "71"}
    subprocess.Popen(["bash", sys.argv[1]], env=os.environ | own, stdout=subprocess.DEVNULL, stderr=open("bash.txt", "a"))
print("Submitted batch job 71")
"""
SRUN = """#!PYTHON
# srun --unbuffered --output FILE --error FILE COMMAND ...
import os, sys
_, _, _, out, _, error, *command = sys.argv
for stream, name in ((1, out), (2, error)):
    for mark, value in (("%j", "71"), ("%A", "71"), ("%a", os.environ.get("SLURM_ARRAY_TASK_ID", "")), ("%t", "0")):
        name = name.replace(mark, value)
    os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), stream)
os.execvp(command[0], command)
"""
SACCT = "#!PYTHON\nprint('JobID|State|NodeList')\n"


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """A folder to work in, with the programs of Slurm on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT}.items():
        (folder / name).write_text(text.replace("PYTHON", sys.executable))
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    for folder in (ROOT / "tests/experiments", ROOT / "tests", ROOT):
        monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_jobs_make_runs_from_a_warm_up_that_one_of_them_trained_and_what_fails_is_told(made, queue):
    config, said = made[1], []
    runs = {"one": config, "other": config.changed(correction=False, pictures=0)}
    given, wanted = "partition=gpu time=120 account='my group' gpus=1", runs | {"broken": config.changed(val_split="nowhere")}
    assert slurm.make_all(wanted, Path("results"), jobs=2, given=given, say=said.append) == 1
    asked = (queue / "sbatch.txt").read_text()
    for line in ("--partition=gpu", "--time=120", "--account='my group'", "--gpus=1", "--array=0-1%2", "--job-name=grid"):
        assert f"#SBATCH {line}\n" in asked
    assert said[1].startswith("job 71: 2 at a time, logs in runs/slurm; `scancel 71` ends them")
    (failed,) = {line.partition("FAILED ")[2] for line in said[2:]}
    assert failed.startswith("broken: ") and "nowhere.txt" in failed
    one, other = stored.read(runs, Path("results"), "").values()
    alone = stored.look_up(config, made[0])[1]
    assert (one.scores, one.counts, one.samples) == (alone.scores, alone.counts, alone.samples)
    assert one.about["warm_up"] == other.about["warm_up"] != {}
    logs = "".join(path.read_text() for path in Path("runs/slurm").glob("71_*_log.out"))
    assert "to make (2 of them from 1 shared warm-up), 1 at a time" in logs
    assert not slurm.make_all(runs, Path("results"), jobs=8, given=given, say=said.append), "nothing is left"


def test_one_job_on_this_machine_by_submitits_own_executor(queue):
    """Through the same code. All is in others' hands, so the job ends, and what lacks is counted."""
    runs, said = {"a": Light(1, 0.1)}, []
    others = Claims(plan.making(Path("results")))
    assert others.take(stored.path_of(runs["a"], Path("results")).stem)
    assert slurm.make_all(runs, Path("results"), jobs=1, given="time=9", say=said.append, cluster="local") == 1
    assert "1 of them are being made by" in said[0] and "1 at a time, logs in runs/slurm" in said[1] and len(said) == 2


def test_without_waiting_the_jobs_are_queued_and_that_is_all(tiny, queue, monkeypatch):
    monkeypatch.setattr(slurm, "_follow", None)
    (queue / "bin/srun").write_text("#!/bin/sh\n")
    assert slurm.make_all({"a": tiny()}, Path("results"), jobs=3, given="time=9", to_the_end=False, say=[].append) == 0
    assert "--array" not in (queue / "sbatch.txt").read_text(), "one run, one job"


def test_a_job_that_is_stopped_is_queued_again_unless_nobody_makes_a_run_in_its_time(made, tiny, tmp_path, monkeypatch):
    result, runs = stored.look_up(made[1], made[0])[1], {seed: tiny(seed=seed) for seed in range(3)}
    monkeypatch.setattr(runner, "apart", lambda config, folder, *_, grows: store(config, folder, result) if config.seed else "no room")
    worker = slurm.Worker(runs, tmp_path)
    assert worker() == ["1 of 3: FAILED 0: no room"]
    assert worker.checkpoint().function is worker and worker.in_vain == 0, "two were made"
    worker.left = 1
    assert [worker.checkpoint() is None for _ in range(slurm.IN_VAIN)] == [False, False, True]


def test_a_job_does_not_wait_for_what_others_make(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "apart", None)
    others = Claims(plan.making(tmp_path))
    assert others.take(stored.path_of(tiny(), tmp_path).stem)
    assert slurm.Worker({"a": tiny()}, tmp_path)() == []


def test_a_job_waits_for_a_warm_up_that_another_trains(made, tiny, tmp_path, monkeypatch):
    result, runs, others = stored.look_up(made[1], made[0])[1], {tau: tiny(tau=tau) for tau in (0.1, 0.2)}, Claims(plan.making(tmp_path))
    claim, trunk = others.take(f"trunk-{forks.name(runs[0.1])}"), plan.making(tmp_path) / f"grown-{forks.name(runs[0.1])}"
    monkeypatch.setattr(runner, "apart", lambda config, folder, *_, grows: grows or store(config, folder, result))

    def other(_):
        trunk.mkdir()
        (trunk / forks.ABOUT).write_text("{}")
        others.release(claim)

    monkeypatch.setattr(runner.time, "sleep", other)
    assert slurm.Worker(runs, tmp_path)() == [] and len(stored.read(runs, tmp_path, "")) == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("partition=gpu", "slurm time '': name a job's time in minutes, as in 'time=120'"),
        ("time=2:00:00", "slurm time '2:00:00': name a job's time in minutes"),
        ("time=0", "slurm time '0': name"),
        ("time=9 gpu", "slurm 'gpu': is not NAME=VALUE"),
        ("time=9 account=", "slurm 'account=': is not NAME=VALUE"),
        ("time=9 'account=a\nrm -r x'", "is not NAME=VALUE"),
        ("time=9 a;b=c", "slurm 'a;b=c': is not NAME=VALUE"),
        ("time=9 output=x", "slurm output: is set for each job by itself; leave it out"),
        ("time=9 'account=a", "No closing quotation; write it as in"),
    ],
)  # fmt: skip
def test_what_is_no_option_of_sbatch_is_refused_in_one_line(given, said):
    with pytest.raises(UserError) as refused:
        slurm.parameters(given)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_options_are_taken_as_sbatch_writes_them():
    assert slurm.parameters("--time=9 cpus_per_task=4 mem=16G") == {"time": "9", "cpus-per-task": "4", "mem": "16G"}


def test_what_slurm_refuses_is_told_in_its_words(tiny, queue):
    with pytest.raises(UserError, match="^sbatch: error: invalid partition specified: closed; see --slurm$"):
        slurm.make_all({"a": tiny()}, Path("results"), jobs=1, given="time=9 partition=closed", say=[].append)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--on", "pbs"], "invalid choice 'pbs'"),
        (["--on", "slurm", "--slurm", "time=9"], "jobs: with --on slurm say how many jobs are to share the runs, as in `--jobs 8`"),
        (["--slurm", "time=9"], "--slurm and --no-wait: of jobs in a queue; give them with --on slurm"),
        (["--on", "slurm", "--jobs", "2", "--slurm", "time=9"], "sbatch: not on the PATH; `--on slurm` is for a machine that hands jobs"),
    ],
)  # fmt: skip
def test_the_command_line_refuses_what_cannot_be(words, said, tmp_path, monkeypatch, capsys, shapes_folder):
    from dsgc.__main__ import main

    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["grid", "stability", "--seeds", "1", "--data", str(shapes_folder), "--out", str(tmp_path / "results"), *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not (tmp_path / "results").exists()


def test_without_submitit_one_line_says_what_to_install(tiny, queue, monkeypatch):
    monkeypatch.setattr(slurm.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="^submitit: not installed, and `--on slurm` needs it; `pip install submitit`$"):
        slurm.make_all({"a": tiny()}, Path("results"), jobs=1, given="time=9")
    assert not Path("results").exists()


def test_submitit_is_loaded_only_where_jobs_are_queued():
    code = "import sys; from dsgc import __main__; sys.exit('submitit' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}).returncode == 0
