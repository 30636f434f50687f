"""`rlkit doctor`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from rlkit.errors import PluginError

if TYPE_CHECKING:
    from rlkit.pipelines.diagnosis import Finding

MARKS = {"ok": "✓", "missing": "-", "wrong": "✗"}


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False) -> None:
    """Say what is installed, what is missing and how to get it."""
    from dataclasses import asdict

    from rlkit.pipelines.diagnosis import diagnose

    findings: list[Finding] = []
    topic = ""
    for finding in diagnose():
        findings.append(finding)
        if as_json:
            continue
        if finding.topic != topic:
            typer.echo(f"{'' if not topic else chr(10)}{finding.topic}")
            topic = finding.topic
        typer.echo(f"  {MARKS[finding.state]} {finding.name:<16} {finding.detail}".rstrip())
        if finding.remedy:
            typer.echo(f"    {'':<16} -> {finding.remedy}")
        sys.stdout.flush()
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    wrong = [finding.name for finding in findings if finding.state == "wrong"]
    if wrong:
        raise PluginError(f"not in order: {', '.join(wrong)}")
