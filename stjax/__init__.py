"""stjax: learning from video and other space-time grids in JAX."""

import importlib

__version__ = "0.1.0"

# Public name -> where it lives. Imported on first use (PEP 562), so that
# ``import stjax`` is quick and a data worker never loads a model.
_LAZY = {
    "create_model": "stjax.models.registry:create_model",
    "list_models": "stjax.models.registry:list_models",
    "load": "stjax.loading:load",
    "train": "stjax.training.loop:train",
    "evaluate": "stjax.evaluation:evaluate",
    "losses": "stjax.losses",
    "metrics": "stjax.metrics",
    "convert": "stjax.convert",
    "search": "stjax.search",
    "export": "stjax.export",
    "viz": "stjax.viz",
}

__all__ = ["__version__", *_LAZY]


def __getattr__(name: str):
    if name not in _LAZY:
        raise AttributeError(f"module 'stjax' has no attribute {name!r}")
    module, _, attribute = _LAZY[name].partition(":")
    value = importlib.import_module(module)
    value = getattr(value, attribute) if attribute else value
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
