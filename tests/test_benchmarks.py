"""The benchmark: its arithmetic, and that the sides adaflow is timed against compute the same. Nothing is timed."""

import json
import mmap
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adaflow.core.losses import path_lengths, r1_penalty
from adaflow.core.networks import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig
from adaflow.core.snapshot import load_network
from adaflow.cuda import library
from adaflow.errors import UsageError
from adaflow.plugins.metrics.frechet import frechet_distance
from benchmarks import __main__ as command
from benchmarks import small_runs
from benchmarks.adapter import load_adapter
from benchmarks.baselines import chain
from benchmarks.baselines.kornia_pipe import kornia_pipe
from benchmarks.baselines.networks import PlainDiscriminator, PlainGenerator
from benchmarks.baselines.step import PlainStep, StepSettings
from benchmarks.harness import Case, Clock, Result, Side, markdown, measure
from benchmarks.options import OURS, REFERENCE, TORCH, Options, on_reference
from benchmarks.ours import Setup
from benchmarks.subjects import augment, inference, launches, memory, metric, step
from tests.golden import Golden

GOLDEN = Golden("augment")
CASES = [
    pytest.param(case, id=case["key"])
    for case in GOLDEN.cases
    if {"G_inv", "C", "filter_taps"} & set(case["arrays"]) or "cutout" in case["transforms"]
]
DRAWN = [case for case in CASES if case.values[0]["percentile"] is not None and not case.values[0]["extra"]]
TINY = Setup("tiny", 16, 16, {"channel_base": 128, "channel_max": 16}, {"batch": 8})
DOCS = (Path(__file__).parents[1] / "docs" / "benchmarks.md").read_text(encoding="utf-8")


def array(case, name):
    return GOLDEN[f"{case['key']}__{name}"]


def close(a, b, share):
    """Equal but for a share of the greatest value."""
    torch.testing.assert_close(a, b, atol=share * float(b.detach().abs().max()), rtol=0)


