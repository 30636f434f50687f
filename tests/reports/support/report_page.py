"""Reading a finished report back."""

from __future__ import annotations

import base64
import gzip
import json
import re
from typing import Any


def read_page(page: str) -> dict[str, Any]:
    """What a page carries for its script; each run's `index` and `texts` are its answers, unpacked."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    content: dict[str, Any] = json.loads(found[1])
    packed = dict(re.findall(r'<script type="text/plain" id="block-(\d+)">([^<]*)</script>', page))

    def block(number: int) -> Any:
        return json.loads(gzip.decompress(base64.b64decode(packed[str(number)])))

    for run in content["runs"]:
        answers = run["answers"]
        run["index"] = None if answers["index"] is None else block(answers["index"])
        run["vocabulary"] = None if answers["vocabulary"] is None else block(answers["vocabulary"])
        run["texts"] = [text for number in answers["blocks"] for text in _texts(block(number))]
    return content


def _texts(block: dict[str, Any]) -> list[dict[str, Any]]:
    """One entry for each answer of a block."""
    columns = {name: block[name] for name in ("answer", "error", "tokens")}
    columns |= {name: [block["texts"][at] for at in block[name]] for name in ("question", "reference")}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
