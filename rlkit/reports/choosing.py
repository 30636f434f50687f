"""Which answers a report carries, when a run has more than it can."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rlkit.reports.rollout_files import evenly

EXTREMES = 3
"""Best and worst answers of a step that are always among them, so many of each."""


def choose_rows(
    groups: Sequence[int | None], scores: Sequence[float | None], count: int, *, wanted: Collection[int] = ()
) -> list[int]:
    """At most `count` rows in order: the wanted ones, the EXTREMES best and worst, then whole groups, spread evenly.

    groups  each row's group (the answers to one prompt); scores may be empty, and a score may be missing
    """
    if len(groups) <= count:
        return list(range(len(groups)))
    chosen = set(sorted(wanted)[:count])
    known = [(score, row) for row, score in enumerate(scores) if score is not None]
    extremes = min(EXTREMES, (count - len(chosen)) // 4)
    ranked = [row for _, row in sorted(known)]
    chosen |= {*ranked[:extremes], *(ranked[-extremes:] if extremes else ())}
    members: dict[int | None, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    typical = len(groups) / max(1, len(members))
    room = count - len(chosen)
    for rows in evenly(list(members.values()), max(1, int(room / max(typical, 1.0)))):
        chosen |= set([row for row in rows if row not in chosen][: count - len(chosen)])
    return sorted(chosen)


def fair_share(sizes: Sequence[int], limit: int) -> int:
    """The largest number that each may keep, so that together they keep at most `limit`; at least one."""
    if sum(sizes) <= limit:
        return max(sizes, default=1)
    low, high = 1, max(sizes)
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(size, middle) for size in sizes) <= limit:
            low = middle
        else:
            high = middle - 1
    return low
