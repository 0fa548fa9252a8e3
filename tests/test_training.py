"""The training step: what it optimises, what it draws, what several processes make of it, and what it leaves behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adaflow.core import losses
from adaflow.core.draw import RandomDraws
from adaflow.core.run_config import shard_count
from adaflow.core.train import train
from adaflow.core.training_step import MAX_BAD_UPDATES, average_weights, sample_ws, training_step
from adaflow.errors import ConfigError, DivergedError
from tests.runs import differences, small_run

ROOT = Path(__file__).parents[1]

WORKER = """
import json, os, sys
from pathlib import Path
import torch
from adaflow.core.distributed import World
from adaflow.core.training_step import training_step
from tests.runs import small_run
torch.set_num_threads(1)
with World.from_environment() as world:
    results = []
    for table, steps in json.loads(sys.argv[1]):
        run = small_run(Path("."), table, world=world)
        results.append([])
        for _ in range(steps):
            training_step(run)
            run.state.statistics.merge(world)
            stats = run.state.statistics.take()
            results[-1].append({"p": run.state.p, "w": run.state.G_ema.mapping.w_avg.norm().item(),
                                **{name: values["mean"] for name, values in stats.items()}})
    if world.is_first:
        print(json.dumps(results), flush=True)
os._exit(0)  # threads of torch.distributed may abort an interpreter that takes itself apart
"""


def losses_of(processes, runs):
    """What runs in so many processes report at every step. `runs`: (table, steps) of each."""
    port = str(20000 + os.getpid() % 20000)
    base = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, json.dumps(runs)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            env={**base, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)},
        )
        for rank in range(processes)
    ]
    outputs = [worker.communicate(timeout=240)[0] for worker in workers]
    assert all(worker.returncode == 0 for worker in workers)
    return json.loads(outputs[0])


def close(a, b, tolerance):
    assert len(a) == len(b)
    for step, (x, y) in enumerate(zip(a, b, strict=True)):
        assert x.keys() == y.keys()
        for name in x:
            assert x[name] == pytest.approx(y[name], rel=tolerance, abs=tolerance), f"{name} at step {step}"


def test_two_processes_give_the_losses_of_one():
    table = {"schedule": {"batch": 16}, "augment": {"augs": "bgcfnc", "p": 0.3}}
    runs = [(table, 18), ({**table, "precision": "bf16"}, 3)]
    (one, reduced), (two, two_reduced) = losses_of(1, runs), losses_of(2, runs)
    assert "Loss/r1_penalty" in one[16]
    assert "Loss/pl_penalty" in one[4]
    close(one[:6], two[:6], 1e-5)
    # One activation that rounding takes to the other side of the kink of the leaky ReLU, and the runs drift apart.
    close(one, two, 2e-2)
    # bfloat16 is rounded after sums whose order depends on how many images go through at a time.
    assert reduced != one[:3]
    for row in (*reduced, *two_reduced):
        del row["Loss/signs/real"], row["Loss/signs/fake"]  # jumps
    close(reduced, two_reduced, 5e-2)


def test_accumulation_gives_the_losses_of_one_pass(tmp_path):
    """Portions of the batch add up, but for the mean of path lengths, which moves once a portion."""

    def rows(batch_gpu):
        table = {"schedule": {"batch": 16, "batch_gpu": batch_gpu}, "loss": {"pl_weight": 0.0}}
        run = small_run(tmp_path, table)
        result = []
        for _ in range(6):
            training_step(run)
            values = {k: v["mean"] for k, v in run.state.statistics.take().items()}
            result.append({**values, "w": run.state.G.mapping.w_avg.norm().item()})
        return result

    close(rows(16), rows(8), 1e-5)


@pytest.mark.parametrize(("batch", "batch_gpu", "processes"), [(10, None, 3), (14, 5, 1), (12, 2, 2), (6, None, 1)])
def test_batches_that_do_not_divide(tmp_path, batch, batch_gpu, processes):
    run = small_run(tmp_path)
    config = run.config.__class__(
        **{**vars(run.config), "schedule": run.config.schedule.__class__(batch=batch, batch_gpu=batch_gpu)}
    )
    if (batch, batch_gpu) == (12, 2):
        assert shard_count(config, processes) == 6
    else:
        with pytest.raises(ConfigError):
            shard_count(config, processes)


def test_a_step_is_a_function_of_seed_and_images(tmp_path):
    a, b = small_run(tmp_path), small_run(tmp_path)
    torch.manual_seed(1)
    training_step(a)
    torch.manual_seed(2)
    torch.rand(100)
    training_step(b)
    assert differences(a.state.state_dict(), b.state.state_dict()) == []
    other = small_run(tmp_path, {"schedule": {"seed": 1}})
    training_step(other)
    assert differences(a.state.state_dict(), other.state.state_dict())


def test_reals_and_fakes_are_augmented_independently(tmp_path):
    counters = torch.arange(1000)
    draws = [RandomDraws(0, purpose, counters).draw("scale").unit() for purpose in ("D-real", "D-fake", "G-fake", "R1")]
    correlations = torch.corrcoef(torch.stack(draws)) - torch.eye(4)
    assert correlations.abs().max() < 0.2  # 1000 numbers: six deviations


def test_style_mixing_fires_as_often_as_it_should(tmp_path):
    run = small_run(tmp_path)
    ws, _ = sample_ws(run, torch.arange(4000), "G")
    mixed = (ws[:, 0] != ws[:, -1]).any(1).float().mean()
    assert abs(mixed - 0.9) < 0.03  # six deviations
    first_other = (ws != ws[:, :1]).any(2).float().argmax(1)
    share = torch.bincount(first_other[first_other > 0], minlength=ws.shape[1])[1:].float()
    assert (share / share.sum() - 1 / (ws.shape[1] - 1)).abs().max() < 0.05
    unmixed, _ = sample_ws(small_run(tmp_path, {"loss": {"style_mixing": 0.0}}), torch.arange(50), "G")
    assert torch.equal(unmixed[:, 0], unmixed[:, -1])


def test_each_phase_moves_its_network_only(tmp_path):
    run = small_run(tmp_path, {"discriminator": {"freeze_layers": 2}})
    before = {k: v.clone() for k, v in run.state.D.state_dict().items()}
    training_step(run)
    after = run.state.D.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    frozen = {name for name, parameter in run.state.D.named_parameters() if parameter not in run.trainable[run.state.D]}
    assert changed
    assert frozen
    assert not frozen & changed
    assert all(not buffer.requires_grad for buffer in run.state.G_ema.parameters())


def test_ema_half_life_and_rampup(tmp_path):
    run = small_run(tmp_path, {"schedule": {"ema_kimg": 0.016, "batch": 8, "ema_rampup": 0.5}})
    state = run.state
    for parameter in state.G.parameters():
        torch.nn.init.ones_(parameter)
    for parameter in state.G_ema.parameters():
        torch.nn.init.zeros_(parameter)
    state.images = 10**6
    average_weights(run)
    assert next(state.G_ema.parameters()).mean().item() == pytest.approx(1 - 0.5**0.5)
    average_weights(run)
    assert next(state.G_ema.parameters()).mean().item() == pytest.approx(0.5)
    state.images = 8
    average_weights(run)  # half-life 4 images: two of them pass
    assert next(state.G_ema.parameters()).mean().item() == pytest.approx(1 - 0.5 * 0.25)


def test_r1_reaches_through_the_augmentation(tmp_path):
    """With everything cut out, D's gradient with respect to the image before augmentation vanishes there."""
    run = small_run(tmp_path, {"augment": {"augs": "cutout", "controller": "fixed(p=0.8)", "p": 0.8}})
    (portion,) = run.portions
    portion.load(run.dataset, 0)
    reals, labels = portion.reals()
    reals.requires_grad_()
    draws = RandomDraws(0, "R1", torch.arange(8))
    logits = run.state.D(run.augment(reals, 1.0, draws), labels)
    (gradient,) = torch.autograd.grad(logits.sum(), reals)
    assert 0.1 < (gradient == 0).float().mean() < 0.4  # a quarter, less at the edges


