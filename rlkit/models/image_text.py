"""Which models take images beside text."""

from __future__ import annotations

from pathlib import Path

from rlkit.models.shape import architecture_of, read_config_json


def is_image_text(architecture: str) -> bool:
    """Whether the installed transformers implements this architecture as an image-text-to-text model."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    return architecture in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.values()


def takes_images(folder: Path) -> bool:
    """Whether the model in `folder` does."""
    return is_image_text(architecture_of(read_config_json(folder), str(folder)))
