"""What plugins rely on does not change by accident."""

from pathlib import Path

import adaflow
from tests.public_api import inventory


def test_the_public_api_is_that_of_the_inventory():
    """After a change that is meant: python -m tests.public_api > tests/public_api.txt"""
    expected = (Path(__file__).parent / "public_api.txt").read_text(encoding="utf-8")
    assert inventory() == expected


def test_the_inventory_sees_names_members_and_signatures(monkeypatch):
    before = inventory()
    monkeypatch.setattr(adaflow.Draw, "uniform", lambda self, low=0.0: None)
    changed = inventory()
    assert changed != before
    assert "    uniform(self, low=0.0)" in changed
    monkeypatch.setattr(adaflow, "__all__", [name for name in adaflow.__all__ if name != "Panel"])
    assert "\nPanel(" in before
    assert "\nPanel(" not in inventory()
