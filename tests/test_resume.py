"""Resuming is exact, and no kill loses a run."""

import copy
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from adaflow.config import to_toml
from adaflow.core import launch
from adaflow.core.checkpoint import list_checkpoints, load_newest_checkpoint, save_checkpoint
from adaflow.core.lock import locked
from adaflow.core.provenance import compare_provenance, write_config, write_provenance
from adaflow.core.snapshot import save_network
from adaflow.core.train import checkpoint, train
from adaflow.core.training_step import training_step
from adaflow.cuda.library import native, offers, recorded_calls, reference_ops
from adaflow.errors import FileError, PluginError
from adaflow.plugin_manager import PluginManager
from tests.runs import differences, small_run

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")

STATEFUL = '''
import torch
from dataclasses import dataclass, field
from adaflow import ImageTransform, PController, hookimpl

@dataclass
class Fading(ImageTransform):
    """Adds a number that grows with every call."""
    calls: int = 0
    def apply(self, images, draw):
        self.calls += 1
        return images + 0.01 * self.calls
    def state_dict(self):
        return {"calls": self.calls}
    def load_state_dict(self, state):
        self.calls = state["calls"]

class Momentum(PController):
    """Remembers its last move."""
    def __init__(self):
        self.speed = torch.zeros(())
    def update(self, seen):
        self.speed = 0.9 * self.speed + 0.01 * (seen.sign_real - 0.2)
        return seen.p + float(self.speed)
    def state_dict(self):
        return {"speed": self.speed}
    def load_state_dict(self, state):
        self.speed = state["speed"]

@hookimpl
def register_augmentations(register):
    register("fading", Fading)

@hookimpl
def register_p_controllers(register):
    register("momentum", Momentum)
'''


def steps(run, count):
    for _ in range(count):
        training_step(run)
    return run


def saved(run, folder):
    """The state as it is after a trip through a file."""
    save_checkpoint(folder, run.state.state_dict(), keep=3)
    return load_newest_checkpoint(folder, CPU, print)


@pytest.mark.parametrize("ops", ["native", pytest.param("reference", marks=pytest.mark.slow)])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_resume_is_exact(tmp_path, precision, ops):
    """R1 falls on steps 0 and 16, path length on 0, 4, 8, …, the controller on 4, 8, …: cut at and around them."""
    if ops == "native" and native(CPU) is None:
        pytest.skip("there are no native kernels")
    table = {"precision": precision}
    if ops == "native":  # wide enough for Winograd convolutions
        wide = {"channel_base": 1024, "channel_max": 64}
        table |= {"generator": wide, "discriminator": wide}
    with recorded_calls() as calls, reference_ops() if ops == "reference" else nullcontext():
        whole = steps(small_run(tmp_path, table), 20)
        for cut in (4, 10, 16, 17) if (precision, ops) == ("fp32", "native") else (16,):
            first = steps(small_run(tmp_path, table), cut)
            state = saved(first, tmp_path)
            second = small_run(tmp_path, table)
            second.state.load_state_dict(state, second.world)
            steps(second, 20 - cut)
            assert differences(whole.state.state_dict(), second.state.state_dict()) == []
    assert whole.state.p != whole.config.augment.p
    number = {"fp32": "f32", "bf16": "bf16"}[precision]
    assert (f"adaflow_fused_backward_{number}" in calls) == (ops == "native")
    if offers(f"adaflow_winograd_weights_{number}", CPU):
        assert (f"adaflow_winograd_weights_{number}" in calls) == (ops == "native")
    assert ("adaflow_augment_f32" in calls) == (ops == "native")


def test_checkpoints_of_older_versions(tmp_path):
    """Weights and averages lay rows first, the optimizer was another, and bad updates were numbers."""
    state = saved(steps(small_run(tmp_path), 6), tmp_path)
    whole, old = small_run(tmp_path), small_run(tmp_path)
    whole.state.load_state_dict(copy.deepcopy(state), whole.world)
    rows_first = {name: {key: value.contiguous() for key, value in state[name].items()} for name in ("G", "D", "G_ema")}
    for name in ("G_opt", "D_opt"):
        averages = {
            index: {key: value.contiguous() for key, value in entry.items()}
            for index, entry in state[name]["state"].items()
        }
        groups = [{**group, "fused": None} for group in state[name]["param_groups"]]
        rows_first[name] = {"state": averages, "param_groups": groups}
    assert state["D_opt"]["state"][2]["exp_avg_sq"].stride() != rows_first["D_opt"]["state"][2]["exp_avg_sq"].stride()
    counts = {loss: int(count) for loss, count in state["bad_updates"].items()}
    old.state.load_state_dict({**state, **rows_first, "bad_updates": counts}, old.world)
    assert differences(steps(whole, 3).state.state_dict(), steps(old, 3).state.state_dict()) == []


