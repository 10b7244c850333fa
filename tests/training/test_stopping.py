"""A run that is asked to stop, by Ctrl-C or SIGTERM: it finishes its step, saves, says how to go on, and goes on as if nothing had been."""

import os
import signal
import subprocess
import sys
import time

import pytest
from apart import ROOT, SMALL, command, outcome
from promises import promise
from refusal import lines_of

import dsgc.training.learner
import dsgc.training.loop
from dsgc.__main__ import main
from dsgc.data import loading
from dsgc.errors import Stopped
from dsgc.runs import checkpoint
from dsgc.scoring import pictures
from dsgc.training.loop import resume, train

SUBJECT = "Faults during training"
LONG = SMALL | {"steps": 400, "warmup_steps": 200, "checkpoint_every": 1000, "eval_every": 0}
ASKED = pytest.mark.parametrize(("asked", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
MOMENTS = {  # what is called when the signal comes, at which of its calls, and the steps that are done then
    "amid the first step": (dsgc.training.learner, "backward", 1, 1),
    "amid a step": (dsgc.training.learner, "backward", 3, 3),
    "amid the last step": (dsgc.training.learner, "backward", 6, 6),
    "while an image is read": (loading.Crops, "__getitem__", 6, 2),
    "while a checkpoint is written": (checkpoint, "save_file", 2, 5),
    "in an evaluation": (dsgc.training.loop, "evaluate", 1, 3),
    "in the last evaluation": (dsgc.training.loop, "evaluate", 2, 6),
    "while pictures are drawn": (pictures, "write", 1, 6),
}


@pytest.fixture(autouse=True)
def _heeded():
    """A shell has Ctrl-C ignored by what it starts in the background, tests too, and by what these start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def asking(at_call):
    """`asking(owner, name, call, number)`: this process gets a signal at a call of a function."""
    return lambda owner, name, call, number: at_call(owner, name, call, lambda: os.kill(os.getpid(), number))


@promise(SUBJECT, "Ctrl-C and SIGTERM finish the step and save; the exit code is 130 or 143, one line says how to go on.")
@ASKED
@pytest.mark.parametrize("moment", MOMENTS)
def test_it_finishes_its_step_and_goes_on(moment, asked, code, asking, arguments, tmp_path, whole, capfd, monkeypatch):
    run, handlers = tmp_path / "run", [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    owner, name, call, done = MOMENTS[moment]
    asking(owner, name, call, asked)
    assert main(arguments(out=str(run), **SMALL)) == code
    said = lines_of(capfd.readouterr().err)
    assert said[-1] == f"dsgc: {run}: {asked.name} after {done} of 6 steps; `python -m dsgc resume {run}` goes on"
    assert all(line.startswith("dsgc: ") for line in said)
    assert checkpoint.load(run).step == done and not (run / "metrics.json").exists() and not list(run.rglob("*.partial"))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    monkeypatch.undo()
    assert main(["resume", str(run)]) == 0
    assert outcome(run) == whole


def test_a_run_in_the_background_of_a_script_ignores_ctrl_c(asking, arguments, tmp_path):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asking(dsgc.training.learner, "backward", 3, signal.SIGINT)
    assert main(arguments(out=str(tmp_path / "run"), **SMALL)) == 0


def test_ctrl_c_and_then_sigterm_as_a_launcher_sends_it_still_finish_the_step(asking, arguments, tmp_path):
    asking(dsgc.training.learner, "backward", 3, signal.SIGINT)
    for _ in range(2):
        asking(dsgc.training.learner, "backward", 3, signal.SIGTERM)
    run = tmp_path / "run"
    assert main(arguments(out=str(run), **SMALL)) in (130, 143) and checkpoint.load(run).step == 3


def test_the_log_of_a_run_that_stopped_between_two_lines_has_one_more(asking, tiny, tmp_path):
    asking(dsgc.training.learner, "backward", 2, signal.SIGTERM)
    config = tiny(out=str(tmp_path / "run"), **SMALL | {"log_every": 3, "eval_every": 0, "warmup_steps": 3})
    with pytest.raises(Stopped):
        train(config)
    assert [line["step"] for line in outcome(resume(tmp_path / "run"))["log"]] == [2, 3, 4, 6, 6]


def test_stopping_is_no_failure_that_a_loop_over_runs_would_pass_by(asking, tiny, tmp_path):
    asking(dsgc.training.learner, "backward", 1, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as caught:
        train(tiny(out=str(tmp_path / "run"), **SMALL))
    assert not isinstance(caught.value, Exception) and caught.value.code == 130


def test_ctrl_c_before_a_run_has_begun_is_one_line(asking, arguments, tmp_path, capsys):
    asking(dsgc.training.loop, "open_data", 1, signal.SIGINT)
    assert main(arguments(out=str(tmp_path / "run"), **SMALL)) == 130
    assert capsys.readouterr().err == "dsgc: interrupted\n" and not (tmp_path / "run").exists()


# real processes


def wait_for_lines(run, process, number):
    deadline = time.monotonic() + 120
    log = run / "log.jsonl"
    while not log.exists() or len(log.read_bytes().splitlines()) < number:
        assert process.poll() is None and time.monotonic() < deadline, "the run ended, or hangs, before it could be asked to stop"
        time.sleep(0.01)


@promise(SUBJECT, "Ctrl-C and SIGTERM finish the step and save; the exit code is 130 or 143, one line says how to go on.")
@ASKED
def test_a_process_whose_whole_group_is_asked_stops_with_what_it_has_done(asked, code, arguments, tmp_path):
    """As a terminal and a job scheduler do: the loading processes get the signal as well."""
    run = tmp_path / "run"
    process = command(arguments(out=str(run), **LONG | {"workers": 2}), tmp_path, own_group=True)
    wait_for_lines(run, process, 3)
    os.killpg(process.pid, asked)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == code and "Traceback" not in said
    done = checkpoint.load(run).step
    assert 3 <= done < 400 and said.splitlines()[-1].startswith(f"dsgc: {run}: {asked.name} after {done} of 400 steps;")
    assert len((run / "log.jsonl").read_text().splitlines()) == done


def test_a_second_ctrl_c_does_not_wait_for_the_step(arguments, tmp_path):
    slow = "import time, dsgc.training.learner; dsgc.training.learner.backward = lambda *given: time.sleep(600)"
    slow += "; import sys, dsgc.__main__; sys.exit(dsgc.__main__.main())"
    run = tmp_path / "run"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TQDM_DISABLE": "1"}
    words = [sys.executable, "-c", slow, *arguments(out=str(run), **SMALL)]
    process = subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_lines(run, process, 0)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert "press Ctrl-C again" in process.stderr.readline() + process.stderr.readline()
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and said == "dsgc: interrupted\n"


@promise(SUBJECT, "Of several processes that train together, all stop after the same step.")
def test_two_processes_stop_after_the_same_step(arguments, tmp_path):
    run = tmp_path / "run"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "dsgc"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    words = [*launcher, *arguments(out=str(run), **LONG)]
    process = subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for_lines(run, process, 3)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=120)[0]
    done = checkpoint.load(run).step
    assert 3 <= done < 400 and said.count(f"{run}: SIGTERM after {done} of 400 steps") == 2
