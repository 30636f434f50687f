"""Images of prompts: from what data files hold to the bytes of an image file, and their places in the messages.

column `images`, or parts of a message --read_image--> bytes (PNG, JPEG, ...) --open_image--> pixels, in the engine
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlkit.errors import DataError, MissingRequirementError
from rlkit.types.prompts import Message

if TYPE_CHECKING:
    from PIL.Image import Image

PLACEHOLDER = "<image>"
"""In the text of a message: the next image of the row."""

IMAGE_PART: Mapping[str, str] = {"type": "image"}
"""As chat templates see an image."""

MAX_PIXELS = 2**26
"""Larger ones are refused before they are decoded: a small file may hold a picture that fills the memory."""


def read_image(value: Any, folder: Path) -> bytes:
    """The file's bytes. `value`: a path (relative to `folder`), a data URL, bytes, or an object that holds one of them
    under `bytes`, `path`, `image`, `image_url` or `url`.

    Raises `DataError` for a file that cannot be read and for anything else, remote URLs included.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, Mapping):
        for key in ("bytes", "path", "image", "image_url", "url"):
            if value.get(key):
                content = value[key]
                return (
                    _from_base64(content)
                    if key == "bytes" and isinstance(content, str)
                    else read_image(content, folder)
                )
        raise DataError(
            f"an image has none of bytes, path, image, image_url and url, only {', '.join(map(str, value)) or 'nothing'}"
        )
    if not isinstance(value, str):
        raise DataError(f"an image should be a path, a data URL or bytes, got {type(value).__name__}")
    if value.startswith("data:"):
        head, comma, content = value.partition(",")
        if not comma or not head.endswith(";base64"):
            raise DataError("an image's data URL should be 'data:image/...;base64,' and the content")
        return _from_base64(content)
    if "://" in value and not value.startswith("file://"):
        raise DataError(f"an image lies at '{value}'; remote images are not fetched: give a file or a data URL")
    path = folder / Path(value.removeprefix("file://")).expanduser()
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"image '{path}' cannot be read: {error.strerror or error}") from error


def open_image(content: bytes) -> Image:
    """The picture, in RGB. Raises `DataError` for bytes that are none, `MissingRequirementError` without Pillow."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise MissingRequirementError("images need Pillow: pip install 'rlkit-llm[images]'") from error
    try:
        image = Image.open(io.BytesIO(content))
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise DataError(f"an image has {width} x {height} pixels, more than {MAX_PIXELS:,}; make it smaller")
        return image.convert("RGB")
    except UnidentifiedImageError as error:
        raise DataError(f"an image of {len(content)} bytes is in no format that Pillow knows") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"an image cannot be decoded: {error}") from error


def with_images(
    messages: Sequence[Message], images: Sequence[Any], folder: Path
) -> tuple[tuple[Message, ...], tuple[bytes, ...]]:
    """Messages whose images are `{"type": "image"}` parts, and the images in their order.

    A part with an image of its own keeps its place; other parts and each `<image>` in a text take the next one of
    `images`. Without any such place they come before the text of the first user message. Raises `DataError` when places
    and images are not equally many.
    """
    parts = [list(_parts(message.get("content", ""))) for message in messages]
    places = sum(part is IMAGE_PART for message in parts for part in message)
    if images and not places:
        first = next((number for number, message in enumerate(messages) if message.get("role") == "user"), None)
        if first is None:
            raise DataError("the row has images, but no user message that they could belong to")
        parts[first] = [*[IMAGE_PART] * len(images), *parts[first]]
        places = len(images)
    if places != len(images):
        raise DataError(
            f"the messages have {places} places for images ('{PLACEHOLDER}' or parts), and the row {len(images)}"
        )
    coming = iter(images)
    found: list[bytes] = []
    laid_out: list[Message] = []
    for message, content in zip(messages, parts, strict=True):
        seen = []
        for part in content:
            if _is_image(part):
                found.append(read_image(next(coming) if part is IMAGE_PART else part, folder))
            seen.append(IMAGE_PART if _is_image(part) else part)
        has_image = any(part is IMAGE_PART for part in seen)
        laid_out.append({**message, "content": [dict(part) for part in seen]} if has_image else message)
    return tuple(laid_out), tuple(found)


def has_images(messages: Sequence[Message]) -> bool:
    """Whether a message has an image among its parts."""
    return any(_is_image(part) for message in messages for part in _listed(message.get("content")))


def _parts(content: Any) -> Iterator[Mapping[str, Any]]:
    """Text split at its placeholders; IMAGE_PART itself where an image of the row belongs."""
    for part in [{"type": "text", "text": content}] if isinstance(content, str) else _listed(content):
        if _is_image(part):
            yield IMAGE_PART if set(part) == {"type"} else part
        elif part.get("type") == "text":
            pieces = str(part.get("text", "")).split(PLACEHOLDER)
            for number, piece in enumerate(pieces):
                if number:
                    yield IMAGE_PART
                if piece:
                    yield {"type": "text", "text": piece}
        else:
            yield part


def _listed(content: Any) -> list[Mapping[str, Any]]:
    return [part for part in content if isinstance(part, Mapping)] if isinstance(content, list) else []


def _is_image(part: Mapping[str, Any]) -> bool:
    return part.get("type") in ("image", "image_url")


def _from_base64(content: str) -> bytes:
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError("an image's base64 content is damaged") from error
