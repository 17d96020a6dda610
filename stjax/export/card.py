"""The card of a model: README.md with what the Hugging Face Hub reads at its top."""

import json

from stjax import config as configs
from stjax.data.base import LabelSpec
from stjax.errors import UserError
from stjax.export.given import Function

# The Hub's names of tasks.
_TASKS = {True: "video-classification", False: "video-to-video"}


def text(
    function: Function, name: str, license: str, about: str, results: dict | None
) -> str:
    """The card of a model that has a run.

    Args:
      function: the loaded model.
      name: of the model.
      license: of its weights.
      about: Markdown of the author.
      results: content of results.json.
    """
    sections = [
        f"# {name}",
        about.strip(),
        "```text\n" + _described(function) + "\n```",
        "## Use\n\n```bash\npip install stjax\n```\n\n```python\n"
        + _usage(function, name)
        + "\n```",
        _metrics(results) if results else "",
        _training(function, results or {}),
    ]
    head = _head(function, name, license, results)
    return head + "\n" + "\n\n".join(s for s in sections if s) + "\n"


def _described(function: Function) -> str:
    """`describe`, without where on this machine it was and runs."""
    where = f", {function.source}" * bool(function.source)
    lines = function.describe().replace(where, "", 1).splitlines()
    return "\n".join(line for line in lines if not line.startswith("runs on "))


def _head(function: Function, name: str, license: str, results: dict | None) -> str:
    labelled = isinstance(function.spec, LabelSpec)
    task, config = _TASKS[labelled], function.run.config
    kind = "video recognition" if labelled else "video prediction"
    values = {
        "license": license,
        "library_name": "stjax",
        "pipeline_tag": task,
        "tags": ["stjax", "jax", "flax", kind, config.model.name],
    }
    if results:
        source = config.data.source
        measured = [
            {"name": key, "type": key, "value": value}
            for key, value in results["metrics"].items()
        ]
        row = {
            "task": {"type": task},
            "dataset": {"name": source, "type": source, "split": "test"},
            "metrics": measured,
        }
        values["model-index"] = [{"name": name, "results": [row]}]
    # JSON is YAML.
    lines = [f"{key}: {json.dumps(value)}" for key, value in values.items()]
    return "\n".join(["---", *lines, "---", ""])


def _usage(function: Function, name: str) -> str:
    if isinstance(function.spec, LabelSpec):
        return (
            "import stjax\n\n# The path of this folder, or hf://ORG/NAME.\n"
            f'recogniser = stjax.load("{name}")\n'
            'print(recogniser.top_k(recogniser.video("clip.mp4")))'
        )
    shape = ", ".join(map(str, function.spec.input_shape))
    return (
        "import stjax\n\n# The path of this folder, or hf://ORG/NAME.\n"
        f'predictor = stjax.load("{name}")\n'
        f"frames = predictor(past)  # past: [B, {shape}]"
    )


def _metrics(results: dict) -> str:
    """Beside the trivial answers, all on the test split."""
    names = list(results["metrics"])
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    rows = {"**this model**": results["metrics"], **results.get("baselines", {})}
    for row, values in rows.items():
        cells = [f"{values[n]:.4g}" if n in values else "" for n in names]
        lines.append(f"| {row.replace('_', ' ')} | " + " | ".join(cells) + " |")
    told = f"{results['clips']:,} clips of the test split"
    if results.get("protocol"):
        told += f"; {results['protocol']}"
    return "\n".join(["## Metrics", "", told + ".", "", *lines])


def _training(function: Function, results: dict) -> str:
    run = function.run
    facts = {
        "data": run.config.data.source,
        "seed": run.config.seed,
        "step": run.step,
        "time": _duration(results.get("seconds")),
        "device": results.get("devices"),
        "versions": ", ".join(
            f"{k} {v}" for k, v in results.get("versions", {}).items()
        ),
    }
    lines = [f"- {key}: {value}" for key, value in facts.items() if value]
    command = command_of(run.config)
    again = f"\n\n```bash\n{command}\n```" if command else ""
    return "## Training\n\n" + "\n".join(lines) + again


def command_of(config) -> str | None:
    """What trains it again; None for a config that does not come with stjax."""
    try:
        base = configs.load_config(config.name)
    except UserError:
        return None
    was = dict(configs.flatten(configs.to_dict(base)))
    now = dict(configs.flatten(configs.to_dict(config)))
    words = ["stjax train", f"--config={config.name}", "--workdir=RUN"]
    for key, value in now.items():
        if value != was.get(key) and key not in ("data.path", "train.init_from"):
            if value is None:
                return None
            shown = value if isinstance(value, str) else json.dumps(value)
            words.append(f"--config.{key}={shown}")
    return " ".join(words)


def _duration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
