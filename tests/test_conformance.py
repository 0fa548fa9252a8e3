"""The conformance kit: names and errors, expected failures, pytest, the command line, the docs."""

import json
import re
from pathlib import Path

import pytest
import torch

from adaflow.conformance import CHECKS, Subject, checks_for, offered_by, parametrize_with_checks, run_checks
from adaflow.conformance.subjects import in_spec
from adaflow.core.augment.transform import Transform
from adaflow.errors import PluginError, UsageError
from adaflow.plugin_manager import KINDS, PluginManager
from adaflow.plugins.augmentations import blit
from tests.broken_augmentations import Expecting, GlobalNoise, Good, Posterised, Raises

pytest_plugins = ["tests.command_line", "pytester"]

PLUGINS = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"})
DOCS = Path(__file__).parents[1] / "docs" / "conformance.md"


def failed(results):
    return {result.check for result in results if result.status == "failed"}


# Names, settings, errors


def test_settings_are_those_given():
    (subject,) = in_spec(PLUGINS, "xint(max=0)")
    results = {r.check: r for r in run_checks("augmentation", "xint", subject.value, settings=subject.settings)}
    assert results["gate_rate"].reason.startswith("0 % of the images change")
    (result,) = (
        r for r in run_checks("augmentation", "mine", Good, settings={"strength": -1.0}) if r.check == "constructs"
    )
    assert result.status == "failed"
    assert "out of range" in result.reason


@pytest.mark.parametrize("name", ["../../etc/passwd", "a\x1b[2J", "none", "", "x" * 65])
def test_a_name_that_cannot_be_used_is_one_sentence(name):
    (first, *rest) = run_checks("augmentation", name, Good)
    assert (first.check, first.status) == ("constructs", "failed")
    assert "which cannot be used" in first.reason
    assert first.reason.isprintable()
    assert {result.status for result in rest} == {"skipped"}


@pytest.mark.parametrize("value", [None, 3, "text", len, object(), int, Transform])
def test_what_is_no_transform_is_one_sentence(value):
    (first, *_) = run_checks("augmentation", "mine", value)
    assert (first.check, first.status) == ("constructs", "failed")


def test_an_error_of_the_plugin_has_its_file_and_line():
    (result,) = (r for r in run_checks("augmentation", "mine", Raises) if r.status == "failed")
    assert result.reason.startswith("RuntimeError: no \\x1b[31mway out (")
    lines = Path(__file__).with_name("broken_augmentations.py").read_text().splitlines()
    number = 1 + lines.index('        raise RuntimeError("no \\x1b[31mway\\nout")')
    assert result.reason.endswith(f"broken_augmentations.py, line {number})")


def test_global_generators_are_afterwards_as_before():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    run_checks("augmentation", "mine", GlobalNoise)
    assert torch.equal(torch.get_rng_state(), before)


# Expected failures


def test_expected_failures_are_named_with_their_reason_and_must_fail():
    by_check = {r.check: r for r in run_checks("augmentation", "mine", Expecting)}
    assert by_check["gradient"].status == "expected failure"
    assert by_check["gradient"].reason == "colours are rounded, and rounding has no slope"
    assert failed(by_check.values()) == set()

    results = run_checks("augmentation", "mine", Posterised, {"gradient": "rounding", "finite": "no reason at all"})
    assert failed(results) == {"finite"}
    (finite,) = (result for result in results if result.check == "finite")
    assert finite.reason == "it passes, and was expected to fail: no reason at all"


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"identity": "why"}, "expects the check 'identity' to fail, which there is not"),
        ({"finite": ""}, "does not say why"),
    ],
)
def test_expected_failures_that_mean_nothing_are_an_error(expected, message):
    with pytest.raises(PluginError, match=message):
        run_checks("augmentation", "mine", Good, expected)
    with pytest.raises(PluginError, match=message):
        parametrize_with_checks([Subject("augmentation", "mine", Good)], {"mine": expected})


def test_expected_failures_are_a_dictionary():
    class Listed(Good):
        expected_failures = ("finite",)

    with pytest.raises(PluginError, match="expected_failures of augmentation 'mine' is a tuple"):
        run_checks("augmentation", "mine", Listed)


def test_kinds_are_those_of_the_plugin_manager():
    assert set(CHECKS) == set(KINDS.values())
    with pytest.raises(UsageError, match="no kind of plugin named 'augmentations'"):
        checks_for("augmentations")


# pytest

TESTS = """
from adaflow.conformance import Subject, parametrize_with_checks
from adaflow.plugins.datasets.cifar10 import Cifar10Reader
from tests.broken_augmentations import Expecting, Good, Posterised

SUBJECTS = [Subject("augmentation", "good", Good), Subject("augmentation", "posterised", Posterised)]

@parametrize_with_checks(SUBJECTS + [Subject("augmentation", "own", Expecting)],
                         {"good": {"finite": "of no reason"}, "posterised": {"gradient": "rounding has no slope"}})
def test_conformance(subject, check):
    if check.id in ("gradient", "finite", "constructs"):
        check(subject)

@parametrize_with_checks([Subject("dataset reader", "cifar10", Cifar10Reader())])
def test_skips(subject, check):
    check(subject)
"""


def test_checks_are_tests_with_strict_expected_failures(pytester):
    pytester.makepyfile(test_mine=TESTS)
    result = pytester.runpytest_inprocess("-v", "-rsxX", "-p", "no:cacheprovider")
    count, readers = len(checks_for("augmentation")), len(checks_for("dataset reader"))
    result.assert_outcomes(passed=3 * count - 3 + 1, xfailed=2, failed=1, skipped=readers - 1)
    result.stdout.fnmatch_lines(
        [
            "*::test_conformance?good-constructs? PASSED*",
            "*::test_conformance?good-finite? FAILED*",
            "SKIPPED*it opens no plain images: say what it is to open",
            "XFAIL *::test_conformance?posterised-gradient? - rounding has no slope",
            "XFAIL *::test_conformance?own-gradient? - colours are rounded, and rounding has no slope",
        ]
    )


