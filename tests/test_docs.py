"""Every command and snippet in README and docs runs, so that none can rot.

Commands run as written, in a scratch folder, with two changes: a config is replaced by
its miniature, and what the text calls your own data is a small file made here.
"""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stjax import cli

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)

# Commands that .ci/run runs itself, on a clean checkout.
IN_CI = ("pip install -e .", 'pip install -e ".[test]"', "python -m pytest")


def blocks(page, *languages):
    return [code for lang, code in FENCE.findall(page.read_text()) if lang in languages]


def commands(page):
    joined = [b.replace("\\\n", " ") for b in blocks(page, "bash", "sh")]
    lines = [line.split(" # ")[0].strip() for b in joined for line in b.splitlines()]
    parts = [part.strip() for line in lines for part in line.split("&&")]
    return [part for part in parts if part and not part.startswith("#")]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A folder with the data that the pages speak of."""
    folder = tmp_path_factory.mktemp("pages")
    rng = np.random.default_rng(0)
    ramp = np.arange(60)[:, None, None] + np.arange(32)[None, :, None]
    film = (ramp * 4 % 256 + rng.integers(0, 8, (60, 32, 32))).astype(np.uint8)
    np.save(folder / "my_clips.npy", film)
    np.save(folder / "clip.npy", film[:20])
    return folder


def _small(argument):
    """A config as a miniature of itself."""
    own = argument.endswith(".json")  # of a workdir, which is small already
    if not argument.startswith("--config=") or "/" not in argument or own:
        return argument
    return argument + ("," if ":" in argument else ":") + "miniature"


def run(command, folder):
    argv = [_small(a) for a in shlex.split(command)]
    if argv[0] == "stjax":
        return _here(argv, folder)
    if argv[0] == "python":
        argv[0] = sys.executable
    if "stjax.data.motion_files" in argv:
        argv += ["--train=8", "--validation=4", "--test=4"]
    return subprocess.run(
        argv, cwd=folder, capture_output=True, text=True, env=os.environ, timeout=300
    )


def _here(argv, folder):
    """A command in this process; test_cli.py has some in a process of their own."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as end,
    ):
        cli.main(argv)
    status = end.value.code
    return subprocess.CompletedProcess(argv, status, out.getvalue(), err.getvalue())


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_page(page, scratch):
    """Its commands in their order, then its snippets, in one process.

    One test, because later ones use what earlier ones made.
    """
    for command in commands(page):
        if command in IN_CI:
            assert command.split()[0] in ("pip", "python")
            continue
        done = run(command, scratch)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    code = "\n".join(blocks(page, "python"))
    if not code:
        return
    code = re.sub(r'load_config\("([\w/]+)"\)', r'load_config("\1:miniature")', code)
    done = run(f"python -c {shlex.quote(code)}", scratch)
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"


def test_ci_runs_the_commands_of_the_readme():
    script = (ROOT / ".ci/run").read_text()
    written = commands(ROOT / "README.md")
    assert 'pip install -e ".[test]"' in written and "python -m pytest" in written
    assert 'install -q -e ".[test]"' in script and "python -m pytest" in script


def test_links_and_pictures_exist():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} points to {target}"
