"""The tables of LeakBench count what they say, and its programs run."""

import json
import subprocess
import sys

import pytest

from benchmarks.leakbench.tables import by_group, called_clean, could_be_clean, covers, summary


def row(seed, condition, planted, leaks, intervals=None, smallest=None, **more):
    found = {
        name: {
            "leak": name in leaks,
            "named": name in leaks,
            "beside": False,
            "share": 0.1 if name in planted else 0.0,
            "interval": (intervals or {}).get(name, (0.0, 0.05)),
            "smallest": (smallest or {}).get(name),
        }
        for name in ("hue", "noise")
    }
    whole = {"seed": seed, "condition": condition, "planted": planted, "found": found}
    return whole | {"misfit": [0.1, 0.2], "strangeness": 0.7} | more


ROWS = [
    row(0, "clean", {}, [], smallest={"hue": 0.05}),
    row(1, "clean", {}, ["noise"]),
    row(0, "clean", {"hue": 0.1}, ["hue"], {"hue": (0.08, 0.12)}),
    row(1, "clean", {"hue": 0.1}, ["noise"], smallest={"hue": 0.05}),
    row(0, "blurred", {}, []),
    row(0, "blurred", {"hue": 0.1}, []),
    row(0, "clean", {"flip": 0.1}, []),
]


def cells(text, name):
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} ")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_false_alarms_detections_and_others_accused():
    text = summary(ROWS, ("hue", "noise", "flip"))
    told, alarms, seen, undistorted, clean, share, cover, cover_undistorted, width, others = cells(text, "hue")
    assert (told, alarms, seen, undistorted) == ("100.0 %", "0.0 %", "33.3 %", "50.0 %")
    assert clean == "33.3 %"  # of the two that were missed the one in which hue would have been seen
    assert share == "0.100 ± 0.000"
    assert (cover, cover_undistorted, width, others) == ("100.0 %", "100.0 %", "0.04", "0.0 %")
    assert cells(text, "noise")[1] == "33.3 %"
    assert cells(text, "noise")[-1] == "25.0 %"
    assert "False alarms in 33.3 % of the sets; clean in division 0: 25.0 %." in text


def test_what_is_never_told_counts_as_not_seen():
    text = summary(ROWS, ("hue", "noise", "flip"))
    assert cells(text, "flip")[:3] == ["0.0 %", "–", "0.0 %"]


def test_what_is_named_with_a_leak_that_it_looks_like_is_seen_and_accused():
    both = row(0, "clean", {"hue": 0.1}, ["noise"])
    both["found"]["hue"]["named"] = True
    text = summary([row(0, "clean", {}, []), both, row(0, "clean", {"flip": 0.1}, ["noise"])], ("hue", "noise", "flip"))
    assert cells(text, "hue")[2] == "100.0 %"
    assert cells(text, "hue")[6] == "–"  # by itself it has no interval
    assert cells(text, "noise")[-1] == "100.0 %"


def test_clean_needs_a_narrow_interval_and_a_smaller_rate_that_would_have_been_seen():
    missed = row(0, "clean", {"hue": 0.1}, [], smallest={"hue": 0.075})
    assert called_clean(missed, "hue")
    assert could_be_clean(missed, "noise")
    assert not called_clean(missed, "noise")
    assert not called_clean(row(0, "clean", {}, [], smallest={"hue": 0.1}), "hue")
    assert not could_be_clean(row(0, "clean", {}, [], {"hue": (0.0, 0.1)}), "hue")
    assert not could_be_clean(row(0, "clean", {}, ["hue"]), "hue")
    assert not could_be_clean(missed | {"strangeness": 1.2}, "hue")
    missed["found"]["hue"]["beside"] = True
    assert not called_clean(missed, "hue")
    assert covers(row(0, "clean", {}, [], {"hue": (0.004, 0.2)}), "hue", 0)
    assert not covers(row(0, "clean", {}, [], {"hue": (0.006, 0.2)}), "hue", 0)


def test_a_group_is_seen_if_one_of_its_transforms_is_accused():
    planted = {"grainy": 0.1}
    rows = [row(seed, "clean", planted, leaks) for seed, leaks in enumerate((["noise"], ["hue"], [], ["noise", "hue"]))]
    rows += [row(0, "blurred", planted, []), *ROWS]
    seen, undistorted, each, others = cells(by_group(rows, {"grainy": ("noise", "flip")}), "grainy")
    assert (seen, undistorted, each, others) == ("40.0 %", "50.0 %", "noise 40.0 %, flip 0.0 %", "40.0 %")
    assert cells(summary(rows, ("hue", "noise", "flip")), "hue")[-1] == "0.0 %"  # groups do not count there


def bench(part, *arguments):
    command = [sys.executable, "-m", f"benchmarks.leakbench.{part}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_the_programs_run(tmp_path):
    """On few small drawn images, from the first trace to the last table."""
    data = "demo:lesions,resolution=32,images={}"
    traces, table = ("--folder", tmp_path / "traces"), tmp_path / "table.json"
    options = ("--data", data.format(120), "--resolution", 32, "--conditions", "clean,jpeg")
    bench("augmentations", "traces", *traces, *options)
    text = bench("augmentations", "table", *traces, "--seeds", 1, "--images", 200, "--json", table)
    assert "| cutout |" in text
    assert "| filter |" in text
    assert {row["condition"] for row in json.loads(table.read_text())} >= {"clean", "jpeg", "clean, all at p = 0.2"}
    for part, row in (("copies", "| clean, none |"), ("collapse", "| as they are |")):
        assert row in bench(part, "--data", data.format(900), "--size", 32, "--seeds", 1)