@pytest.mark.parametrize("change", ["absent", "plugins"])
def test_checkpoints_before_the_first_release_are_refused(tmp_path, change):
    state = saved(steps(small_run(tmp_path), 1), tmp_path)
    if change == "absent":
        state["bad_steps"] = state.pop("bad_updates")
    else:
        state["plugins"] = state["plugins"][0]
    run = small_run(tmp_path)
    with pytest.raises(FileError, match="another version of adaflow"):
        run.state.load_state_dict(state, run.world)


def test_a_difference_would_be_seen(tmp_path):
    a, b = small_run(tmp_path), small_run(tmp_path)
    assert differences(a.state.state_dict(), b.state.state_dict()) == []
    b.state.D_opt.param_groups[0]["lr"] *= 1.0001
    with torch.no_grad():
        next(b.state.G_ema.parameters()).view(-1)[0] += 1e-6
    found = differences(a.state.state_dict(), b.state.state_dict())
    assert any("lr" in name for name in found)
    assert any("G_ema" in name for name in found)


def test_stateful_plugins_resume(tmp_path):
    file = tmp_path / "stateful.py"
    file.write_text(STATEFUL)
    table = {"augment": {"augs": "blit,fading", "controller": "momentum"}, "plugins": [str(file)]}

    def run():
        return small_run(tmp_path, table, PluginManager([file], environ={}))

    whole = steps(run(), 12)
    state = saved(steps(run(), 7), tmp_path)
    assert state["plugins"][0]["augmentation fading"]["calls"] > 0
    assert float(state["plugins"][0]["p controller"]["speed"]) != 0
    second = run()
    second.state.load_state_dict(state, second.world)
    assert differences(whole.state.state_dict(), steps(second, 5).state.state_dict()) == []


def test_a_state_that_could_not_be_read_back_is_refused(tmp_path):
    run = small_run(tmp_path)
    run.controller.state_dict = lambda: {"history": [1.0, np.float64(2.0)]}
    with pytest.raises(PluginError, match=r"p controller holds a numpy\.float64"):
        checkpoint(run)
    run.controller.state_dict = lambda: {"history": [1.0, None, torch.ones(2)], 3: {"text": ("a", True)}}
    checkpoint(run)
    assert load_newest_checkpoint(tmp_path, CPU, print)["plugins"][0]["p controller"]["history"][1] is None


def test_the_network_a_run_began_with_may_be_gone(tmp_path):
    first = small_run(tmp_path)
    save_network(tmp_path / "start.pkl", first.state.G, first.state.D, first.state.G_ema, {})
    table = {"init_from": str(tmp_path / "start.pkl")}
    state = saved(steps(small_run(tmp_path, table), 3), tmp_path)
    (tmp_path / "start.pkl").unlink()
    with pytest.raises(FileError):
        small_run(tmp_path, table)
    second = small_run(tmp_path, table, fresh=False)
    second.state.load_state_dict(state, second.world)
    assert differences(state, second.state.state_dict()) == []


