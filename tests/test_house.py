"""Rules of the house that a machine can check."""

import ast
import importlib.util
import re
from pathlib import Path

import adaflow
from adaflow import hookspecs

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "adaflow").rglob("*.py"))
HOOKS = [name for name, value in vars(hookspecs).items() if hasattr(value, "adaflow_spec")]


def imports(path):
    """Modules of adaflow that a file imports, at the top or within functions, but not for types only."""
    found = set()

    def visit(node):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return {name for name in found if name.startswith("adaflow")}


def test_dependencies_point_inward():
    for path in SOURCES:
        name = path.relative_to(ROOT).as_posix()
        if name in ("adaflow/__main__.py", "adaflow/plugin_manager.py") or name.startswith("adaflow/cli/"):
            continue
        assert not any(module.startswith("adaflow.cli") for module in imports(path)), name
        if not name.startswith("adaflow/plugins/"):
            assert not any(module.startswith("adaflow.plugins") for module in imports(path)), name


def test_every_hook_is_in_the_docs():
    assert len(HOOKS) >= 10
    text = (ROOT / "docs" / "hooks.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(\w+)\(", text, flags=re.MULTILINE))
    assert documented == set(HOOKS)
    assert f"HOOK_API_VERSION` = {hookspecs.HOOK_API_VERSION}" in text


def test_the_reference_of_hooks_is_made_from_the_hookspecs():
    text = (ROOT / "docs" / "hooks.md").read_text(encoding="utf-8")
    spec = importlib.util.spec_from_file_location("make_hooks", ROOT / "docs" / "make_hooks.py")
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    assert maker.page(text) == text, "run python docs/make_hooks.py"
    assert all(f"\n### {hook}\n" in text for hook in HOOKS)


def test_every_hook_has_a_plugin_that_uses_it():
    files = [*(ROOT / "adaflow" / "plugins").rglob("*.py"), *(ROOT / "plugins_contrib").glob("*/*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    for hook in HOOKS:
        assert f"def {hook}(" in text, hook


def test_public_names_exist():
    for name in adaflow.__all__:
        assert getattr(adaflow, name) is not None


def test_readme_plugin_works(tmp_path):
    """The example in the README is a plugin as it stands."""
    from adaflow.plugin_manager import PluginManager

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"```python\n(# vignette.py\n.*?)```", text, flags=re.DOTALL)
    file = tmp_path / "vignette.py"
    file.write_text(source)
    manager = PluginManager([file], environ={})
    manager.require_named()
    assert "vignette" in manager.augmentations


def test_commands_in_the_docs_are_understood():
    """Every `adaflow …` line of README and docs names a command and options that exist."""
    from typer.main import get_command

    from adaflow.cli import app, load_commands

    load_commands()
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    lines = [
        line
        for page in pages
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith("adaflow ")
    ]
    assert len(lines) > 5
    for line in lines:
        command = get_command(app)
        words = re.sub(r'"[^"]*"', "TEXT", line.split("#")[0]).split()[1:]
        while words and hasattr(command, "commands"):
            assert words[0] in command.commands, line
            command = command.commands[words.pop(0)]
        options = {option for parameter in command.params for option in parameter.opts}
        for word in words:
            assert not word.startswith("--") or word in options, f"{word} in {line}"
