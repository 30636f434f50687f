"""`rlkit serve`: a model behind an OpenAI-compatible API, until a signal stops it."""

from __future__ import annotations

import ipaddress
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from rlkit.cluster.environment import set_environment_guards
from rlkit.config.runs import ServeConfig
from rlkit.models.shape import read_shape
from rlkit.pipelines.assembly import build_engine, engine_model, locate, prepare_process
from rlkit.pipelines.server_settings import server_settings
from rlkit.plugin import PluginKind
from rlkit.plugin.loader import load_plugin
from rlkit.protocols import RolloutEngine, ServingEngine
from rlkit.serving.app import build_app, serving_context
from rlkit.serving.batched import BatchedServing
from rlkit.serving.server import bind, run_server

if TYPE_CHECKING:
    from rlkit.config.load import Resolved


def run_serve(resolved: Resolved, *, as_json: bool = False) -> None:
    """Serve until a signal; an engine that brings a server of its own serves itself."""
    config = resolved.config
    assert isinstance(config, ServeConfig)
    section = config.serve
    set_environment_guards()
    listener = bind(section.host, section.port)  # first, since a model may take minutes to load
    device = prepare_process(config.run)
    located = locate(config.model)
    settings = server_settings(config, context_length=located.context_length)
    ready = _announce(settings.model_name, as_json=as_json)
    if not settings.api_key and not _is_loopback(listener.getsockname()[0]):
        print(f"warning: everybody who can reach {section.host} may ask; set serve.api_key_env", file=sys.stderr)
    plugin = load_plugin(PluginKind.ROLLOUT_ENGINE, section.engine)
    own_server = getattr(plugin.target, "serve", None)
    if own_server is not None:
        options = plugin.parse_options(section.options, where="serve.options")
        model = engine_model(config.model, config.run, located, device)
        own_server(options, model=model, settings=settings, listener=listener, ready=ready)
        return
    engine = build_engine(section, config.model, config.run, located, device, name="serve")
    context = serving_context(
        settings,
        as_serving_engine(engine),
        located.tokenizer,
        vocabulary=read_shape(located.folder).vocab_size,
        folder=located.folder,
    )
    run_server(build_app(context), context, listener, ready)


def as_serving_engine(engine: RolloutEngine) -> ServingEngine:
    """The engine itself if it can be asked while it answers, else behind an adapter."""
    return cast(ServingEngine, engine) if hasattr(engine, "submit") else BatchedServing(engine)


def _announce(model_name: str, *, as_json: bool) -> Callable[[str], None]:
    """Function: one line with the URL, on standard output."""

    def ready(url: str) -> None:
        event = {"event": "ready", "url": url, "model": model_name}
        print(json.dumps(event) if as_json else f"serving {model_name} at {url}/v1 (Ctrl-C stops)", flush=True)

    return ready


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback
