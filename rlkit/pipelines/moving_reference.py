"""A reference that follows the actor: what it needs, and how it is built."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from rlkit.errors import ConfigError
from rlkit.models.locate import model_inside
from rlkit.models.shape import ModelShape, read_shape

if TYPE_CHECKING:
    from rlkit.config.runs import PPOConfig
    from rlkit.protocols import ActorBackend, ModelRole
    from rlkit.trainers.moving_reference import ReferenceCourse


def build_reference_course(config: PPOConfig, backend: ActorBackend, role: ModelRole, actor: Path) -> ReferenceCourse:
    """The reference of `role`, and when it takes over what from the actor, whose weights are those of folder `actor`."""
    from rlkit.trainers.moving_reference import ReferenceCourse

    section = config.reference
    check_same_architecture(role.path, actor)
    reference = backend.build_moving_reference(role)
    return ReferenceCourse(reference, every=section.refresh_every or 1, decay=section.ema_decay)


def check_reference_path(config: PPOConfig) -> None:
    """Raises `ConfigError` for local folders of two architectures when the reference takes over the actor's weights."""
    if not config.reference.moves or not config.reference.path or not config.model.path:
        return
    reference, actor = (model_inside(Path(path).expanduser()) for path in (config.reference.path, config.model.path))
    if reference is not None and actor is not None:
        check_same_architecture(reference, actor)


def check_same_architecture(reference: Path, actor: Path) -> None:
    """Raises `ConfigError` unless the tensors of one model fit into the other."""
    if reference == actor:
        return
    left, right = read_shape(reference), read_shape(actor)
    for field in fields(ModelShape):
        if field.name in ("parameters_by_part", "dtype", "context_length"):
            continue
        mine, other = getattr(left, field.name), getattr(right, field.name)
        if mine != other:
            raise ConfigError(
                f"reference.path = '{reference}' cannot take over the weights of '{actor}': {field.name} is {mine}, "
                f"not {other}; leave reference.path empty, or set reference.refresh_every and reference.ema_decay to 0"
            )
