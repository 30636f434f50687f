"""Warnings and errors of log.txt."""

from __future__ import annotations

from pathlib import Path

from rlkit.reports.log_messages import MAX_TEXT, read_messages


def log(folder: Path, *lines: str) -> Path:
    path = folder / "log.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_equal_warnings_are_counted_and_information_is_left_out(tmp_path: Path) -> None:
    path = log(
        tmp_path,
        "2026-01-01 10:00:00,000 INFO ppo run",
        "2026-01-01 10:00:01,000 WARNING slow",
        "2026-01-01 10:00:02,000 WARNING other",
        "2026-01-01 10:00:09,000 WARNING slow",
    )
    found = [(one.level, one.text, one.count, one.first, one.last) for one in read_messages(path)]
    assert found == [
        ("WARNING", "slow", 2, "2026-01-01 10:00:01", "2026-01-01 10:00:09"),
        ("WARNING", "other", 1, "2026-01-01 10:00:02", "2026-01-01 10:00:02"),
    ]


def test_a_traceback_belongs_to_its_error(tmp_path: Path) -> None:
    lines = ["2026-01-01 10:00:00,000 ERROR the run failed", "Traceback:", "  File x", "ValueError: no"]
    (message,) = read_messages(log(tmp_path, *lines, "2026-01-01 10:00:01,000 INFO end"))
    assert message.text == "the run failed\nTraceback:\n  File x\nValueError: no"


def test_of_a_very_long_message_both_ends_are_kept(tmp_path: Path) -> None:
    (message,) = read_messages(log(tmp_path, f"2026-01-01 10:00:00,000 ERROR a{'b' * MAX_TEXT}c"))
    assert len(message.text) < MAX_TEXT + 10
    assert message.text.startswith("ab") and message.text.endswith("bc")


def test_a_run_without_a_log_has_no_messages(tmp_path: Path) -> None:
    assert read_messages(tmp_path / "log.txt") == []