class FakeTime:
    """A clock that goes only where a side says so."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        for clock in ("perf_counter", "process_time"):
            monkeypatch.setattr(f"benchmarks.harness.time.{clock}", lambda: self.now)

    def side(self, name, *seconds, per=1.0):
        """Takes so many seconds at each call; the last one from then on."""
        left = list(seconds)
        self.log = getattr(self, "log", [])

        def run():
            self.log.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return Side(name, run, per)


# --- harness ---


def test_sides_take_turns_and_ratios_are_of_a_round(monkeypatch):
    time = FakeTime(monkeypatch)
    # the first call of each warms up; the machine is busy in the second round
    sides = [time.side("a", 9, 1, 10, 1), time.side("b", 9, 3, 20, 4)]
    result = measure(Case("s", "c", sides, single=True), 3, 0.0, Clock())
    assert time.log == ["a", "b"] * 4
    assert result.values == {"a": [1000, 10_000, 1000], "b": [3000, 20_000, 4000]}
    assert result.ratios("b") == [3, 2, 4]
    row = result.as_table()["sides"]["b"]
    assert (row["min"], row["median"], row["ratio"], row["ratio_range"]) == (3000, 4000, 3, [2, 4])


def test_short_calls_are_repeated_and_counted_by_item(monkeypatch):
    time = FakeTime(monkeypatch)
    # the first call builds for a while; it does not say how long the others take
    result = measure(Case("s", "c", [time.side("a", 0.5, 0.01, per=4)]), 2, 0.1, Clock())
    assert result.notes == {"calls": {"a": 1}}
    time.log.clear()
    result = measure(Case("s", "c", [time.side("a", 0.05, 0.01, per=4)]), 2, 0.1, Clock())
    assert result.notes == {"calls": {"a": 10}}
    assert len(time.log) == 2 + 2 * 10
    assert result.values["a"] == pytest.approx([2.5, 2.5])


def test_a_case_can_have_its_own_number_of_rounds(monkeypatch):
    case = Case("s", "c", [FakeTime(monkeypatch).side("a", 1)], rounds=2, single=True)
    assert len(measure(case, 7, 0.1, Clock()).values["a"]) == 2


def test_tables():
    results = [
        Result("x", "one", "ms", {"a": [1.0, 3.0, 2.0], "b": [3.0, 6.0, 8.0]}),
        Result("x", "two", "ms", {"a": [0.0123], "c": [0.123]}),
        Result("y", "three", "MiB", {"a": [0.0], "b": [5.0]}),
    ]
    assert markdown(results) == (
        "### x\n\n| | a | b | c |\n|--|--|--|--|\n"
        "| one, ms | 2.00 (1.00) | 6.00 (3.00) **3.00×** (2.00–4.00) |  |\n"
        "| two, ms | 0.012 (0.012) |  | 0.12 (0.12) **10.0×** (10.0–10.0) |\n\n"
        "### y\n\n| | a | b |\n|--|--|--|\n| three, MiB | 0 (0) | 5.00 (5.00) |"
    )


# --- command line ---


def test_json_is_written_as_results_come(monkeypatch, tmp_path, capsys):
    file = tmp_path / "numbers.json"
    seen = []

    def results(*_):
        for number in (1.0, 2.0):
            yield Result("loader", f"case {number}", "ms", {"adaflow": [number]})
            seen.append(len(json.loads(file.read_text())["results"]))

    monkeypatch.setattr("benchmarks.subjects.loader.results", results)
    assert (
        command.main(
            ["--only", "loader", "--threads", str(torch.get_num_threads()), "--json", str(file), "--system-allocator"]
        )
        == 0
    )
    assert seen == [1, 2]
    table = json.loads(file.read_text())
    assert table["machine"]["torch"] == torch.__version__
    assert {"cpu", "flags", "cores", "threads", "compiler", "gpu"} <= table["machine"].keys()
    assert "| case 2.0, ms | 2.00 (2.00) |" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["--only", "nothing"], ["--compare", "no/such/folder"], ["--compare", str(Path(__file__).parent)]]
)
def test_mistakes_are_told(arguments, capsys):
    assert command.main(arguments) == 2
    assert "error: " in capsys.readouterr().err


def test_every_subject_is_there_and_in_the_docs():
    for name in command.SUBJECTS:
        module = command.import_module(f"benchmarks.subjects.{name}")
        assert hasattr(module, "cases") or hasattr(module, "results")
        assert f"| `{name}` |" in DOCS


def test_reference_side_takes_the_reference_path():
    device = torch.device("cpu")
    assert on_reference(library.native)(device) is None
    tasks = dict(augment.tasks_for("blit", 64, 1.0, "forward", Options(sides=(REFERENCE,))))
    assert list(tasks) == [OURS, REFERENCE]
    assert tasks[REFERENCE]().shape == (16, 3, 64, 64)


# --- the chain ---


@pytest.mark.parametrize("case", CASES)
def test_chain_is_right(case):
    images = GOLDEN[case["input"]].requires_grad_()
    out, n, arrays = images, len(images), set(case["arrays"])
    if "G_inv" in arrays:
        inverse = array(case, "G_inv").expand(n, 3, 3)
        assert list(chain.margins(inverse, *images.shape[2:])) == array(case, "margins").tolist()
        lowpass = chain.Chain("bg", 1.0).lowpass
        out = chain.resample(out, inverse, lowpass)
    if "C" in arrays:
        out = chain.recolor(out, array(case, "C").expand(n, 4, 4))
    if "filter_taps" in arrays:
        out = chain.filter_each(out, array(case, "filter_taps").expand(n, -1))
    if "cutout" in case["transforms"]:
        size = case["extra"].get("cutout_size", 0.5)
        out = chain.cut_out(out, torch.full((n, 2), case["percentile"]), torch.full((n,), size))
    torch.testing.assert_close(out, array(case, "out"), atol=2e-5, rtol=0)
    if "grad" in arrays:
        cotangent = GOLDEN["cotangent_" + case["input"].removeprefix("input_")]
        close(torch.autograd.grad((out * cotangent).sum(), images)[0], array(case, "grad"), 1e-4)


@pytest.mark.parametrize("case", DRAWN)
def test_chain_draws_what_it_should(case, monkeypatch):
    """At one percentile; the golden normal numbers have no √2, and the second rotation is none."""
    images = GOLDEN[case["input"]]
    n, channels, height, width = images.shape
    q = case["percentile"]
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.full(shape, q))
    monkeypatch.setattr(torch, "randn", lambda *shape, **_: torch.full(shape, 2 * q - 1).erfinv())
    pipe = chain.Chain("bgcfnc", 1.0)
    names = set(case["transforms"])
    pipe.active = names
    device = images.device
    if "G_inv" in case["arrays"]:
        inverse = pipe.draw_geometry(n, height, width, device)
        torch.testing.assert_close(inverse, array(case, "G_inv").expand(n, 3, 3), atol=1e-5, rtol=0)
    if "C" in case["arrays"]:
        matrix = pipe.draw_color(n, channels, device)[:, :3]
        torch.testing.assert_close(matrix, array(case, "C")[:3].expand(n, 3, 4), atol=1e-5, rtol=0)
    if "filter_taps" in case["arrays"]:
        taps = pipe.draw_taps(n, device)
        torch.testing.assert_close(taps, array(case, "filter_taps").expand(n, -1), atol=1e-5, rtol=0)


def test_chain_gates():
    torch.manual_seed(0)
    pipe = chain.Chain("geom", 0.3)
    assert abs(float(pipe.either(torch.ones(4000), 0.0).mean()) - 0.3) < 0.03
    pipe.active = {"rotate", "rotate_after"}
    turned = (pipe.draw_geometry(4000, 8, 8, torch.device("cpu"))[:, 0, 1] != 0).float().mean()
    assert abs(float(turned) - 0.3) < 0.03
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(chain.Chain("bgcfnc", 0.0)(images), images)


def test_chain_noise_and_cutout():
    torch.manual_seed(0)
    sigma = torch.tensor([0.0, 0.5])
    noise = chain.add_noise(torch.zeros(2, 3, 64, 64), sigma)
    torch.testing.assert_close(noise.std(dim=(1, 2, 3)), sigma, atol=0.02, rtol=0)
    whole = chain.Chain("bgcfnc", 0.8)(torch.rand(4, 3, 64, 64))
    assert whole.shape == (4, 3, 64, 64)
    assert whole.isfinite().all()


@pytest.mark.parametrize("which", augment.PASSES)
def test_passes_of_all_sides(which):
    """For a doubling it is twice the images, the cotangents or the directions."""
    images = torch.rand(2, 3, 8, 8)
    torch.manual_seed(2)
    cotangent, direction = torch.randn_like(images), torch.randn_like(images)
    expected = dict(zip(augment.PASSES, (images, cotangent, direction), strict=True))[which]
    torch.manual_seed(2)
    torch.testing.assert_close(augment.one_pass(lambda x: 2 * x, images, which)(), 2 * expected)


def test_kornia_has_gates():
    torch.manual_seed(0)
    images = torch.rand(40, 3, 16, 16)
    assert torch.equal(kornia_pipe(0.0)(images), images)
    touched = (kornia_pipe(0.2)(images) != images).flatten(1).any(1).float().mean()
    assert 0.2 < float(touched) < 0.8


# --- networks and step in plain torch ---


def perturbed(network):
    torch.manual_seed(0)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return network


def generator():
    torch.manual_seed(1)
    return perturbed(Generator(GeneratorConfig(16, 0, 16, img_resolution=32, mapping_layers=2, **TINY.network)))


def discriminator():
    torch.manual_seed(1)
    return perturbed(Discriminator(DiscriminatorConfig(img_resolution=32, **TINY.network)))


@pytest.mark.parametrize("modulation", ["scaled", "grouped"])
def test_plain_generator(modulation):
    G, z = generator(), torch.randn(4, 16)
    plain = PlainGenerator(G, modulation)
    close(plain(z, noise="const"), G(z, noise="const"), 1e-5)
    gradients = []
    for network, parameters in ((G, dict(G.named_parameters())), (plain, plain.weights)):
        ws = network.mapping(z)
        torch.manual_seed(3)
        lengths = path_lengths(network.synthesis(ws, noise="const"), ws, torch.randn(4, 3, 32, 32))
        chosen = [
            parameters[name] for name in ("synthesis.b8.conv0.weight", "mapping.fc0.weight", "synthesis.b4.const")
        ]
        gradients.append(torch.autograd.grad(lengths.sum(), chosen))
    for mine, theirs in zip(*gradients, strict=True):
        close(mine, theirs, 1e-4)


def test_plain_discriminator():
    D, images = discriminator(), torch.rand(8, 3, 32, 32) * 2 - 1
    plain = PlainDiscriminator(D)
    close(plain(images), D(images), 1e-5)
    gradients = []
    for network, parameters in ((D, dict(D.named_parameters())), (plain, plain.weights)):
        x = images.clone().requires_grad_()
        penalty = r1_penalty(network(x), x).sum()
        chosen = [parameters[name] for name in ("b32.conv0.weight", "b16.skip.weight", "b4.fc.weight")]
        gradients.append(torch.autograd.grad(penalty, chosen))
    for mine, theirs in zip(*gradients, strict=True):
        close(mine, theirs, 1e-4)


def test_plain_networks_have_weights_of_their_own():
    G = generator()
    plain = PlainGenerator(G)
    before = G.synthesis.b4.const.clone()
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.add_(1)
    assert torch.equal(G.synthesis.b4.const, before)
    assert len(plain.parameters()) == len(list(G.parameters()))


def test_phases_of_the_plain_step():
    G, D = generator(), discriminator()
    torch.manual_seed(0)
    train = PlainStep(PlainGenerator(G), PlainGenerator(G), PlainDiscriminator(D), 16, lambda images: images)
    reals = torch.rand(4, 3, 32, 32)
    names = ("G", "D", "G_ema")

    def moved(phase):
        before = {name: [p.detach().clone() for p in getattr(train, name).parameters()] for name in names}
        phase()
        return {
            name
            for name in names
            if not all(map(torch.equal, before[name], [p.detach() for p in getattr(train, name).parameters()]))
        }

    assert moved(lambda: train.d_main(reals)) == {"D"}
    assert moved(lambda: train.d_r1(reals)) == {"D"}
    assert moved(lambda: train.g_main(4)) == {"G"}
    assert moved(lambda: train.g_pl(4)) == {"G"}
    assert moved(train.average) == {"G_ema"}
    assert float(train.pl_mean) > 0


def test_plain_step_regularises_when_it_is_due(monkeypatch):
    calls = []
    train = PlainStep.__new__(PlainStep)
    train.settings = StepSettings(r1_interval=4, pl_interval=2)
    for phase in ("d_main", "d_r1", "g_main", "g_pl", "average"):
        monkeypatch.setattr(train, phase, lambda *_, phase=phase: calls.append(phase), raising=False)
    train(torch.zeros(1), 1)
    assert calls == ["d_main", "g_main", "average"]
    calls.clear()
    train(torch.zeros(1), 4)
    assert calls == ["d_main", "d_r1", "g_main", "g_pl", "average"]


# --- subjects ---


def test_steps_of_both_sides_train():
    steps = dict(step.steps_for(TINY, "bgc", "fp32", Options(sides=(TORCH,))))
    assert list(steps) == [OURS, TORCH, step.GROUPED]
    for train in steps.values():
        for number in step.STEPS.values():
            train(number)


def test_our_step_has_the_number_it_is_told(monkeypatch):
    seen = []
    monkeypatch.setattr(step, "training_step", lambda run: seen.append((run.state.step, run.state.p)))
    train = step.our_step(TINY, "bgc", "fp32", torch.device("cpu"))
    train(16)
    train(1)
    assert seen == [(16, step.P), (1, step.P)]


def test_step_kinds_are_what_their_names_say():
    settings = StepSettings()
    due = {
        kind: (number % settings.pl_interval == 0, number % settings.r1_interval == 0)
        for kind, number in step.STEPS.items()
    }
    assert due == {"Dmain + Gmain": (False, False), "with Gpl": (True, False), "with Gpl and Dr1": (True, True)}


def test_phases_from_whole_steps():
    times = {"Dmain + Gmain": [10.0, 20.0], "with Gpl": [14.0, 28.0], "with Gpl and Dr1": [30.0, 60.0]}
    whole = Result("step", "c", "ms", {f"{side}|{kind}": v for side in ("a", "b") for kind, v in times.items()})
    phases = {result.case: result.values for result in step.in_phases(whole, ["a", "b"])}
    assert phases["c: amortised (= s/kimg)"] == {"a": [12.0, 24.0], "b": [12.0, 24.0]}
    assert phases["c: Gpl"]["a"] == [4.0, 8.0]
    assert phases["c: Dr1"]["b"] == [16.0, 32.0]


def test_inference_sides(monkeypatch):
    monkeypatch.setattr(inference, "SMALL", TINY)
    (case,) = inference.cases(Options(quick=True, sides=(TORCH,)))
    assert [side.name for side in case.sides] == [OURS, TORCH, step.GROUPED]
    assert {tuple(side.run().shape) for side in case.sides} == {(16, 3, 16, 16)}


def test_metric_sides_agree():
    x, y = (metric.features(seed, 200, 32) for seed in (0, 1))
    assert metric.distance_by_root(x, y) == pytest.approx(frechet_distance(x, y), rel=1e-6)
    assert metric.distance_by_root(x, y) > 0.01


def test_memory_grows_by_what_is_taken(monkeypatch):
    def tasks(_):
        yield OURS, lambda: mmap.mmap(-1, 2**26).write(b"1" * 2**26)

    monkeypatch.setitem(memory.TASKS, "case", tasks)
    if Path("/proc/self/clear_refs").exists():
        assert 60 < memory.growth("case", OURS, torch.device("cpu")) < 200
    assert memory.growth("case", "nobody", torch.device("cpu")) is None


def test_launches_are_tallied():
    names = {"cudaLaunchKernel": 5, "cudaLaunchKernelExC": 2, "cudaMemcpyAsync": 3, "aten::add": 9}
    assert launches.tally(names) == {"kernel launches": 7, "graph launches": 0, "copies": 3, "waits": 0}
    assert list(launches.results(Options(), 1, 0.0, Clock())) == []


# --- adapters ---

FASTGAN = {
    "augment": "class Pipe:\n    def __init__(self, names, strength): pass\n    def to(self, device): return self\n"
    "    def __call__(self, images): return images * 1.5\n",
    "networks": "import torch\n"
    "class Painter(torch.nn.Module):\n"
    "    layers = 3\n"
    "    def __init__(self, size, z_dim, w_dim, width, most):\n"
    "        super().__init__()\n"
    "        self.size, self.styles = size, torch.nn.Linear(z_dim, w_dim)\n"
    "        self.out = torch.nn.Linear(w_dim, 3 * size * size)\n"
    "    def paint(self, ws): return self.out(sum(ws)).view(-1, 3, self.size, self.size)\n"
    "class Judge(torch.nn.Module):\n"
    "    def __init__(self, size, width, most):\n"
    "        super().__init__()\n"
    "        self.out = torch.nn.Linear(3 * size * size, 1)\n"
    "    def forward(self, images): return self.out(images.flatten(1)).square()\n",
}


@pytest.fixture
def fastgan(tmp_path, monkeypatch):
    """The made-up package of the docs, with the adapter that stands there."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    folder = tmp_path / "fastgan-main"
    (folder / "fastgan").mkdir(parents=True)
    (folder / "fastgan" / "__init__.py").touch()
    for name, text in FASTGAN.items():
        (folder / "fastgan" / f"{name}.py").write_text(text)
    (source,) = re.findall(r"```python\n(# adapter.py.*?)```", DOCS, flags=re.DOTALL)
    (folder / "adapter.py").write_text(source)
    return load_adapter(folder)


