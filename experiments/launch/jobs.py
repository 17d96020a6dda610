"""A job: which config is trained on which TPU, read from a TOML file."""

import dataclasses
import re
import shlex
import tomllib
from pathlib import Path

from experiments.launch.accelerators import generation, runtime_version
from stjax.errors import UserError, unknown

_RULES = {
    "name": (
        r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?",
        "at most 40 lower-case letters, digits and hyphens, the first a letter and the"
        " last no hyphen",
    ),
    "project": (
        r"[a-z][-a-z0-9]{4,28}[a-z0-9]",
        "the id of a Google Cloud project, 6 to 30 lower-case letters, digits and"
        " hyphens",
    ),
    "zone": (r"[a-z]+-[a-z]+\d+-[a-z]", "a zone such as us-west4-a"),
    "bucket": (
        r"gs://[a-z0-9][-_.a-z0-9]{1,61}[a-z0-9]",
        "the address of a bucket such as gs://my-bucket",
    ),
    "source": (
        r"\S+://\S+",
        "what pip can install, such as git+https://github.com/YOU/stjax",
    ),
    "config": (r"[\w/.:-]+", "the name of a config such as tau/moving_mnist"),
}
_RULES["cluster"] = _RULES["service_account"] = _RULES["name"]


@dataclasses.dataclass(frozen=True)
class Job:
    """What to run and where.

    Attributes:
      name: of the run, its machines and its folder in the bucket.
      project: id of the Google Cloud project that pays.
      zone: of the TPUs; the bucket is made in its region.
      accelerator: slice such as v5litepod-16.
      bucket: gs:// address; the workdir is ``BUCKET/NAME``.
      source: of stjax, for pip, the same on every machine.
      config: that is installed with it, such as tau/moving_mnist.
      overrides: fields of the config, ``{"train": {"steps": 1000}}``.
      spot: cheap capacity that may be taken away at any time.
      cluster: GKE cluster that xpk makes and uses; without one, TPU VMs are used.
      image: of a container with pip and git (with a cluster).
      max_restarts: how often GKE starts an interrupted workload again.
      service_account: that the machines act as; may read and write the bucket only.
    """

    name: str
    project: str
    zone: str
    accelerator: str
    bucket: str
    source: str
    config: str
    overrides: dict[str, object] = dataclasses.field(default_factory=dict)
    spot: bool = False
    cluster: str = ""
    image: str = "python:3.12"
    max_restarts: int = 50
    service_account: str = "stjax-jobs"

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            kind = getattr(field.type, "__origin__", field.type)
            if type(value) is not kind:
                raise UserError(
                    f"job field {field.name} = {value!r}: expected {kind.__name__}"
                )
            pattern, meaning = _RULES.get(field.name, ("", ""))
            optional = field.name == "cluster" and not value
            if pattern and not optional and not re.fullmatch(pattern, value):
                raise UserError(
                    f"job field {field.name} = {value!r}: expected {meaning}"
                )
        generation(self.accelerator)
        if not self.cluster:
            runtime_version(self.accelerator)

    @property
    def workdir(self) -> str:
        """Of the run, in the bucket."""
        return f"{self.bucket}/{self.name}"

    @property
    def cache(self) -> str:
        """Where compiled programs are kept, so that a restart compiles nothing."""
        return f"{self.bucket}/compile_cache"

    @property
    def region(self) -> str:
        """Of the zone."""
        return self.zone.rpartition("-")[0]

    @property
    def account(self) -> str:
        """The service account's address."""
        return f"{self.service_account}@{self.project}.iam.gserviceaccount.com"

    @property
    def requirement(self) -> str:
        """For pip: stjax with what TPUs and buckets need."""
        return f"stjax[tpu,gcs] @ {self.source}"

    @property
    def flags(self) -> list[str]:
        """Of ``stjax train``."""
        fields = _flags("--config", self.overrides)
        return [f"--config={self.config}", *fields, f"--workdir={self.workdir}"]

    @property
    def train(self) -> str:
        """The command that starts the training and also takes it up again."""
        return shlex.join(["stjax", "train", *self.flags])


def _flags(name: str, value: object) -> list[str]:
    if isinstance(value, dict):
        return [f for key, v in value.items() for f in _flags(f"{name}.{key}", v)]
    if isinstance(value, list):
        value = ",".join(map(str, value))
    return [f"{name}={value}"]


def load_job(path: str) -> Job:
    """Reads a job.

    Raises:
      UserError: no such file, no TOML, or a field that is missing or wrong.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"--job={path}: there is no such file")
    try:
        values = tomllib.loads(file.read_text())
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not TOML: {error}") from None
    fields = {field.name: field for field in dataclasses.fields(Job)}
    for name in values:
        if name not in fields:
            raise unknown("job field", name, fields)
    for name, field in fields.items():
        optional = (field.default, field.default_factory) != (dataclasses.MISSING,) * 2
        if name not in values and not optional:
            meaning = _RULES.get(name, ("", "such as v5litepod-16"))[1]
            raise UserError(f"{path} has no field {name}: {meaning}")
    return Job(**values)
