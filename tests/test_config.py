import json

import jax
import pytest

from stjax import config as configs
from stjax.data.base import ClipSpec
from stjax.errors import UserError
from stjax.training.state import build_model, count_params, init_variables


def test_json_and_back_keeps_types_and_placeholders():
    config = configs.load_config("tau/moving_digits")
    text = json.dumps(configs.to_dict(config))
    again = configs.from_dict(json.loads(text))
    assert configs.to_dict(again) == configs.to_dict(config)
    again.optim.clip = 1.0  # still a float that was not set
    with pytest.raises(TypeError):
        again.optim.clip = "high"
    with pytest.raises(AttributeError):  # locked
        again.train.epoch = 3


def test_lists_come_back_as_tuples():
    config = configs.base_config()
    with config.unlocked():
        config.model.update(name="tau", kernel=(3, 5))
        config.data.source = "moving_digits"
        config.train.steps = 1
    again = configs.from_dict(json.loads(json.dumps(configs.to_dict(config))))
    assert again.model.kernel == (3, 5)


@pytest.mark.parametrize(
    "name, part",
    [
        ("tau/moving_digit", "did you mean 'tau/moving_digits'"),
        ("tau/moving_digits:minature", "did you mean 'miniature'"),
        ("no/such/file.py", "no config file"),
        ("no/such/file.json", "no config file"),
    ],
)
def test_what_is_not_there_is_named(name, part):
    with pytest.raises(UserError, match=part):
        configs.load_config(name)


FILE = """
from stjax.config import base_config

def get_config():
    config = base_config()
    config.model.name = "tau"
    config.data.source = "moving_digits"
    {line}
    return config
"""


@pytest.mark.parametrize(
    "line, part",
    [
        ("config.train.epoch = 3", "epochs"),
        ("config.train.steps = 0", "train.steps is 0; it has to be at least 1"),
        ("pass", "neither train.steps nor train.epochs"),
        ("config.train.steps = 1; config.data.nan = 'masc'", "did you mean 'mask'"),
        ("config.train.steps = 1; config.dtype = 'floot32'", "did you mean 'float32'"),
    ],
)
def test_mistakes_in_a_file_give_one_line(tmp_path, line, part):
    path = tmp_path / "mine.py"
    path.write_text(FILE.format(line=line))
    with pytest.raises(UserError, match=part) as error:
        configs.load_config(str(path))
    assert "\n" not in str(error.value)


def test_unknown_keys_of_a_json_file(tmp_path):
    values = configs.to_dict(configs.load_config("tau/moving_digits"))
    values["train"]["stops"] = 5
    (tmp_path / "c.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match="did you mean 'steps'"):
        configs.load_config(str(tmp_path / "c.json"))


def test_difference_names_what_is_computed_otherwise():
    old = configs.to_dict(configs.load_config("tau/moving_digits"))
    new = json.loads(json.dumps(old))
    new["data"]["workers"] = 7
    new["mesh"]["data"] = 4
    assert configs.difference(old, new) is None
    new["optim"]["lr"] = 1.0
    assert configs.difference(old, new).startswith("optim.lr: 0.0")


def test_moving_mnist_has_the_published_size():
    config = configs.load_config("tau/moving_mnist")
    spec = ClipSpec(10, 10, 64, 64)
    model = build_model(config, spec)
    abstract = jax.eval_shape(lambda: init_variables(model, spec, 0))
    assert count_params(abstract["params"]) == 44_656_001