def test_adapter_of_the_docs(fastgan, monkeypatch):
    options = Options(sides=(), foreign=fastgan)
    tasks = dict(augment.tasks_for("bgc", 64, 0.2, "forward", options))
    assert list(tasks) == [OURS, "fastgan-main"]
    assert tasks["fastgan-main"]().abs().max() > 1.4
    assert list(dict(augment.tasks_for("blit", 64, 0.2, "forward", options))) == [OURS]

    steps = dict(step.steps_for(TINY, "bgc", "fp32", options))
    assert list(steps) == [OURS, "fastgan-main"]
    steps["fastgan-main"](16)

    monkeypatch.setattr(inference, "SMALL", TINY)
    (case,) = inference.cases(Options(quick=True, sides=(), foreign=fastgan))
    assert case.sides[1].run().shape == (16, 3, 16, 16)


def test_adapter_elsewhere_and_in_part(tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "mine.py").write_text("def augment_pipe(name, p, device): return lambda images: images")
    adapter = load_adapter(tmp_path / "code", tmp_path / "mine.py")
    options = Options(sides=(), foreign=adapter)
    assert list(dict(augment.tasks_for("blit", 64, 0.2, "forward", options))) == [OURS, "code"]
    assert list(dict(step.steps_for(TINY, "none", "fp32", options))) == [OURS]


