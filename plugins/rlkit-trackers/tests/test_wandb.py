"""What an offline run leaves for `wandb sync`."""

from __future__ import annotations

import json
import struct
import time

import openai  # noqa: F401 - wandb has a word to say to whoever has it
import pytest

wandb = pytest.importorskip("wandb")
pytestmark = pytest.mark.slow


BLOCK = 32768
HEADER = 7
"""Bytes of the file's and of each chunk's header; a chunk's: checksum, length, and whether a record begins or ends with it."""


def chunks(data):
    """(kind, bytes) of every chunk of a LevelDB log: 1 whole, 2 first, 3 middle, 4 last of a record."""
    place = HEADER
    while place + HEADER <= len(data):
        left = BLOCK - place % BLOCK
        if left < HEADER:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + HEADER])
        if place + HEADER + length > len(data):
            return  # still being written
        yield kind, data[place + HEADER : place + HEADER + length]
        place += HEADER + length


def records(folder):
    """Every record of the offline runs, oldest first. `finish` returns a moment before the last ones are written."""
    deadline = time.monotonic() + 60
    while True:
        runs = [read_records(path) for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))]
        if all(run and run[-1].WhichOneof("record_type") == "exit" for run in runs):
            return [record for run in runs for record in run]
        assert time.monotonic() < deadline, "a run has no end"
        time.sleep(0.05)


def read_records(path):
    from wandb.proto import wandb_internal_pb2

    found, text = [], b""
    for kind, part in chunks(path.read_bytes()):
        text = part if kind in (1, 2) else text + part
        if kind in (1, 4):
            found.append(wandb_internal_pb2.Record())
            found[-1].ParseFromString(text)
    return found


def history(found):
    return [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in found
        if record.WhichOneof("record_type") == "history"
    ]


def test_metrics_config_answers_and_checkpoints_are_in_the_files(play, tmp_path, capfd):
    assert not play("wandb", mode="offline", project="p", group="g", tags=["t"], answers_every=2, answers=2).failures
    found = records(tmp_path / "runs/played")
    run = next(record.run for record in found if record.WhichOneof("record_type") == "run")
    assert (run.project, run.run_group, list(run.tags), run.display_name) == ("p", "g", ["t"], "played")
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["actor"]["lr"] == 1e-3
    rows = history(found)
    assert [(row["step"], row["reward/mean"]) for row in rows if "reward/mean" in row] == [
        (1, 0.1),
        (2, 0.2),
        (3, 0.3),
        (4, 0.4),
    ]
    assert [row["validation/score"] for row in rows if "validation/score" in row] == [0.5]
    tables = [row for row in rows if "answers/training/nrows" in row]
    assert [(row["step"], row["answers/training/nrows"]) for row in tables] == [(2, 2), (4, 2)]
    (file,) = (tmp_path / "runs/played").glob(f"wandb/offline-run-*/files/{tables[0]['answers/training/path']}")
    assert json.loads(file.read_text())["data"][0][1] == "a2"
    output = capfd.readouterr()
    assert output.out == "" and "wandb:" not in output.err  # its own lines would tear the run's


def test_a_resumed_run_keeps_its_id_and_has_each_step_once(play, tmp_path):
    play("wandb", mode="offline", last=3, status="failed")
    play("wandb", mode="offline", first=2, last=4)
    found = records(tmp_path / "runs/played")
    steps = [row["step"] for row in history(found) if "reward/mean" in row]
    assert steps == [1, 2, 3, 4], "step 3 was done twice"
    runs = [record.run for record in found if record.WhichOneof("record_type") == "run"]
    assert len(runs) == 2 and len({run.run_id for run in runs}) == 1


def test_a_home_folder_that_cannot_be_written_is_not_needed(play, tmp_path, monkeypatch):
    (tmp_path / "home").write_text("a file, in which nobody can make folders, not even root")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert not play("wandb", mode="offline", answers_every=2).failures
    tables = [row for row in history(records(tmp_path / "runs/played")) if "answers/training/nrows" in row]
    assert [row["step"] for row in tables] == [2, 4]


def test_without_a_key_it_says_what_to_do_and_asks_nobody(play, monkeypatch, tmp_path, caplog):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert not play("wandb").failures
    (said,) = [record.getMessage() for record in caplog.records if "tracker" in record.getMessage()]
    assert "no API key: set WANDB_API_KEY" in said
