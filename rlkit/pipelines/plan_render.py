"""A plan as text for people and as JSON for programs."""

from __future__ import annotations

import json as json_module
import textwrap
from collections.abc import Iterable, Sequence

from rlkit.pipelines.memory import write_bytes
from rlkit.pipelines.plan import Plan, PlannedRole

NOTE_WIDTH = 96


def print_plan(plan: Plan, *, json: bool = False) -> None:
    """Print to standard output."""
    print(json_module.dumps(plan.as_json(), indent=2) if json else render_plan(plan))


def render_plan(plan: Plan) -> str:
    """Sections of aligned columns."""
    blocks = [
        [f"{plan.kind}, dry run: nothing was loaded or written", f"  result in   {plan.run}"],
        _section("plugins", [(p.kind, p.name, f"{p.distribution} {p.version}".strip()) for p in plan.plugins]),
        _section("roles", [_role_row(role) for role in plan.roles]),
        _section("data", plan.data),
        _section("batch arithmetic" if plan.kind != "eval" else "judgement", plan.arithmetic),
        _memory(plan),
        _notes(plan.notes),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _section(title: str, rows: Iterable[Sequence[str]]) -> list[str]:
    rows = list(rows)
    if not rows:
        return []
    # The last cell of a row may run over the columns that other rows have after it.
    inner = [row[:-1] if len(row) < max(map(len, rows)) else row for row in rows]
    columns = range(max(map(len, rows)))
    widths = [max((len(row[column]) for row in inner if column < len(row)), default=0) for column in columns]
    lines = ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) for row in rows]
    return [title, *(line.rstrip() for line in lines)]


def _role_row(role: PlannedRole) -> tuple[str, ...]:
    if role.absent:
        return (role.role, "none", role.absent)
    size = "" if role.parameters is None else f"{role.parameters:,} parameters"
    return (role.role, role.place, role.plugin, role.model, size)


def _memory(plan: Plan) -> list[str]:
    if not plan.phases:
        return []
    title = f"memory on {plan.device}, estimated"
    if plan.device_bytes:
        title += f" (the machine has {write_bytes(plan.device_bytes)})"
    names = list(dict.fromkeys(name for phase in plan.phases for name in phase.parts))
    rows = [("", *(phase.name for phase in plan.phases))]
    rows += [(name, *(_cell(phase.parts.get(name)) for phase in plan.phases)) for name in names]
    rows.append(("together", *(write_bytes(phase.total_bytes) for phase in plan.phases)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  " + row[0].ljust(widths[0]) + "".join("  " + cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]  # fmt: skip
    if plan.device_bytes and plan.peak_bytes > plan.device_bytes:
        lines.append(
            "  more than the machine has: lower micro_batch_tokens below the tokens of the micro-batches above, "
            "or use a smaller model or dtype"
        )
    return [title, *(line.rstrip() for line in lines)]


def _cell(number: int | None) -> str:
    return "-" if number is None else write_bytes(number)


def _notes(notes: Sequence[str]) -> list[str]:
    if not notes:
        return []
    return [
        "notes",
        *(textwrap.fill(note, NOTE_WIDTH, initial_indent="  ", subsequent_indent="    ") for note in notes),
    ]