def test_adapter_without_any_function(tmp_path):
    (tmp_path / "adapter.py").write_text("x = 1")
    with pytest.raises(UsageError, match="none of"):
        load_adapter(tmp_path)


def small_runs_of(folder, *arguments, data="demo:lesions,resolution=32,images=64"):
    return ["small_runs", "--data", data, "--outdir", str(folder), *arguments]


def test_small_runs_go_on_from_the_same_start(tmp_path, monkeypatch, capsys):
    for kimg, row in (("0.032", "| 0.0 | "), ("0.064", "| 0.1 | ")):
        arguments = small_runs_of(tmp_path, "--seeds", "5", "--start", "3", "--kimg", kimg)
        monkeypatch.setattr(sys, "argv", arguments)
        small_runs.main()
        assert row in capsys.readouterr().out

    (run,) = (tmp_path / "start3" / "seed5").glob("0*")
    start, trained = load_network(tmp_path / "start3" / "start.pkl"), load_network(run / "run.pkl")
    # Three steps of Adam, path length included: no weight is far from where it began.
    assert (trained.G.synthesis.b4.const - start.G.synthesis.b4.const).abs().max() < 0.01

    monkeypatch.setattr(sys, "argv", small_runs_of(tmp_path, "--seeds", "5", "--start", "3", data="elsewhere.zip"))
    with pytest.raises(SystemExit, match=r"demo:lesions.*--outdir"):
        small_runs.main()