MINE = """
from dataclasses import dataclass
import adaflow
from tests.broken_augmentations import Good, {name}

@adaflow.hookimpl
def register_augmentations(register):
    register("mine", {name})
    register("fine", Good)
"""


@pytest.fixture
def plugin(tmp_path):
    def write(name="Posterised", text=MINE):
        path = tmp_path / "my_plugin.py"
        path.write_text(text.replace("{name}", name))
        return path

    return write


def test_what_a_plugin_offers(plugin):
    subjects = offered_by(plugin(), settings={"mine": {"strength": 0.25}})
    assert [(s.kind, s.name, s.provider, s.settings) for s in subjects] == [
        ("augmentation", "fine", "my_plugin", {}),
        ("augmentation", "mine", "my_plugin", {"strength": 0.25}),
    ]


def test_a_module_that_is_loaded_already_is_one_sentence():
    with pytest.raises(PluginError, match=r"augmentations\.blit cannot be used: it is loaded already, as blit"):
        offered_by(blit)


# The command line


def test_augs_check_of_a_plugin_file_shows_all_its_transforms(plugin, cli):
    result = cli("augs", "check", plugin())
    assert result.code == 3
    assert "augmentation mine, of plugin my_plugin" in result.out
    assert "gradient" in result.out
    assert "the gradient is zero" in result.out
    assert "augmentation fine, of plugin my_plugin" in result.out
    assert result.out.count("1 failed") == 1
    assert len(re.findall("^2[0-2] passed", result.out, flags=re.MULTILINE)) == 2
    assert cli("augs", "check", plugin("Expecting")).code == 0


def test_augs_check_of_names_lists_and_settings(plugin, cli):
    assert cli("augs", "check", "fine", "--plugin", plugin()).code == 0
    result = cli("augs", "check", "hue*0.5,mine(strength=0.25)", "--plugin", plugin(), "--json")
    assert result.code == 3
    hue, mine = json.loads(result.out)
    assert (hue["kind"], hue["name"], hue["plugin"], hue["passed"]) == ("augmentation", "hue", "color", True)
    assert not mine["passed"]
    assert [row for row in mine["checks"] if row["result"] == "failed"] == [
        {"check": "gradient", "result": "failed", "reason": "the gradient is zero everywhere"}
    ]
    assert "Error: there is no augmentation named 'hoe'" in cli("augs", "check", "hoe").err
    assert "plugin color is blocked" in cli("augs", "check", "hue", "--block", "color").err


HOOK = "import adaflow\n@adaflow.hookimpl\ndef register_augmentations(register): "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nowhere_at_all\n", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        (HOOK + "register('xflip', int)\n", "registers the augmentation 'xflip', which plugin blit already has"),
        (HOOK + "register('../x', int)\n", "registers the name '../x' for its augmentation, which cannot be used"),
        (HOOK + "register('a\\x1b[2J', int)\n", "registers the name 'a\\x1b[2J' for its augmentation"),
        (HOOK + "pass\n", "plugin my_plugin offers no augmentation"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_is_one_sentence(plugin, cli, text, message):
    result = cli("augs", "check", plugin(text=text))
    assert result.code == 3
    assert message in result.err
    assert "Traceback" not in result.err + result.out
    assert "\x1b[2J" not in result.err + result.out


@pytest.mark.parametrize("name", ["Cropped", "Raises", "Detached"])
def test_a_broken_transform_is_a_sentence_in_the_table(plugin, cli, name):
    result = cli("augs", "check", plugin(name))
    assert result.code == 3
    assert "1 failed" in result.out
    assert "Traceback" not in result.err + result.out
    assert "\x1b[31mway" not in result.out


def test_plugins_check_takes_names_of_plugins_and_of_what_they_offer(plugin, cli):
    result = cli("plugins", "check", "overfitting", "--json")
    assert (result.code, [row["name"] for row in json.loads(result.out)]) == (0, ["rt", "rv"])
    result = cli("plugins", "check", "rv")
    assert result.code == 0
    assert "p controller rv, of plugin overfitting" in result.out
    assert cli("plugins", "check", plugin()).code == 3
    assert "there is no plugin named 'nope'" in cli("plugins", "check", "nope").err


def test_plugins_check_opens_the_data_it_is_given(cli, tmp_path):
    assert cli("plugins", "check", "demo:lesions", "--data", "demo:lesions,resolution=16,images=5").code == 0
    result = cli("plugins", "check", "folder", "--data", tmp_path / "nowhere")
    assert result.code == 3
    assert "it cannot open" in result.out
    assert "--data is for dataset readers" in cli("plugins", "check", "rv", "--data", "x").err


# Docs


def test_the_docs_have_every_check_and_what_it_means():
    text = DOCS.read_text(encoding="utf-8")
    for kind, checks in CHECKS.items():
        section = text.partition(f"\n### {kind[0].upper()}{kind[1:]}\n")[2].partition("\n### ")[0]
        rows = [line for line in section.splitlines() if line.startswith("| `")]
        assert rows == [f"| `{check.id}` | {check.meaning} |" for check in checks], kind


def test_every_check_means_one_sentence():
    for checks in CHECKS.values():
        assert len({check.id for check in checks}) == len(checks)
        for check in checks:
            assert check.meaning.endswith(".")
            assert 20 < len(check.meaning) < 220