def test_one_training_at_a_time_in_a_folder(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    leftover = tmp_path / "checkpoints" / ".checkpoint-0.pt.12-ab.tmp"
    leftover.touch()
    with locked(tmp_path):
        assert not leftover.exists()
        with pytest.raises(FileError, match="another process is training"), locked(tmp_path):
            pass
    with locked(tmp_path):
        pass


def test_a_process_that_will_not_end_is_killed(monkeypatch):
    monkeypatch.setattr(launch, "GRACE_SECONDS", 0.3)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    stuck = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
    stuck.stdout.readline()
    failed = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    begin = time.monotonic()
    assert launch._wait([stuck, failed]) == 3
    assert time.monotonic() - begin < 10
    assert stuck.poll() is None  # `launch` kills it on its way out
    stuck.kill()
    stuck.wait()


def test_a_missing_plugin_is_named(tmp_path):
    file = tmp_path / "stateful.py"
    file.write_text(STATEFUL)
    run = small_run(tmp_path, {"augment": {"augs": "fading"}}, PluginManager([file], environ={}))
    state = saved(steps(run, 2), tmp_path)
    other = small_run(tmp_path)
    with pytest.raises(FileError, match="augmentation fading"):
        other.state.load_state_dict(state, other.world)


def test_damaged_checkpoints_are_passed_over(tmp_path):
    run = steps(small_run(tmp_path), 1)
    checkpoint(run)
    good = run.state.images
    checkpoint(steps(run, 1))
    newest = list_checkpoints(tmp_path)[-1]
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 0xFF
    newest.write_bytes(data)
    said = []
    assert load_newest_checkpoint(tmp_path, CPU, said.append)["images"] == good
    assert newest.name in said[0]
    newest.write_bytes(data[: len(data) // 3])
    assert load_newest_checkpoint(tmp_path, CPU, said.append)["images"] == good
    for path in list_checkpoints(tmp_path):
        path.write_bytes(b"")
    with pytest.raises(FileError, match="no valid checkpoint"):
        load_newest_checkpoint(tmp_path, CPU, said.append)


def test_logs_continue_where_the_checkpoint_is(tmp_path):
    """Lines that a killed run wrote beyond its checkpoint do not stay, and none is missing or doubled."""
    write_config(small_run(tmp_path))
    run = small_run(tmp_path, {"schedule": {"kimg": 0.08}})
    assert train(run) == "finished"
    with (tmp_path / "stats.jsonl").open("a") as file:
        file.write(json.dumps({"Progress/images": {"mean": 120}}) + "\n" + '{"torn')
    run = small_run(tmp_path)
    assert train(run, resume=True) == "finished"
    rows = [json.loads(line) for line in (tmp_path / "stats.jsonl").read_text().splitlines()]
    assert [row["Progress/images"]["mean"] for row in rows] == [40, 80, 120, 160]


def kernels():
    """Native ones where they can be had: then a process that takes the reference path is an error."""
    return "auto" if native(CPU) is None else "native"


def command(folder, *arguments):
    return [sys.executable, "-m", "adaflow", *arguments], {
        "cwd": ROOT,
        "env": {**os.environ, "OMP_NUM_THREADS": "1", "ADAFLOW_NO_PLUGINS": "1", "ADAFLOW_OPS": kernels()},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
    }


def prepare_run(folder, table):
    """A run folder as `adaflow train` leaves it before the first step, with a first checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    run = small_run(folder, table, PluginManager(table.get("plugins", []), environ={}))
    (folder / "config.toml").write_text(to_toml(run.config))
    checkpoint(run)
    return run


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        assert process is None or process.poll() is None, process.communicate()[0].decode()
        time.sleep(0.005)


@pytest.mark.parametrize("processes", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_sigkill_and_resume_from_the_command_line(tmp_path, processes):
    """20 steps in one go equal 10 steps, SIGKILL, and the rest, in bf16, with the real command and a plugin with state.

    The plugin counts its calls, of which each process makes another number.
    """
    file = tmp_path / "stateful.py"
    file.write_text(STATEFUL)
    schedule = {"kimg": 0.16, "tick_kimg": 0.008, "snap": 10}
    table = {
        "schedule": schedule,
        "augment": {"augs": "bgc,fading"},
        "plugins": [str(file)],
        "precision": "bf16",
    }
    gpus = ["--gpus", str(processes)]
    for name in ("whole", "killed"):
        prepare_run(tmp_path / name, table)
    arguments, options = command(tmp_path, "resume", str(tmp_path / "whole"), *gpus)
    done = subprocess.run(arguments, check=False, **options)
    assert done.returncode == 0, done.stdout.decode()

    arguments, options = command(tmp_path, "resume", str(tmp_path / "killed"), *gpus)
    process = subprocess.Popen(arguments, start_new_session=True, **options)
    wait_for(lambda: len(list_checkpoints(tmp_path / "killed")) == 2, process)
    kill_everything(process)
    assert 80 <= max(int(path.stem[-10:]) for path in list_checkpoints(tmp_path / "killed")) < 160
    done = subprocess.run(arguments, check=False, **options)
    assert done.returncode == 0, done.stdout.decode()

    states = [load_newest_checkpoint(tmp_path / name, CPU, print) for name in ("whole", "killed")]
    assert states[0]["step"] == 20
    assert differences(*states) == []

    def rows(name):
        lines = (tmp_path / name / "stats.jsonl").read_text().splitlines()
        return [{k: v for k, v in json.loads(line).items() if k.startswith("Loss")} for line in lines]

    assert len(rows("whole")) == 20
    assert rows("whole") == rows("killed")


def kill_everything(process):
    """SIGKILL for the command and the processes it started."""
    import psutil

    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for member in family:
        member.send_signal(signal.SIGKILL)
    process.wait()
    psutil.wait_procs(family)


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_sigterm_saves_and_exits_75(tmp_path, processes):
    prepare_run(tmp_path / "run", {"schedule": {"kimg": 1000, "tick_kimg": 0.008, "snap": 10**6}})
    arguments, options = command(tmp_path, "resume", str(tmp_path / "run"), "--gpus", str(processes))
    process = subprocess.Popen(arguments, **options)
    stats = tmp_path / "run" / "stats.jsonl"
    wait_for(lambda: stats.exists() and stats.stat().st_size > 0, process)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 75, output
    assert "adaflow resume" in output
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "stopped"
    state = load_newest_checkpoint(tmp_path / "run", CPU, print)
    assert state["images"] > 0
    assert state["seconds"] + state["tick_seconds"] > 0


def test_second_ctrl_c_leaves_at_once(tmp_path):
    prepare_run(tmp_path / "run", {"schedule": {"kimg": 1000, "tick_kimg": 0.008, "snap": 10**6}})
    slow = tmp_path / "slow.py"
    slow.write_text(
        "import time\nfrom adaflow import hookimpl\n@hookimpl\ndef tick(run, stats):\n"
        "    end = time.monotonic() + 60\n    while time.monotonic() < end:\n        time.sleep(0.1)\n"
    )
    config = tmp_path / "run" / "config.toml"
    config.write_text(config.read_text().replace("plugins = []", f'plugins = ["{slow}"]'))
    arguments, options = command(tmp_path, "resume", str(tmp_path / "run"))
    process = subprocess.Popen(arguments, **options)
    stats = tmp_path / "run" / "stats.jsonl"
    wait_for(lambda: stats.exists() and stats.stat().st_size > 0, process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 130


def save_forever(folder, value):
    while True:
        value += 1
        save_checkpoint(folder, {"images": value, "block": torch.full((400_000,), float(value))}, keep=2)


def test_a_kill_during_a_save_leaves_a_valid_checkpoint(tmp_path):
    """40 kills at random moments of a process that does nothing but save."""
    rng = random.Random(0)
    interrupted = newest = 0
    for _ in range(40):
        saver = multiprocessing.get_context("fork").Process(target=save_forever, args=(tmp_path, newest))
        saver.start()
        wait_for(lambda: bool(list_checkpoints(tmp_path)), None)
        time.sleep(rng.uniform(0.005, 0.05))
        saver.kill()
        saver.join()
        said = []
        state = load_newest_checkpoint(tmp_path, CPU, said.append)
        assert said == []
        assert state["images"] >= newest
        assert torch.equal(state["block"], torch.full((400_000,), float(state["images"])))
        newest = state["images"]
        files = set((tmp_path / "checkpoints").iterdir())
        interrupted += len(files - set(list_checkpoints(tmp_path)))
    assert newest > 40
    assert interrupted, "no kill fell into a save"


def test_changed_data_and_plugins_are_noticed(tmp_path):
    file = tmp_path / "stateful.py"
    file.write_text(STATEFUL)
    table = {"augment": {"augs": "fading"}, "plugins": [str(file)]}
    run = small_run(tmp_path, table, PluginManager([file], environ={}))
    write_provenance(run)
    assert compare_provenance(tmp_path, run.dataset, run.plugins) == []
    assert (tmp_path / "plugins" / "stateful.py").read_text() == STATEFUL

    file.write_text(STATEFUL.replace("0.01 * self.calls", "0.02 * self.calls"))
    (note,) = compare_provenance(tmp_path, run.dataset, PluginManager([file], environ={}))
    assert "plugin stateful is not the one" in note

    other = small_run(tmp_path, {"data": {"source": "demo:lesions,resolution=16,images=65"}})
    with pytest.raises(FileError, match="its fingerprint changed"):
        compare_provenance(tmp_path, other.dataset, run.plugins)
    (tmp_path / "provenance.json").write_text("{")
    assert "not checked" in compare_provenance(tmp_path, other.dataset, run.plugins)[0]
