"""Images on the real vLLM: answers and log-probs are transformers' own, also after a weight update."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from rlkit.config.load import load_config
from rlkit.data.images import open_image
from rlkit.errors import DataError, ModelError
from rlkit.generation.completions_file import read_rows
from rlkit.models.safetensors_io import stream_tensors
from rlkit.pipelines.generate import run_generate
from rlkit.rollout.engine_model import EngineModel
from rlkit.testing.tiny_vision_model import write_tiny_vision_model
from rlkit.types import Prompt, PromptBatch, Rollouts, SamplingParams

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("vllm_on_cpu")]

TOLERANCE = 1e-4
GREEDY = SamplingParams(max_tokens=8, temperature=0.0)
"""A sampled answer may hold the image token itself, which transformers then wants an image for."""
TEXTS = (
    "<|user|><image>1+2=<|end|><|assistant|>",
    "<|user|>1+2=<|end|><|assistant|>",
    "<|user|><image>=<image>?<|end|>",
)


def png(seed: int, size: tuple[int, int] = (30, 20)) -> bytes:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (size[1], size[0], 3), generator=generator, dtype=torch.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(buffer, "PNG")
    return buffer.getvalue()


IMAGES = ((png(1),), (), (png(2), png(3, (50, 90))))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_vision_model(tmp_path_factory.mktemp("vision") / "model")


@pytest.fixture(scope="module")
def reference(folder: Path) -> Callable[[Rollouts], float]:
    """Function: the largest difference from transformers' log-probs, with the model's weights or others."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor: Any = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()

    def compare(rollouts: Rollouts, weights: dict[str, torch.Tensor] | None = None) -> float:
        model.load_state_dict(weights or dict(stream_tensors(folder)))
        assert rollouts.rollout_log_probs is not None
        largest = 0.0
        rows = zip(
            rollouts.prompt_ids.rows(), rollouts.response_ids.rows(), rollouts.rollout_log_probs.rows(), strict=True
        )
        for row, (prompt, response, log_probs) in enumerate(rows):
            images = [open_image(content) for content in rollouts.prompts[row].images]
            inputs = processor(text=processor.tokenizer.decode(prompt), images=images or None, return_tensors="pt")
            length = inputs["input_ids"].shape[1]
            inputs["input_ids"] = torch.cat([inputs["input_ids"], response[None]], dim=1)
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            with torch.no_grad():
                known = model(**inputs).logits[0, length - 1 : -1].log_softmax(-1)
            largest = max(largest, float((known.gather(1, response[:, None])[:, 0] - log_probs).abs().max()))
        return largest

    return compare


@pytest.fixture(scope="module")
def engine(vllm_on_cpu: None, folder: Path, engine_model: Callable[..., EngineModel]) -> Iterator[Any]:
    from rlkit_vllm.engine import VLLMEngine
    from rlkit_vllm.options import VLLMEngineOptions

    engine = VLLMEngine(VLLMEngineOptions(images_per_prompt=2), model=engine_model(folder))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def prompts(folder: Path, engine_model: Callable[..., EngineModel]) -> PromptBatch:
    tokenizer = engine_model(folder).tokenizer
    return PromptBatch(
        tuple(Prompt(row_id=row, images=images) for row, images in enumerate(IMAGES)),
        tuple(tuple(tokenizer.encode(text, add_special_tokens=False)) for text in TEXTS),
    )


def test_log_probs_with_images_are_transformers_own_before_and_after_an_update(
    engine: Any, prompts: PromptBatch, reference: Any, folder: Path
) -> None:
    rollouts = engine.generate(prompts, GREEDY)
    assert reference(rollouts) < TOLERANCE
    weights = {name: 1.1 * tensor for name, tensor in stream_tensors(folder)}
    engine.update_weights(weights.items(), 1)
    rollouts = engine.generate(prompts, GREEDY)
    assert reference(rollouts, weights) < TOLERANCE
    engine.update_weights(stream_tensors(folder), 0)
    assert reference(engine.generate(prompts, GREEDY)) < TOLERANCE


def test_the_image_decides_the_answer(engine: Any, prompts: PromptBatch) -> None:
    first = prompts.select([0])
    answers = set()
    for seed in range(6):
        batch = PromptBatch((Prompt(row_id=0, images=(png(seed),)),), first.token_ids)
        rollouts = engine.generate(batch, GREEDY)
        answers.add(round(float(rollouts.rollout_log_probs.values[0]), 5))
        assert rollouts.prompt_ids.values.tolist() == list(first.token_ids[0])
    assert len(answers) == 6


def test_each_refusal_is_one_line_and_the_engine_goes_on(engine: Any, prompts: PromptBatch, reference: Any) -> None:
    with_place, without_place, _ = prompts.token_ids
    cases: tuple[tuple[tuple[bytes, ...], tuple[int, ...], type[Exception], str], ...] = (
        ((png(1),) * 3, with_place, ModelError, "row 0 has 3 images, but .* takes 2 \\(images_per_prompt\\)"),
        ((png(1),) * 2, with_place, ModelError, "a prompt with 2 images .*placeholder token for each"),
        ((png(1),), without_place, ModelError, "a prompt with 1 images .*placeholder token for each"),
        ((b"no picture",), with_place, DataError, "in no format that Pillow knows"),
    )
    for images, token_ids, kind, message in cases:
        with pytest.raises(kind, match=message) as caught:
            engine.generate(PromptBatch((Prompt(row_id=0, images=images),), (token_ids,)), GREEDY)
        assert "\n" not in str(caught.value)
        assert not engine.has_work
    assert reference(engine.generate(prompts, GREEDY)) < TOLERANCE


def test_generate_answers_a_file_of_prompts_with_images(engine: Any, folder: Path, tmp_path: Path) -> None:
    engine.close()  # a process holds one
    (tmp_path / "a.png").write_bytes(png(1))
    rows = [{"prompt": "1+2=", "images": ["a.png"]}, {"prompt": "1+2="}, {"prompt": "<image>?", "images": ["a.png"]}]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = {
        "model.path": str(folder),
        "generation.engine": "vllm",
        "generation.prompts": [str(tmp_path / "prompts.jsonl")],
        "generation.output": str(tmp_path / "answers.jsonl"),
        "generation.max_prompt_tokens": 32,
        "generation.max_response_tokens": 8,
        "generation.temperature": 0.0,
    }
    run_generate(load_config("generate", None, flags=flags, environ={}))
    first, second, third = read_rows(tmp_path / "answers.jsonl")
    assert first.completions[0].text != second.completions[0].text
    assert third.prompt.messages[0]["content"] == [{"type": "image"}, {"type": "text", "text": "?"}]
