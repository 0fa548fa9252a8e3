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


def test_a_plugin_is_begun_checked_and_seen(tmp_path):
    """The beginning of the way; the slow test goes to its end."""
    commands = [COMMANDS[0], *(command for command in COMMANDS if "augs check" in command or "augs preview" in command)]
    assert len(commands) == 3
    for command, (code, text) in follow(tmp_path, commands).items():
        assert code == 0, f"{command}\n{text}"
    assert (tmp_path / "freckles.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_whole_way(tmp_path):
    """Every command of the page, and at the end the leak check, which names the plugin like a built-in one."""
    assert len(COMMANDS) == 8
    for command, (code, text) in follow(tmp_path, COMMANDS).items():
        # A network that was hardly trained: whatever the leak check says of it, it says it of freckles.
        assert code == 0 or ("leakcheck" in command and code in (4, 6)), f"{command}\n{text}"
        assert "leakcheck" not in command or "freckles" in text
    (run,) = (tmp_path / "runs").iterdir()
    assert (run / "plugins" / "freckles.py").read_text(encoding="utf-8") == SOURCE
