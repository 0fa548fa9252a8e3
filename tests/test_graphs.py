"""Phases as graphs: they depend on tensors that stay where they are; what cannot be recorded is run as it is."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from adaflow.core import training_step as steps
from adaflow.core.distributed import World
from adaflow.core.draw import RandomDraws
from adaflow.core.generate import Painter, generate_images
from adaflow.core.graphs import WARM_UP, CudaRecorder, Graphs
from adaflow.core.training_step import training_step
from adaflow.cuda.library import native, reference_ops
from adaflow.plugin_manager import PluginManager
from tests.recording import CpuRecorder, NotRecordableError, watched
from tests.runs import differences, small_run, tensors

PHASES = {"discriminator_loss", "r1_loss", "generator_loss", "path_length_loss"}
EVERY_STEP = {"loss": {"r1_interval": 2, "pl_interval": 2}}


def recorded_run(folder, table):
    """A run whose phases are recorded and repeated."""
    run = small_run(folder, table)
    said = []

    def kept():
        leaves = [leaf for leaf in tensors(run.state.state_dict()).values() if isinstance(leaf, torch.Tensor)]
        return [*leaves, *run.state.statistics._sums.values(), run.w_mean, run.taken]

    run.graphs = Graphs(CpuRecorder(kept), said.append)
    return run, said


def has_kernels():
    return native(torch.device("cpu")) is not None


@pytest.mark.parametrize(
    "table",
    [
        pytest.param({"augment": {"augs": "none"}}, id="plain"),
        pytest.param(
            {"augment": {"augs": "bgcfnc", "controller": "rt(kimg=0.2)"}, "precision": "bf16"},
            id="bf16, all native transforms",
        ),
        pytest.param(
            {"augment": {"augs": "bg"}, "data": {"cond": True, "balance": True}, "schedule": {"batch_gpu": 4}},
            id="labels and portions",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {
                "augment": {"augs": "color", "controller": "rv(kimg=0.2)"},
                "data": {"val_fraction": 0.25, "mirrory": True},
            },
            id="validation images",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_repeating_recorded_phases_is_training(tmp_path, table):
    """Bit for bit, with other images, latents, noise and p at every step, and another learning rate at the end."""
    if table["augment"]["augs"] != "none" and not has_kernels():
        pytest.skip("the reference path of the augmentation looks at its gates")
    table = {**table, "loss": EVERY_STEP["loss"]}
    eager = small_run(tmp_path, table)
    graphed, said = recorded_run(tmp_path, table)
    for step in range(2 * WARM_UP + 6):
        for run in (eager, graphed):
            run.state.G_opt.param_groups[0]["lr"] *= 1.0 if step < 2 * WARM_UP + 3 else 0.5
            training_step(run)
        assert differences(eager.state.state_dict(), graphed.state.state_dict()) == []
        if step == 5:  # as at a tick
            assert eager.state.statistics.take() == graphed.state.statistics.take()
    assert set(graphed.graphs.recorded) == PHASES
    assert said == []
    assert eager.state.p != 0.3 or "controller" not in table["augment"]


@pytest.mark.slow
def test_repeating_on_the_reference_path(tmp_path):
    table = {"augment": {"augs": "none"}, **EVERY_STEP}
    with reference_ops():
        eager, (graphed, _) = small_run(tmp_path, table), recorded_run(tmp_path, table)
        for run in (eager, graphed):
            for _ in range(2 * WARM_UP + 4):
                training_step(run)
    assert set(graphed.graphs.recorded) == PHASES
    assert differences(eager.state.state_dict(), graphed.state.state_dict()) == []


def test_a_bad_update_is_left_out_of_a_repeated_phase(tmp_path):
    table = {"augment": {"augs": "none"}, **EVERY_STEP}
    run, _ = recorded_run(tmp_path, table)
    for _ in range(2 * WARM_UP + 2):
        training_step(run)
    assert set(run.graphs.recorded) == PHASES
    before = {name: value.clone() for name, value in run.state.D.state_dict().items()}
    w_avg = run.state.G.mapping.w_avg.clone()
    with torch.no_grad():
        next(run.state.G.parameters()).fill_(float("nan"))
    run.config.loss.__dict__["r1_gamma"] = 0.0
    training_step(run)
    assert {loss: int(count) for loss, count in run.state.bad_updates.items() if count} == {
        loss: 1 for loss in PHASES - {"r1_loss"}
    }
    assert all(torch.equal(value, before[name]) for name, value in run.state.D.state_dict().items())
    assert torch.equal(run.state.G.mapping.w_avg, w_avg)


def test_a_recording_needs_what_changes_in_tensors(tmp_path):
    """The control: a counter that Python holds would be found out."""
    counter, total = [0], torch.zeros(())

    def phase():
        counter[0] += 1
        total.add_(counter[0])

    graphs = Graphs(CpuRecorder(lambda: [total]), print)
    for _ in range(WARM_UP + 3):
        graphs.run("phase", phase)
    assert total != sum(range(1, WARM_UP + 4))


@pytest.mark.parametrize(
    "phase",
    [
        lambda x: x.sum().item(),
        lambda x: x.tolist(),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: bool(x.any()),
        lambda x: x * torch.tensor(3.0),
        lambda x: x.cpu(),
    ],
)
def test_the_watch_sees_what_waits(phase):
    with pytest.raises(NotRecordableError), watched():
        phase(torch.arange(3.0))


def test_what_cannot_be_recorded_runs_as_it_is_and_is_named(tmp_path):
    total, said = torch.zeros(()), []

    def phase():
        total.add_(float(total) + 1)

    graphs = Graphs(CpuRecorder(lambda: [total]), said.append)
    for _ in range(5):
        graphs.run("waiting_loss", phase)
    assert total == 31
    assert said == ["The waiting loss is no CUDA graph, and takes longer: __float__ waits for the device"]


@pytest.mark.slow
def test_transforms_that_look_at_their_gates_run_as_they_are(tmp_path):
    table = {"augment": {"augs": "blit"}, **EVERY_STEP}
    with reference_ops():
        eager, (graphed, said) = small_run(tmp_path, table), recorded_run(tmp_path, table)
        for run in (eager, graphed):
            for _ in range(2 * WARM_UP + 4):
                training_step(run)
    assert set(graphed.graphs.recorded) == {"path_length_loss"}
    assert len(said) == 3
    assert differences(eager.state.state_dict(), graphed.state.state_dict()) == []


def test_recorded_once_after_a_warm_up():
    calls = []

    class Counting:
        def warm_up(self, phase):
            calls.append("warm up")
            phase()

        def record(self, phase):
            calls.append("record")
            phase()
            return lambda: calls.append("repeat")

    graphs = Graphs(Counting(), print)
    for _ in range(WARM_UP + 2):
        graphs.run("phase", lambda: calls.append("phase"))
    assert calls == ["warm up", "phase"] * WARM_UP + ["record", "phase", "repeat", "repeat"]


@pytest.mark.parametrize("noise", ["const", "random"])
def test_single_images_come_from_a_graph(tmp_path, noise):
    run = small_run(tmp_path, {"data": {"cond": True}})
    seeds = [5, 0, 2**40, 7, 5]
    paint = Painter(run.state.G_ema, 1, 0.7, noise)
    assert paint.graphs.recorder is None  # this is no GPU
    paint.graphs = Graphs(CpuRecorder(lambda: [paint._image]), print)
    single = torch.cat([paint([seed]) for seed in seeds])
    assert set(paint.graphs.recorded) == {"image"}
    together = generate_images(run.state.G_ema, seeds, 1, 0.7, noise, batch=4)
    assert (single.int() - together.int()).abs().max() <= 1  # sums are rounded otherwise in batches
    assert torch.equal(single[0], single[-1])
    assert not torch.equal(single[0], single[1])


@pytest.mark.parametrize("name", ["noise", "cutout"])
def test_transforms_of_pixels_do_not_wait(tmp_path, name):
    run = small_run(tmp_path, {"augment": {"augs": name}})
    (place,) = run.augment.image_places
    images = torch.rand(4, 3, 16, 16)
    draw = RandomDraws(0, "D", torch.arange(4)).draw(name)
    place.transform.apply(images, draw)
    with watched():
        place.transform.apply(images, RandomDraws(0, "D", torch.arange(4)).draw(name))


@pytest.mark.parametrize(
    "table",
    [
        pytest.param({"precision": "bf16"}, id="bf16", marks=pytest.mark.slow),
        pytest.param(
            {"data": {"cond": True, "val_fraction": 0.25}, "augment": {"controller": "rv"}},
            id="labels and validation images",
        ),
    ],
)
def test_all_of_a_step_is_on_the_device(tmp_path, monkeypatch, table):
    """On torch's device without memory, where reading a number or mixing with the host's tensors is an error."""
    meta = torch.device("meta")
    run = small_run(tmp_path, table, world=World(0, 1, meta))
    # Gates and parameters are drawn; the images stay, for what happens to them is up to native kernels.
    monkeypatch.setattr(run.augment, "_reference", lambda images, p, draws: drawn(run.augment, images, p, draws))
    monkeypatch.setattr(run.augment, "image_places", [])
    monkeypatch.setattr(steps, "take_step", lambda optimizer, rate, skip: None)  # there is none for this device
    for _ in range(run.config.augment.interval - 1):
        training_step(run)
    assert run.state.observed.device == run.taken.device == meta
    with pytest.raises(NotImplementedError, match="meta"):
        training_step(run)  # at which p is adapted


def drawn(pipeline, images, p, draws):
    pipeline.color(p, draws, images.shape[1])
    pipeline.geometry(p, draws, *images.shape[2:])
    return images


def test_a_failed_recording_leaves_the_stream(monkeypatch):
    """With stand-ins for what torch has for GPUs only."""
    streams, recorded = [], []

    @contextmanager
    def graph(graph, pool, stream):
        recorded.append((graph, pool, stream))
        yield

    fakes = {
        "Stream": lambda: "side",
        "graph_pool_handle": lambda: "pool",
        "current_stream": lambda: "main",
        "set_stream": streams.append,
        "CUDAGraph": lambda: SimpleNamespace(replay="replay"),
        "graph": graph,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    recorder = CudaRecorder()
    assert recorder.record(lambda: None) == "replay"
    with pytest.raises(RuntimeError, match="capturing"):
        recorder.record(lambda: exec('raise RuntimeError("the stream is capturing")'))
    assert streams == ["main", "main"]
    assert [entry[1:] for entry in recorded] == [("pool", "side")] * 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_on_a_gpu(tmp_path, precision):
    """Recorded and repeated, a run goes as without graphs, and the host never waits for the GPU."""
    table = {"precision": precision, "augment": {"augs": "bgcfnc", "controller": "fixed", "interval": 1000}}
    table |= {"loss": EVERY_STEP["loss"], "data": {"cond": True}}
    world = World(0, 1, torch.device("cuda", 0))
    eager, graphed = (small_run(tmp_path, {**table, "graphs": graphs}, world=world) for graphs in (False, True))
    said = []
    graphed.print = said.append
    for _ in range(2 * WARM_UP + 2):
        for run in (eager, graphed):
            training_step(run)
    assert set(graphed.graphs.recorded) == PHASES, said
    first, second = (run.state.statistics.take() for run in (eager, graphed))
    for name, values in first.items():
        assert values["mean"] == pytest.approx(second[name]["mean"], rel=0.05, abs=0.01), name
    torch.cuda.set_sync_debug_mode("error")
    try:
        for run in (eager, graphed):
            for _ in range(4):
                training_step(run)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(value.isfinite().all() for value in graphed.state.G_ema.state_dict().values())


STATEFUL = '''
from dataclasses import dataclass
from typing import ClassVar
from adaflow import ImageTransform, hookimpl

@dataclass
class Counting(ImageTransform):
    """Counts its calls."""
    calls: int = 0
    def apply(self, images, draw):
        self.calls += 1
        return images
    def state_dict(self):
        return {"calls": self.calls}

@dataclass
class Saying(ImageTransform):
    """Says that it cannot."""
    capturable: ClassVar[bool] = False
    def apply(self, images, draw):
        return images

@hookimpl
def register_augmentations(register):
    register("counting", Counting)
    register("saying", Saying)
'''


@pytest.mark.parametrize(
    ("table", "size", "reason"),
    [
        ({"augment": {"augs": "blit,counting,saying"}}, 1, "what counting, saying does cannot be recorded"),
        ({}, 2, "several processes speak to each other within phases"),
        ({"graphs": False}, 1, ""),
    ],
)
def test_why_there_are_none(tmp_path, table, size, reason):
    file = tmp_path / "stateful.py"
    file.write_text(STATEFUL)
    run = small_run(tmp_path, table, PluginManager([file], environ={}))
    run.world = run.world.__class__(0, size, torch.device("cuda"))  # nothing is put there
    said = []
    run.print = said.append
    run.graphs = run._new_graphs()
    for _ in range(3):
        run.graphs.run("phase", lambda: None)
    assert run.graphs.recorder is None
    assert said == ([f"No CUDA graphs, so steps take longer: {reason}."] if reason else [])
