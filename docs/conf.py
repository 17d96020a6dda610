"""The site of pages and docstrings: ``sphinx-build -W docs build/site``."""

import importlib.metadata

project = "stjax"
release = version = importlib.metadata.version("stjax")

extensions = [
    "myst_parser",
    "sphinx.ext.apidoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
html_theme, html_title = "furo", "stjax"
# Of links out of this folder; tests/test_docs.py asks whether their files exist.
suppress_warnings = ["myst.xref_missing"]

# A page for every module, from its docstrings, written anew by each build.
apidoc_modules = [
    {
        "path": "../stjax",
        "destination": "api",
        "separate_modules": True,
        "module_first": True,
    }
]
autodoc_default_options = {
    "members": True,
    "show-inheritance": True,
    "ignore-module-all": True,  # what a package exports is told where it is defined
}
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Fields that need a word", "params_style")]
default_role = "py:obj"  # `name` in a docstring is a link where there is such a thing
