"""What `pip install` takes along: setup.cfg lists every package."""

import configparser
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_package_is_listed():
    options = configparser.ConfigParser()
    options.read(ROOT / "setup.cfg")
    listed = options["options"]["packages"].split()
    found = []
    for folder, package in (("stjax", "stjax"), ("configs", "stjax.configs")):
        for init in (ROOT / folder).rglob("__init__.py"):
            parts = init.parent.relative_to(ROOT / folder).parts
            found.append(".".join((package, *parts)))
    assert sorted(listed) == sorted(found)
