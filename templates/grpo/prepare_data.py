"""Write data/train.jsonl and data/test.jsonl: GSM8K, grade school word problems (MIT licence).

    python prepare_data.py                                         download from the Hugging Face Hub
    python prepare_data.py --train gsm8k_train.jsonl --test gsm8k_test.jsonl     convert files that you have

Rows keep their columns `question` and `answer`; an answer ends with `#### ` and the number. The download needs the
`datasets` package: pip install 'rlkit-llm[hub]'.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

HUB_ID = "openai/gsm8k"


def from_hub(split: str) -> Iterable[Mapping[str, Any]]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise SystemExit(
            "the datasets package is missing: pip install 'rlkit-llm[hub]', or give local files with --train and --test"
        ) from None
    try:
        return load_dataset(HUB_ID, "main", split=split)
    except Exception as error:
        raise SystemExit(f"cannot download {HUB_ID}: {error}\ngive local files with --train and --test") from None


def from_file(path: Path) -> Iterable[Mapping[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            row = json.loads(line)
            if "question" not in row or "####" not in row.get("answer", ""):
                raise SystemExit(f"{path}, line {number}: expected question, and answer with '#### number'")
            yield row


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    lines = [
        json.dumps({"question": row["question"], "answer": row["answer"], "data_source": HUB_ID}) for row in rows
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{path}: {len(lines)} rows")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, help="JSONL file instead of the Hub's train split")
    parser.add_argument("--test", type=Path, help="JSONL file instead of the Hub's test split")
    parser.add_argument("--output", type=Path, default=Path("data"), help="folder for the two files")
    options = parser.parse_args()
    for split, given in (("train", options.train), ("test", options.test)):
        write(options.output / f"{split}.jsonl", from_file(given) if given else from_hub(split))


if __name__ == "__main__":
    main()