def test_customary_start(tmp_path):
    torch.manual_seed(3)
    torch.randint(2**62, ())  # one integer, of whatever kind
    const = torch.randn(64, 4, 4)  # what G draws first
    start = load_network(small_runs.customary_start(3, tmp_path / "start.pkl"))
    assert torch.equal(start.G.synthesis.b4.const, const)


def test_table_of_small_runs():
    text = small_runs.table({4: {5.0: 3000.4, 36.0: 1500.0, 50.0: 1300.0}, 7: {5.0: 2000.0, 50.0: 1600.0}})
    assert text.splitlines() == [
        "| kimg | seed 4 | seed 7 |",
        "|--|--|--|",
        "| 5.0 | 3000 | 2000 |",
        "| 36.0 | 1500 | – |",
        "| 50.0 | 1300 | 1600 |",
        "| mean from 35 on | 1400 | 1600 |",
        "",
        "1500 ± 141 (mean and standard deviation of the runs' means)",
    ]
    assert "mean" not in small_runs.table({4: {5.0: 3000.0}})


def test_small_runs_end_where_training_does(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", small_runs_of(tmp_path, data="no such folder"))
    with pytest.raises(SystemExit, match="3"):
        small_runs.main()
    assert "no such folder" in capfd.readouterr().err


@pytest.mark.slow
def test_small_runs_after_ctrl_c(tmp_path):
    command = [sys.executable, "-m", "benchmarks.small_runs", *small_runs_of(tmp_path, "--kimg", "20")[1:]]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    for line in process.stdout:
        if line.startswith("tick"):
            break
    os.killpg(process.pid, signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "Traceback" not in out + error
    assert "adaflow resume" in out + error
