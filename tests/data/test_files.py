from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet
import pytest

from rlkit.data.files import check_sources, count_rows, read_rows
from rlkit.errors import DataError

ROWS = [
    {"question": "1 + 1?", "answer": "2", "extra_info": {"index": 0, "split": "train"}, "tags": ["a", "b"]},
    {"question": "2 + 2?", "answer": "4", "extra_info": {"index": 1}, "level": 3},
    {"question": "Grüße?", "answer": "ja", "extra_info": {"index": 2}, "tags": []},
]


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def write_as(folder: Path, ending: str) -> Path:
    path = folder / f"rows{ending}"
    table = pa.Table.from_pylist([{"level": None, "tags": None, **row} for row in ROWS])
    if ending == ".jsonl":
        write_jsonl(path, ROWS)
    elif ending == ".jsonl.gz":
        path.write_bytes(gzip.compress(write_jsonl(folder / "plain.jsonl", ROWS).read_bytes()))
    elif ending == ".json":
        path.write_text(json.dumps(ROWS))
    elif ending == ".parquet":
        pa.parquet.write_table(table, path, row_group_size=2)
    elif ending == ".feather":
        pa.feather.write_feather(table, str(path))
    elif ending == ".arrow":
        with pa.ipc.new_stream(str(path), table.schema) as writer:
            writer.write_table(table)
    return path


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".json", ".parquet", ".feather", ".arrow"])
def test_the_same_rows_come_from_every_kind_of_file(tmp_path: Path, ending: str) -> None:
    path = write_as(tmp_path, ending)
    assert [row.columns for row in read_rows([str(path)])] == ROWS
    assert count_rows([str(path)]) == 3
    assert count_rows([str(path)], limit=2) == 2


def test_a_pattern_reads_its_files_in_name_order_and_limit_cuts_across_files(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_jsonl(tmp_path / f"{name}.jsonl", [{"prompt": f"{name}{number}"} for number in range(2)])
    rows = list(read_rows([str(tmp_path / "*.jsonl")], limit=3))
    assert [row.columns["prompt"] for row in rows] == ["a0", "a1", "b0"]
    assert rows[2].place == f"{tmp_path}/b.jsonl, line 1"


def error_of(*paths: Path | str) -> str:
    with pytest.raises(DataError) as caught:
        list(read_rows([str(path) for path in paths]))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_missing_file_is_answered_with_near_names_of_its_folder(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", ROWS)
    assert f"did you mean {tmp_path}/train.jsonl?" in error_of(tmp_path / "trian.jsonl")
    assert "train.jsonl" in error_of(tmp_path / "zzzzzzzz.parquet")
    assert "there is no folder" in error_of(tmp_path / "no" / "such.jsonl")
    assert "no data file matches" in error_of(tmp_path / "*.parquet")


def test_a_file_without_its_ending_is_not_mistaken_for_a_hub_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    write_jsonl(tmp_path / "data" / "train.jsonl", ROWS)
    monkeypatch.chdir(tmp_path)
    assert "did you mean data/train.jsonl?" in error_of("data/train")


def test_a_folder_asks_for_its_files(tmp_path: Path) -> None:
    assert "/*.parquet" in error_of(tmp_path)


def test_an_empty_data_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n\n")
    assert "the data set is empty" in error_of(tmp_path / "empty.jsonl")
    (tmp_path / "empty.json").write_text("[]")
    assert "the data set is empty" in error_of(tmp_path / "empty.json")


@pytest.mark.parametrize("name", ["rows.pkl", "rows.pt", "rows.bin"])
def test_pickled_files_are_never_opened(tmp_path: Path, name: str) -> None:
    import pickle

    (tmp_path / name).write_bytes(pickle.dumps(ROWS))
    assert "never opened" in error_of(tmp_path / name)


def test_an_unknown_ending_lists_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n")
    assert ".parquet" in error_of(tmp_path / "rows.csv")


def test_sources_are_checked_without_being_read(tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_text("{")
    check_sources([str(tmp_path / "broken.jsonl"), "owner/name:main@test"])
    with pytest.raises(DataError, match="not found"):
        check_sources([str(tmp_path / "missing.jsonl")])


def test_reading_is_lazy_up_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "late_fault.jsonl"
    path.write_text('{"prompt": "x"}\n{broken\n')
    assert len(list(read_rows([str(path)], limit=1))) == 1


def test_shared_files_are_readable(shared_data: Path) -> None:
    assert count_rows([str(shared_data / "gsm8k_test.jsonl")]) == 1319
    assert next(read_rows([str(shared_data / "HumanEval.jsonl.gz")])).columns["task_id"] == "HumanEval/0"
