"""``stjax search`` as a user types it, bad input included."""

import json

import pytest
from toy_search import predictor_config, write_search

from stjax import cli

TOY = "--config=fusion/order_ladder:miniature"


@pytest.fixture
def stjax(capsys):
    """``stjax("search", ...) -> (exit status, stdout, stderr)``, in this process."""

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main(["stjax", *map(str, arguments)])
        return end.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def wrong(stjax):
    """Asserts that a command fails as a user's error does, and returns the line."""

    def run(*arguments):
        status, out, err = stjax("search", *arguments)
        assert status == 2, out + err
        assert out == "" and err.count("\n") == 1 and err.startswith("stjax: "), err
        return err.removeprefix("stjax: ").strip()

    return run


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "run"
    return write_search(folder, predictor_config())


def test_rank_show_and_export(stjax, workdir, tmp_path):
    here = f"--workdir={workdir}"
    status, out, err = stjax(
        *("search", "rank", here, "--samples=2", "--batches=1", "--tolerance=1e9"),
        "--include=small,both;ll",
    )
    assert status == 0, err
    assert "1/" in err and "wrote" in out
    ranking = json.loads((workdir / "search" / "ranking.json").read_text())
    assert {"ss", "ll", "bb", "sb"} <= {r["strategy"] for r in ranking["rows"]}
    assert ranking["pick"] == "ss"  # everything is near enough, so the cheapest
    assert f"pick  ss  mse {ranking_value(ranking, 'ss'):.4g}" in out

    status, out, err = stjax("search", "show", here, f"--output={tmp_path}")
    assert status == 0, err
    assert "mode  sl" in out and "marginals.png" in out
    assert (tmp_path / "pareto.png").exists()

    status, out, err = stjax("search", "export", here, "--batches=1")
    assert status == 0 and ": ss, " in out, err
    about = json.loads((workdir / "search" / "export" / "export.json").read_text())
    assert about["units"] == ["small", "small"]


def ranking_value(ranking, name):
    return next(r for r in ranking["rows"] if r["strategy"] == name)["metrics"]["mse"]


@pytest.mark.parametrize("command", ["fit", "rank", "show", "export", "fidelity"])
def test_help(stjax, command):
    status, out, _ = stjax("search", command, "--help")
    assert status == 0 and out.startswith(f"usage: stjax search {command} ")
    assert all(len(line) < 100 for line in out.splitlines()[2:])


def test_bad_input_of_fit(wrong, tmp_path):
    here = f"--workdir={tmp_path / 'run'}"
    assert "search.gate is not set" in wrong(
        *("fit", "--config=tau/moving_digits:miniature", here)
    )
    assert "the search space is empty: this model has no slots" in wrong(
        *("fit", "--config=tau/moving_digits:miniature", here),
        "--config.search.gate=categorical",
    )
    assert "leaves no unit for 'block_1'" in wrong(
        "fit", TOY, here, "--config.search.units=['block_1=']"
    )
    assert "one strategy only" in wrong(
        *(
            "fit",
            TOY,
            here,
            "--config.search.units=['*=ST']",
            "--config.search.prior=.4",
        )
    )


def test_bad_input_of_rank(wrong, workdir, tmp_path):
    here, there = f"--workdir={workdir}", f"--output={tmp_path}"
    assert "ranking on the test split would leak" in wrong(
        "rank", here, there, "--split=test"
    )
    assert "max_macs" in wrong("rank", here, there, "--max_macs=1")
    assert "unknown cost 'mac'" in wrong("rank", here, there, "--cost=mac")
    assert "no strategy" in wrong("rank", here, there, "--include=best")
    assert "--step=first" in wrong("rank", here, there, "--step=first")
    assert "has no config.json" in wrong("rank", f"--workdir={tmp_path}")
    other = {"format": 1, "model": "fusion_toy", "slots": ["a"], "units": ["S"]}
    file = tmp_path / "other.json"
    file.write_text(json.dumps(other))
    assert "is a strategy of another space" in wrong(
        "rank", here, there, f"--include={file}"
    )


def test_bad_input_of_the_others(wrong, workdir, tmp_path):
    here = f"--workdir={workdir}"
    assert "is no strategy: expected" in wrong(
        "export", here, "--strategy=middle", f"--output={tmp_path / 'o'}"
    )
    assert "did you mean 'search rank'" in wrong("ranks", here)
    assert "expected one of validation, test" in wrong(
        "fidelity", here, "--split=train", f"--output={tmp_path / 'f'}"
    )
