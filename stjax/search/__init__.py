"""Fusion search: one template of all strategies, and what is known from it.

``fit`` a template, ``rank`` strategies with its weights, ``show`` what it found,
``export`` a strategy as an ordinary model or ``retrain`` it, and test the ranking
itself against strategies trained alone (``fidelity``). See docs/fusion_search.md.
"""

import importlib

# Public name -> where it lives; imported on first use, see stjax/__init__.py.
_LAZY = {
    "fit": "fitting:fit",
    "rank": "ranking:rank",
    "show": "showing:show",
    "export": "exporting:export",
    "retrain": "exporting:retrain",
    "fidelity": "standalone:fidelity",
    "Posterior": "posterior:Posterior",
    "Space": "space:Space",
    "create_space": "space:create_space",
    "read_strategy": "strategy:read_strategy",
    "write_strategy": "strategy:write_strategy",
}

__all__ = [*_LAZY]


def __getattr__(name: str):
    if name not in _LAZY:
        raise AttributeError(f"module 'stjax.search' has no attribute {name!r}")
    module, _, attribute = _LAZY[name].partition(":")
    value = getattr(importlib.import_module(f"stjax.search.{module}"), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
