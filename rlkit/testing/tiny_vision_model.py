"""A real image-text model small enough for tests: Idefics3 with two Llama layers and a vision tower of two.

Of the architectures that vLLM has, this one needs no torchvision, which has no CPU build.
"""

from __future__ import annotations

from pathlib import Path

from rlkit.testing.tiny_model import ALPHABET, WEIGHT_SCALE

IMAGE_TOKEN, FAKE_TOKEN, GLOBAL_TOKEN, TURN_END = (
    "<image>",
    "<fake_token_around_image>",
    "<global-img>",
    "<end_of_utterance>",
)
IMAGE_SIZE, PATCH_SIZE, SHUFFLE = 32, 8, 2
TOKENS_PER_IMAGE = (IMAGE_SIZE // PATCH_SIZE // SHUFFLE) ** 2
"""Image tokens; with what the processor puts around them, an image takes three more."""

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|' + message['role'] + '|>' -}}
{%- if message['content'] is string -%}{{- message['content'] -}}
{%- else -%}
{%- for part in message['content'] -%}
{{- '<image>' if part['type'] == 'image' else part['text'] -}}
{%- endfor -%}
{%- endif -%}
{{- '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""


def write_tiny_vision_model(folder: Path, *, seed: int = 0) -> Path:
    """Write model, tokenizer and image processor to `folder` and return it. Needs Pillow."""
    import torch
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor, LlamaConfig
    from transformers.models.idefics3.configuration_idefics3 import Idefics3VisionConfig
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    from rlkit.models.tokenizer_making import make_tokenizer

    tokenizer = make_tokenizer("char", alphabet=ALPHABET, context_length=256)
    more = [IMAGE_TOKEN, FAKE_TOKEN, GLOBAL_TOKEN, TURN_END]
    tokenizer.add_special_tokens({"additional_special_tokens": more}, replace_extra_special_tokens=False)
    tokenizer.chat_template = CHAT_TEMPLATE
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,  # the least that vLLM computes attention with on a CPU
        max_position_embeddings=256,
        initializer_range=WEIGHT_SCALE,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vision = Idefics3VisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
        initializer_range=WEIGHT_SCALE,
    )
    config = Idefics3Config(
        vision_config=vision,
        text_config=text,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        scale_factor=SHUFFLE,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
        initializer_range=WEIGHT_SCALE,
    )
    size = {"longest_edge": IMAGE_SIZE}
    images = Idefics3ImageProcessorPil(size=size, max_image_size=size, do_image_splitting=False)
    processor = Idefics3Processor(images, tokenizer, image_seq_len=TOKENS_PER_IMAGE, chat_template=CHAT_TEMPLATE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Idefics3ForConditionalGeneration(config)
        # An answer that holds an image token could not be recomputed: there is no image for it.
        model.lm_head.weight.data[config.image_token_id] = 0
        model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
