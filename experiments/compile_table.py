"""Does it fit, and on what: every config compiled for TPUs and GPUs that are not there.

    pip install -e ".[aot]"
    python experiments/compile_table.py --only=tau/moving_mnist --only=tau/kth

compiles the training steps that are missing, one after the other (a minute or more for
each), and writes docs/compile_table.md. Finished rows are kept as JSON, one a file, and
an interrupted run goes on. Configs whose programs are the same share a row. The batch
of a device is the same on every topology (weak scaling). ``--list`` only says what is
there and what is missing; ``--only=`` compiles nothing and writes the table.
"""

import hashlib
import importlib.metadata
import json
import os

os.environ["JAX_PLATFORMS"] = "cpu"  # before JAX looks for devices

import jax
from absl import app, flags
from compile_rows import Row, table
from etils import epath

from stjax import aot, config
from stjax.aot.specs import spec_of
from stjax.errors import UserError

_ROOT = epath.Path(__file__).parent.parent
_ROWS = flags.DEFINE_string(
    "rows", str(_ROOT / "experiments" / "compile_rows"), "Folder of the rows."
)
_TABLE = flags.DEFINE_string(
    "table", str(_ROOT / "docs" / "compile_table.md"), "The table."
)
_ONLY = flags.DEFINE_multi_string(
    "only",
    None,
    "Configs (tau/kth:20), files (tau/kth), folders (tau); may be repeated.",
)
_TOPOLOGIES = flags.DEFINE_list(
    "topologies",
    ["v5e:1x1", "v5e:2x4", "v5e:16x16", "v6e:2x4", "h100:1x8"],
    "Chips to compile for, as in stjax compile.",
)
_LIST = flags.DEFINE_bool("list", False, "Say what is there; compile nothing.")

# Compiled first, and shown with all figures.
FIRST = (
    "tau/moving_mnist",
    "tau/kth:20",
    "uniformer/kinetics400:b,32x4",
    "nonlocal/kinetics_long:i3d_r101,nl5,128x1",
    "fusion/ssv1:densenet121,search",
)
_LABELLED = 8  # clips of a device, where a config does not tell those of a GPU


def every_config() -> list[str]:
    """Names of all configs with all their variants, the important ones first."""
    found = []
    for name in config.list_configs():
        get_config = config.config_module(name).get_config
        variants = getattr(get_config, "variants", ("",))
        found += [f"{name}:{variant}" if variant else name for variant in variants]
    return [*[n for n in FIRST if n in found], *[n for n in found if n not in FIRST]]


def row_config(name: str, topology: aot.Topology):
    """A config in bfloat16, with a batch for all devices of a topology."""
    values = config.load_config(name)
    values.dtype = "bfloat16"
    clips = values.data.batch  # frame prediction was trained on one GPU
    if values.data.source == "labelled_videos":
        clips = values.train.bn_group or _LABELLED
    values.data.batch = clips * topology.size
    return values


def fingerprint(values) -> str:
    """The same for configs whose training steps differ in constants at most."""
    optim = values.optim.to_dict()
    constants = {k for k, v in optim.items() if isinstance(v, int | float)}
    model = {k: v for k, v in values.model.to_dict().items() if k != "num_classes"}
    program = {
        "model": model,
        "arrays": spec_of(values).arrays,
        "batch": values.data.batch,
        "nan": values.data.nan,
        "loss": values.loss.name,
        "mix": values.mix.to_dict(),
        "optim": {k: "some" if k in constants else v for k, v in optim.items()},
        "ema": values.train.ema is not None,
        "bn_group": values.train.bn_group,
        "dtype": values.dtype,
        "remat": values.remat,
        "mesh": values.mesh.to_dict(),
    }
    if values.search.gate:
        program["gates"] = [values.search.gate, values.search.units]
    program = {k: v for k, v in program.items() if v is not None}
    text = json.dumps(program, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def versions(chip: aot.Chip) -> dict[str, str]:
    """Of what compiles for a chip, where it is installed."""
    packages = ["jax", "libtpu" if chip.is_tpu else "jax-cuda12-plugin"]
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "none"
    return found


def rows(
    names: list[str], topologies: list[str], folder: epath.Path
) -> tuple[list[Row], list[str]]:
    """A row for each program and topology; configs with the same program share one.

    Args:
      names: of configs.
      topologies: by name.
      folder: of the rows' files.

    Returns:
      The rows, and configs whose clips nobody knows without their files.
    """
    left_out = []
    found: dict[tuple[str, str], Row] = {}
    for name in names:
        for text in topologies:
            topology = aot.parse_topology(text)
            try:
                values = row_config(name, topology)
                key = fingerprint(values), text
            except UserError:
                left_out.append(name)
                break
            if key not in found:
                file = folder / f"{text.replace(':', '-')}_{key[0]}.json"
                known = json.loads(file.read_text()) if file.exists() else {}
                found[key] = Row([], topology, file, known)
            found[key].configs.append(name)
    return list(found.values()), left_out


def matches(name: str, wanted: str) -> bool:
    """Whether a config is the wanted one, of its file, or in its folder."""
    return name == wanted or name.startswith(tuple(wanted + c for c in ":,/"))


def compile_row(row: Row) -> None:
    """Compiles the program of a row and writes its file."""
    values = row_config(row.configs[0], row.topology)
    try:
        report = aot.compile_config(values, row.topology).to_dict()
    except UserError as error:
        report = {"error": str(error)}
    row.known = report | {"versions": versions(row.topology.chip)}
    row.file.parent.mkdir(parents=True, exist_ok=True)
    row.file.write_text(json.dumps(row.known, indent=1) + "\n")


def main(argv: list[str]) -> None:
    """Runs from the command line."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    folder, target = epath.Path(_ROWS.value), epath.Path(_TABLE.value)
    every, left_out = rows(every_config(), _TOPOLOGIES.value, folder)
    for row in every:
        wanted = _ONLY.value is None or any(
            matches(name, start) for name in row.configs for start in _ONLY.value
        )
        done = row.known.get("versions") == versions(row.topology.chip)
        if _LIST.value:
            state = "done" if done else "old" if row.known else "missing"
            print(f"{state:<8} {row.topology.name:<10} {' '.join(row.configs)}")
        elif wanted and not done:
            print(f"== {row.configs[0]} on {row.topology.name}", flush=True)
            compile_row(row)
            jax.clear_caches()  # else programs of gigabytes pile up
            target.write_text(table(every, FIRST, left_out))
    if not _LIST.value:
        target.write_text(table(every, FIRST, left_out))
        print(f"wrote {target}")


if __name__ == "__main__":
    app.run(main)
