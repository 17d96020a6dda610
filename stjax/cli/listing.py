"""``stjax datasets`` and ``stjax models``: what there is.

Reads docstrings from source files instead of importing modules, so that a list is
there at once and needs no optional package.
"""

import ast
import inspect
from pathlib import Path

import stjax


def datasets(name: str = "", /) -> None:
    """Lists the data sources, or the fields of one.

    Args:
      name: a data source.
    """
    from stjax.data import sources

    if name:
        cls = sources.source_class(name)
        print(f"{name}: {inspect.getdoc(cls)}\n\nfields of data.*, in a config:")
        for field, p in inspect.signature(cls).parameters.items():
            if field != "split":
                print(f"  {_field(field, p.annotation, p.default)}")
        about = inspect.getdoc(cls.__init__) or ""
        if "Args:" in about:
            print("\n" + about)
        return
    for name, where in sorted(sources.SOURCES.items()):
        module, _, cls = where.partition(":")
        _line(name, _first_line(f"stjax.data.sources.{module}", cls))
    print("\nstjax datasets NAME tells the fields of one.")


def models(name: str = "", /, *, zoo: bool = False) -> None:
    """Lists the models, or the fields and configs of one.

    Args:
      name: a model; its configs are shown with their parameter counts.
      zoo: list the trained models that ship, which stjax.load takes by name; or, with
        a name, show the card of one.
    """
    if zoo:
        _zoo(name)
        return
    from stjax.models import registry

    if name:
        cls, _ = registry.model_class(name)
        print(f"{name}: {inspect.getdoc(cls)}\n\nfields of model.*, in a config:")
        hints = {
            k: v for c in reversed(cls.__mro__) for k, v in _annotations(c).items()
        }
        for field, default in registry.model_fields(name).items():
            print(f"  {_field(field, hints.get(field), default)}")
        configs = [c for c in _configs() if c[1].model.name == name]
        if configs:
            print("\nconfigs:")
        for path, config in configs:
            print(f"  {path:<32} {_parameters(config)}", flush=True)
        return
    counts = {}
    for _, config in _configs():
        counts[config.model.name] = counts.get(config.model.name, 0) + 1
    for name, (where, preset) in sorted(registry.MODELS.items()):
        module, _, cls = where.partition(":")
        also = [f"{key}={value}" for key, value in preset.items()]
        if known := counts.get(name, 0):
            also.append("1 config" if known == 1 else f"{known} configs")
        text = f" [{', '.join(also)}]" if also else ""
        _line(name, _first_line(module, cls) + text)
    print("\nstjax models NAME tells fields, configs and parameter counts of one.")


def _zoo(name: str) -> None:
    from stjax import zoo

    if name:
        print(
            (zoo.folder(name) / "README.md").read_text().split("---\n", 2)[-1].strip()
        )
        return
    for name in zoo.names():
        _line(name, zoo.title(name))
    print("\nstjax models NAME --zoo shows the card of one; stjax.load(NAME) loads it.")


def _line(name: str, text: str) -> None:
    print(f"{name:<22} {text}")


def _annotations(cls: type) -> dict:
    return inspect.get_annotations(cls)


def _field(name: str, annotation, default) -> str:
    kind = annotation if isinstance(annotation, str) else None
    if kind is None and annotation is not inspect.Parameter.empty:
        kind = inspect.formatannotation(annotation)
    shown = (
        "" if type(default) is type or "MISSING" in repr(default) else f" = {default!r}"
    )
    if default is inspect.Parameter.empty:
        shown = "  (required)"
    return f"{name}: {kind}{shown}"


def _first_line(module: str, cls: str) -> str:
    """The first line of a class docstring, without importing the module."""
    path = Path(stjax.__file__).parent.joinpath(*module.split(".")[1:])
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not path.exists():
        return "(not there yet)"
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef) and node.name == cls:
            return (ast.get_docstring(node) or "").split("\n")[0]
        if isinstance(node, ast.ImportFrom) and cls in [n.name for n in node.names]:
            return _first_line(node.module, cls)
    return "(not there yet)"


def _configs():
    from stjax.config import list_configs, load_config

    for path in list_configs():
        yield path, load_config(path)


def _parameters(config) -> str:
    """The number of parameters of a config's model, from shapes alone."""
    import jax

    from stjax.aot.specs import spec_of
    from stjax.errors import UserError
    from stjax.training.state import build_model, count_params, init_variables

    try:
        spec = spec_of(config)
    except UserError:
        return "(parameters: depends on the data)"
    model = build_model(config, spec)
    shapes = jax.eval_shape(lambda: init_variables(model, spec, 0))
    return f"{count_params(shapes['params']):,} parameters"
