from __future__ import annotations

import base64
import io
import sys
from pathlib import Path

import pytest
from PIL import Image

from rlkit.data import images as images_module
from rlkit.data.images import has_images, open_image, read_image, with_images
from rlkit.data.prompts import load_prompts
from rlkit.errors import DataError, MissingRequirementError

IMAGE = {"type": "image"}


def png(color: str = "red", size: tuple[int, int] = (3, 2), mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, color).save(buffer, "PNG")
    return buffer.getvalue()


def text(content: str) -> dict[str, str]:
    return {"type": "text", "text": content}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda path, content: "red.png",
        lambda path, content: str(path),
        lambda path, content: f"file://{path}",
        lambda path, content: content,
        lambda path, content: {"bytes": content, "path": "elsewhere.png"},
        lambda path, content: {"bytes": base64.b64encode(content).decode()},
        lambda path, content: {"bytes": None, "path": "red.png"},
        lambda path, content: "data:image/png;base64," + base64.b64encode(content).decode(),
        lambda path, content: {"image_url": {"url": "data:image/png;base64," + base64.b64encode(content).decode()}},
        lambda path, content: {"type": "image", "image": "red.png"},
    ],
)
def test_each_way_of_writing_an_image_gives_the_file_s_bytes(tmp_path: Path, wrap) -> None:
    path = tmp_path / "red.png"
    path.write_bytes(png())
    assert read_image(wrap(path, png()), tmp_path) == png()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("https://example.org/a.png", "lies at 'https://example.org/a.png'; remote images are not fetched"),
        ("gone.png", "gone.png' cannot be read: No such file"),
        ("data:image/png,abc", "data URL should be"),
        ("data:image/png;base64,%%%", "base64 content is damaged"),
        ({"height": 3}, "none of bytes, path, image, image_url and url, only height"),
        (7, "a path, a data URL or bytes, got int"),
    ],
)
def test_what_is_no_image_here_is_refused_in_one_line(tmp_path: Path, value: object, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_image(value, tmp_path)
    assert "\n" not in str(caught.value)


def test_pictures_are_opened_in_three_colours() -> None:
    image = open_image(png("blue", mode="RGBA"))
    assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (3, 2), (0, 0, 255))


def test_bytes_that_are_no_picture_and_pictures_that_fill_the_memory_are_refused(monkeypatch) -> None:
    with pytest.raises(DataError, match="an image of 2 bytes is in no format that Pillow knows"):
        open_image(b"no")
    with pytest.raises(DataError, match="cannot be decoded"):
        open_image(png(size=(64, 64))[:60])
    monkeypatch.setattr(images_module, "MAX_PIXELS", 5)
    with pytest.raises(DataError, match="has 3 x 2 pixels, more than 5"):
        open_image(png())


def test_without_pillow_the_way_to_get_it_is_told(monkeypatch) -> None:
    content = png()
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingRequirementError, match=r"pip install 'rlkit-llm\[images\]'"):
        open_image(content)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("<image>What? <image>", [IMAGE, text("What? "), IMAGE]),
        ([text("Look: "), IMAGE, text("and <image>!")], [text("Look: "), IMAGE, text("and "), IMAGE, text("!")]),
        ("No place", [IMAGE, IMAGE, text("No place")]),
    ],
)
def test_images_of_the_row_take_the_places_in_the_messages(tmp_path: Path, content, expected) -> None:
    system = {"role": "system", "content": "Be brief."}
    messages, found = with_images([system, {"role": "user", "content": content}], [b"one", b"two"], tmp_path)
    assert messages == (system, {"role": "user", "content": expected})
    assert found == (b"one", b"two")


def test_parts_with_an_image_of_their_own_keep_it_among_the_others(tmp_path: Path) -> None:
    own = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + base64.b64encode(b"own").decode()}}
    messages, found = with_images([{"role": "user", "content": [IMAGE, own, text("<image>")]}], [b"a", b"c"], tmp_path)
    assert messages[0]["content"] == [IMAGE, IMAGE, IMAGE]
    assert found == (b"a", b"own", b"c")
    assert has_images(messages)
    assert not has_images([{"role": "user", "content": "<image>"}])


@pytest.mark.parametrize("images", [[b"a"], [b"a", b"b", b"c"]])
def test_places_and_images_must_be_equally_many(tmp_path: Path, images) -> None:
    with pytest.raises(DataError, match=f"have 2 places for images .* and the row {len(images)}"):
        with_images([{"role": "user", "content": "<image> and <image>"}], images, tmp_path)


def test_a_file_of_prompts_has_its_images_beside_it(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "red.png").write_bytes(png())
    path = tmp_path / "prompts.jsonl"
    path.write_text(
        '{"prompt": "What colour?", "images": ["images/red.png"]}\n'
        '{"prompt": "Nothing to see"}\n'
        '{"prompt": [{"role": "user", "content": "<image>?"}], "images": "images/red.png"}\n'
    )
    first, second, third = load_prompts([str(path)])
    assert first.images == third.images == (png(),)
    assert first.text is None
    assert first.messages == ({"role": "user", "content": [IMAGE, text("What colour?")]},)
    assert (second.images, second.text) == ((), "Nothing to see")
    assert third.messages == ({"role": "user", "content": [IMAGE, text("?")]},)
    path.write_text('{"prompt": "What?", "images": ["gone.png"]}\n')
    with pytest.raises(DataError, match=r"prompts.jsonl, line 1: image '.*gone.png' cannot be read"):
        load_prompts([str(path)])
