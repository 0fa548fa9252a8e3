"""`leakcheck.json` and `leakcheck.html`: what a leak check found, for programs and for people.

The page is one file with its pictures inside; it runs no code and loads nothing.
"""

from __future__ import annotations

import base64
import io
import json
from html import escape
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from adaflow.core.files import committed
from adaflow.core.grid import to_pil
from adaflow.core.leak_detector import Finding, Panel
from adaflow.core.leakcheck import LeakReport

LEAST_HEIGHT = 96
"""Small pictures are enlarged to this height."""

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin-top: 2.5rem }
section { border-left: .4rem solid #999; padding: .1rem 1rem; margin: 1rem 0; background: #f7f7f7 }
section.leak { border-color: #b3261e } section.clean { border-color: #2e7d32 }
section.cannot-tell { border-color: #b26a00 }
.verdict { font-weight: 600 } .advice { font-style: italic }
.panels { display: flex; flex-wrap: wrap; gap: 1rem } figure { margin: 0 } img { display: block; max-width: 100% }
figcaption { font-size: .8rem; max-width: 20rem }
table { border-collapse: collapse } td { padding: .1rem .8rem .1rem 0 }
"""

WORDS = {"leak": "Leak", "clean": "Clean", "cannot tell": "Cannot tell"}


def write_json(path: Path, report: LeakReport) -> None:
    """Write `leakcheck.json`, whole."""
    with committed(path) as file:
        file.write(json.dumps(report.plain(), indent=2, allow_nan=False).encode() + b"\n")


def write_html(path: Path, report: LeakReport, title: str) -> None:
    """Write `leakcheck.html`, whole."""
    with committed(path) as file:
        file.write(to_html(report, title).encode())


def to_html(report: LeakReport, title: str) -> str:
    """The page.

    Args:
        report: what was found.
        title: what was checked.
    """
    detectors = dict.fromkeys(finding.detector for finding in report.findings)
    facts = "".join(
        f"<tr><td>{escape(name.replace('_', ' '))}</td><td>{escape(_plain(value))}</td></tr>"
        for name, value in report.facts.items()
    )
    parts = [
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>",
        # Even if some text slipped through, a browser would load and run nothing.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">",
        f"<title>Leak check: {escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>Leak check: {escape(title)}</h1>",
        f"<p class='verdict'>{WORDS[report.verdict]}</p><table>{facts}</table>",
    ]
    for detector in detectors:
        parts.append(f"<h2>{escape(detector)}</h2>")
        parts += [_finding(finding) for finding in report.findings if finding.detector == detector]
    return "\n".join([*parts, "</body></html>\n"])


def _finding(finding: Finding) -> str:
    lines = [
        f"<section class='{finding.verdict.replace(' ', '-')}'>",
        f"<p><span class='verdict'>{escape(finding.subject)}: {WORDS[finding.verdict].lower()}.</span> "
        f"{escape(finding.sentence)}</p>",
    ]
    if finding.advice:
        lines.append(f"<p class='advice'>{escape(finding.advice)}</p>")
    if finding.panels:
        lines.append(f"<div class='panels'>{''.join(map(_panel, finding.panels))}</div>")
    return "\n".join([*lines, "</section>"])


def _panel(panel: Panel) -> str:
    return (
        f"<figure><img alt='{escape(panel.title, quote=True)}' src='{data_uri(panel.image)}'>"
        f"<figcaption><b>{escape(panel.title)}</b><br>{escape(panel.caption)}</figcaption></figure>"
    )


def data_uri(image: Tensor) -> str:
    """A picture, uint8 [C, H, W], as a PNG within a page."""
    picture = to_pil(image.to(torch.uint8))
    enlarge = -(-LEAST_HEIGHT // picture.height)
    if enlarge > 1:
        picture = picture.resize((picture.width * enlarge, picture.height * enlarge), Image.Resampling.NEAREST)
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
