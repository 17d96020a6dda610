"""What the files in ``configs/`` share: variants and miniatures.

A config file is a function decorated with the `recipe` of `stjax.recipes.prediction`
or `stjax.recipes.recognition`::

    @recipe("tau/kth", t_out=("20", "40"))
    def get_config(config, t_out):
        ...

    miniature = get_config.miniature

Users name it ``--config=tau/kth``, ``tau/kth:40`` or, for the published protocol,
``tau/kth:40,official``.
"""

import functools
import itertools
from collections.abc import Callable, Mapping

from ml_collections import ConfigDict

from stjax.config import base_config
from stjax.errors import unknown


def recipe(
    name: str,
    *,
    shrink: Callable[[ConfigDict], None],
    words: Mapping[str, Callable[[ConfigDict], None]] | None = None,
    **groups: tuple[str, ...],
) -> Callable:
    """Makes a `get_config` of a function that fills a config in.

    Args:
      name: of the config.
      shrink: turns the config into a miniature of itself.
      words: what a variant may also name, and what each then does to the config.
      **groups: choices that a variant may name, the first being the default.

    Returns:
      A decorator. The function gets an unlocked `base_config` and a choice for each
      group; what comes out is ``get_config(variant=None)``, where `variant` is words
      with commas between: choices, those in `words` and "miniature". It has the
      attributes ``variants`` (every combination of choices) and
      ``miniature(variant=None)``.

    Raises:
      UserError: an unknown word.
    """
    changes = {**(words or {}), "miniature": shrink}
    known = [*itertools.chain(*groups.values()), *changes]

    def decorate(fill: Callable) -> Callable:
        @functools.wraps(fill)
        def get_config(variant: str | None = None) -> ConfigDict:
            named = variant.split(",") if variant else []
            chosen = {group: choices[0] for group, choices in groups.items()}
            for word in named:
                if word not in known:
                    raise unknown(f"variant of {name}", word, known)
                chosen |= {g: word for g, choices in groups.items() if word in choices}
            config = base_config()
            with config.unlocked():
                config.name = name + (f":{variant}" if variant else "")
                fill(config, **chosen)
                for word, change in changes.items():
                    if word in named:
                        change(config)
            return config

        def miniature(variant: str | None = None) -> ConfigDict:
            """A tiny model on a miniature of the data set, for tests."""
            return get_config(f"{variant},miniature" if variant else "miniature")

        del get_config.__wrapped__  # its own signature is the right one
        get_config.variants = tuple(map(",".join, itertools.product(*groups.values())))
        get_config.miniature = miniature
        return get_config

    return decorate
