"""What a workdir tells about its run, without loading the model."""

import dataclasses
import json

from etils import epath

from stjax import config as configs
from stjax.errors import UserError
from stjax.metrics import METRICS
from stjax.metrics.recognition import RECOGNITION_METRICS
from stjax.training.workdir import description


@dataclasses.dataclass(frozen=True)
class Record:
    """A run as its workdir holds it.

    Attributes:
      name: of its config, or of the workdir where several runs have one config.
      workdir: the folder.
      config: all fields, flat, such as {"data.batch": 16}.
      base: those of the config of that name; empty where there is none.
      versions: of what the result depends on.
      results: results.json; empty before the run has ended.
      scalars: lines of metrics.jsonl.
      seeks_frames: it predicts frames, rather than recognises classes.
    """

    name: str
    workdir: epath.Path
    config: dict[str, object]
    base: dict[str, object]
    versions: dict[str, str]
    results: dict
    scalars: list[dict]
    seeks_frames: bool

    @property
    def anchor(self) -> str:
        """For links within the page."""
        return "run-" + "".join(c if c.isalnum() else "-" for c in str(self.workdir))

    @property
    def changed(self) -> dict[str, object]:
        """The fields that differ from the config of that name."""
        return {
            key: value
            for key, value in self.config.items()
            if self.base and value != self.base.get(key)
        }


def read(workdir: str | epath.Path) -> Record:
    """Reads config.json, results.json and metrics.jsonl.

    Raises:
      UserError: it is not the workdir of a run.
    """
    config, spec = description(workdir)
    folder = epath.Path(workdir)
    values = json.loads((folder / "config.json").read_text())
    results = folder / "results.json"
    return Record(
        name=config.name or folder.name,
        workdir=folder,
        config=dict(configs.flatten(configs.to_dict(config))),
        base=_named(config.name),
        versions=values.get("versions", {}),
        results=json.loads(results.read_text()) if results.exists() else {},
        scalars=_lines(folder / "metrics.jsonl"),
        seeks_frames=not hasattr(spec, "classes"),
    )


def _lines(path: epath.Path) -> list[dict]:
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _named(name: str | None) -> dict[str, object]:
    """The fields of a config that is installed; {} of a user's own."""
    try:
        return dict(configs.flatten(configs.to_dict(configs.load_config(name or ""))))
    except UserError:
        return {}


def higher_is_better(metric: str) -> bool | None:
    """Which way is up; None where neither or not known."""
    name = metric.partition(":")[0]
    known = {**RECOGNITION_METRICS, **METRICS}
    return known[name].higher_is_better if name in known else None


def best(values: dict[str, float | None], metric: str) -> str | None:
    """The row of a table with the best value of a metric, if that can be told."""
    up = higher_is_better(metric)
    known = {row: value for row, value in values.items() if value is not None}
    if up is None or not known:
        return None
    return (max if up else min)(known, key=known.get)
