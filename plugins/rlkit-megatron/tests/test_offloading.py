"""Memory that is given back and allotted again, under tensors that stay where they are."""

from __future__ import annotations

from dataclasses import replace

import torch
from rlkit_megatron.backend import MegatronBackend
from rlkit_megatron.offloading import Offloading
from safetensors.torch import load_file


def test_views_see_the_same_numbers_after_the_way_off_and_back():
    buffer = torch.arange(8.0)
    view, other = buffer[2:6].view(2, 2), torch.tensor([1.5])
    moving = Offloading(lambda: [view, buffer, other], lambda: [])
    moving.offload()
    moving.offload()
    assert moving.is_away
    assert buffer.untyped_storage().nbytes() == 0
    moving.onload()
    moving.onload()
    assert not moving.is_away
    assert buffer.tolist() == list(range(8))
    assert view.tolist() == [[2, 3], [4, 5]]
    assert other.tolist() == [1.5]


def test_what_is_dropped_comes_back_as_zeros():
    gradients = torch.ones(3)
    moving = Offloading(lambda: [], lambda: [gradients])
    moving.offload()
    moving.onload()
    assert gradients.tolist() == [0.0, 0.0, 0.0]


def test_a_moving_reference_takes_its_wide_weights_along_and_works_while_it_is_away(role, tmp_path):
    actor = MegatronBackend().build_actor(role())
    wanted = {name: tensor.clone() + 0.5 for name, tensor in actor.export_weights()}
    made = replace(role(), optimizer=None, dtype="bfloat16")
    references = [MegatronBackend().build_moving_reference(made) for _ in range(2)]
    away, staying = references
    away._offloading.offload()  # what `offload` does on a GPU
    held = (*away.modules[0].parameters(), *away._wide.values())
    assert all(tensor.untyped_storage().nbytes() == 0 for tensor in held)
    for number, reference in enumerate(references):
        reference.update_weights(wanted.items(), decay=0.75)
        folder = tmp_path / str(number)
        folder.mkdir()
        reference.save(folder)
        reference.load(folder)
    assert away._offloading.is_away is False  # on a CPU nothing leaves again
    assert all(
        torch.equal(tensor, staying._wide[other])
        for tensor, other in zip(away._wide.values(), staying._wide, strict=True)
    )
    saved = [load_file(next((tmp_path / number).rglob("*.safetensors"))) for number in ("0", "1")]
    assert saved[0].keys() == saved[1].keys() == wanted.keys()
    assert all(torch.equal(tensor, saved[1][name]) for name, tensor in saved[0].items())
