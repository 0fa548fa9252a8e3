"""docs/writing-a-plugin.md, followed to the letter."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "writing-a-plugin.md").read_text(encoding="utf-8")
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL) for line in block.splitlines() if line
]
(SOURCE,) = re.findall(r"```python\n(# freckles.py\n.*?)```", PAGE, flags=re.DOTALL)


def follow(folder, commands):
    """Type the commands of the page, one after the other, and edit the file where the page does."""
    printed = {}
    for command in commands:
        words = shlex.split(command)[1:]
        expanded = [str(next(folder.glob(word))) if "*" in word else word for word in words]
        done = subprocess.run(
            [sys.executable, "-m", "adaflow", *expanded],
            cwd=folder,
            env=os.environ | {"ADAFLOW_NO_PLUGINS": "1", "PYTHONPATH": str(Path(__file__).parents[1])},
            capture_output=True,
            text=True,
            timeout=600,
        )
        printed[command] = (done.returncode, done.stdout + done.stderr)
        if command.endswith("plugins new freckles"):
            (folder / "freckles.py").write_text(SOURCE, encoding="utf-8")
    return printed


def test_a_plugin_is_begun_checked_seen_and_trained_with(tmp_path):
    commands = [command for command in COMMANDS if "leakcheck" not in command]
    assert len(commands) == 7
    printed = follow(tmp_path, commands)
    for command, (code, text) in printed.items():
        assert code == 0, f"{command}\n{text}"
    assert (tmp_path / "freckles.png").stat().st_size > 10_000
    (run,) = (tmp_path / "runs").iterdir()
    assert (run / "plugins" / "freckles.py").read_text(encoding="utf-8") == SOURCE


@pytest.mark.slow
def test_leakcheck_names_it_like_a_built_in(tmp_path):
    commands = [command for command in COMMANDS if "augs" not in command.split()[1]]
    code, text = list(follow(tmp_path, commands).values())[-1]
    assert code in (0, 4, 6), text  # what a network that was not trained draws
    assert "freckles" in text
