"""`rlkit serve`: a model behind an OpenAI-compatible API, until a signal stops it."""

from __future__ import annotations

import ipaddress
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from rlkit.cluster.environment import set_environment_guards
from rlkit.config.runs import ServeConfig
from rlkit.errors import ConfigError
from rlkit.models.shape import read_shape
from rlkit.pipelines.adapters import given_adapter, put_on
from rlkit.pipelines.assembly import build_engine, engine_model, locate, prepare_process
from rlkit.pipelines.server_settings import server_settings
from rlkit.plugin import PluginKind
from rlkit.plugin.loader import load_plugin
from rlkit.protocols import RolloutEngine, ServingEngine
from rlkit.serving.app import build_app, serving_context
from rlkit.serving.batched import BatchedServing
from rlkit.serving.engine_server import run_engine_server
from rlkit.serving.server import bind, run_server

if TYPE_CHECKING:
    from rlkit.config.load import Resolved


def run_serve(resolved: Resolved, *, as_json: bool = False) -> None:
    """Serve until a signal; of an engine that brings a server of its own, it is that one that answers."""
    config = resolved.config
    assert isinstance(config, ServeConfig)
    section = config.serve
    set_environment_guards()
    listener = bind(section.host, section.port)  # first, since a model may take minutes to load
    device = prepare_process(config.run)
    located = locate(config.model, with_adapter=True)
    settings = server_settings(config, context_length=located.context_length)
    ready = _announce(settings.model_name, as_json=as_json)
    if not settings.api_key and not _is_loopback(listener.getsockname()[0]):
        print(f"warning: everybody who can reach {section.host} may ask; set serve.api_key_env", file=sys.stderr)
    plugin = load_plugin(PluginKind.ROLLOUT_ENGINE, section.engine)
    own_server = getattr(plugin.target, "serve", None)
    if own_server is not None:
        if located.adapter is not None:
            raise ConfigError(
                f"the server of engine {section.engine} takes no adapter's folder ({config.model.path}); give the merged "
                "model, or serve with engine hf"
            )
        options = plugin.parse_options(section.options, where="serve.options")
        model = engine_model(config.model, config.run, located, device)
        opening = own_server(options, model=model, settings=settings)
        run_engine_server(opening, settings, listener, ready, folder=located.folder)
        return
    adapter = given_adapter(located)
    rank = 0 if adapter is None else adapter.rank
    engine = build_engine(section, config.model, config.run, located, device, name="serve", lora_rank=rank)
    put_on(engine, adapter)
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