def bad_updates(run):
    return {loss: int(count) for loss, count in run.state.bad_updates.items() if count}


def until_p_is_adapted(run):
    """Counts of bad updates are looked at when the host waits for the device anyway."""
    for _ in range(run.config.augment.interval):
        training_step(run)


def test_bad_gradients_are_left_out_and_then_stop_the_run(tmp_path):
    run = small_run(tmp_path)
    training_step(run)
    before = {name: value.clone() for name, value in run.state.D.state_dict().items()}
    run.config.loss.__dict__["r1_gamma"] = 0.0
    with torch.no_grad():
        next(run.state.G.parameters()).fill_(float("nan"))
    training_step(run)
    assert bad_updates(run) == {"discriminator_loss": 1, "generator_loss": 1}
    assert all(torch.equal(value, before[name]) for name, value in run.state.D.state_dict().items())
    assert run.state.G.mapping.w_avg.isfinite().all()
    assert not run.w_mean.any()
    for _ in range(MAX_BAD_UPDATES - 2):
        training_step(run)
    with pytest.raises(DivergedError, match="not finite"):
        until_p_is_adapted(run)


def test_rare_losses_diverge_too(tmp_path, monkeypatch):
    """R1 and path length come seldom: good updates between do not hide that they fail every time."""
    run = small_run(tmp_path, {"loss": {"pl_interval": 2}})
    nan = lambda lengths, mean, decay, average: (lengths * float("nan"), mean * float("nan"))  # noqa: E731
    monkeypatch.setattr(losses, "path_length_penalty", nan)
    for _ in range(2 * MAX_BAD_UPDATES - 2):
        training_step(run)
    assert bad_updates(run) == {"path_length_loss": MAX_BAD_UPDATES - 1}
    assert run.state.pl_mean.isfinite()
    with pytest.raises(DivergedError, match="path length loss"):
        until_p_is_adapted(run)


def test_controllers_say_where_p_starts(tmp_path):
    def first(controller, p=0.1):
        return small_run(tmp_path, {"augment": {"controller": controller, "p": p}}).state.p

    assert first("rt") == 0.1
    assert first("fixed(p=0.3)") == 0.3
    assert first("fixed") == 0.1
    assert first("linear(start=0.2)") == 0.2
    assert first("fixed(p=1.0)") == 0.8  # the cap


def test_diverged_runs_say_so(tmp_path):
    run = small_run(tmp_path)
    with torch.no_grad():
        next(run.state.D.parameters()).fill_(float("nan"))
    run.print = lambda text: None
    with pytest.raises(DivergedError):
        train(run)
    assert json.loads((tmp_path / "status.json").read_text())["status"] == "diverged"


def test_conditional_labels_are_as_frequent_as_in_the_data(tmp_path):
    run = small_run(tmp_path, {"data": {"cond": True}})
    u = (torch.arange(6400) + 0.5) / 6400
    assert torch.allclose(run.random_labels(u).mean(0), run.dataset.labels.mean(0), atol=1e-3)


def test_rv_sees_validation_images(tmp_path):
    table = {"data": {"val_fraction": 0.25}, "augment": {"controller": "rv(kimg=1)"}}
    run = small_run(tmp_path, table)
    for _ in range(3):
        training_step(run)
    assert run.state.observed[5] == 24
    training_step(run)
    assert run.state.p != 0.3


@pytest.mark.slow
def test_long_runs_keep_their_size(tmp_path):
    """200 ticks with a snapshot each: 3 networks, 2 checkpoints, a sheet and a line a tick, and nothing else."""
    table = {
        "schedule": {"batch": 4, "kimg": 0.8, "tick_kimg": 0.004, "snap": 1, "keep": 3, "keep_checkpoints": 2},
        "augment": {"augs": "blit"},
        "loggers": ["jsonl", "tensorboard"],
    }
    run = small_run(tmp_path, table)
    run.print = lambda text: None
    assert train(run) == "finished"
    assert run.state.tick == 200
    assert len(list((tmp_path / "snapshots").iterdir())) <= 3
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2
    assert len((tmp_path / "stats.jsonl").read_text().splitlines()) == 200
    network = (tmp_path / "run.pkl").stat().st_size
    checkpoint = max(path.stat().st_size for path in (tmp_path / "checkpoints").iterdir())
    logs = sum((tmp_path / name).stat().st_size for name in ("stats.jsonl", "log.txt"))
    events = sum(path.stat().st_size for path in tmp_path.glob("events.*"))
    whole = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink())
    assert logs < 200 * 4000
    assert events < 200 * 3000
    assert whole < 3 * network + 2 * checkpoint + logs + events + 3_000_000


@pytest.mark.slow
def test_memory_stays_flat(tmp_path):
    import psutil

    run = small_run(tmp_path, {"augment": {"augs": "bgcfnc"}})
    process = psutil.Process()
    used = []
    for step in range(2000):
        training_step(run)
        if step % 20 == 0:
            run.state.statistics.take()
        if step % 100 == 99:
            used.append(process.memory_info().rss / 2**20)
    early, late = sum(used[4:8]) / 4, sum(used[-4:]) / 4
    assert late - early < 10, used
