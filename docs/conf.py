"""Sphinx: `make docs` builds these pages offline. Warnings are errors, and links between pages are checked."""

import pathlib
import shutil

import latex2mathml.converter
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

import pgd_jax

HERE = pathlib.Path(__file__).parent
NOTEBOOKS = HERE.parent / "experiments" / "notebooks"

project = "pgd_jax"
author = "the developers of pgd_jax"
project_copyright = author
release = version = pgd_jax.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"pgd_jax {version}"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_math_renderer = "mathml"  # browsers draw it by themselves: no script, no network

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_timeout = 600
nb_execution_raise_on_error = True

default_role = "code"  # docstrings have single backticks
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100

# The notebooks live with the experiments, where people open them; Sphinx wants its sources in one folder.
if NOTEBOOKS.exists():
    shutil.copytree(NOTEBOOKS, HERE / "notebooks", dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))


def _inline(writer: HTML5Translator, node: nodes.math) -> None:
    writer.body.append(latex2mathml.converter.convert(node.astext()))
    raise nodes.SkipNode


def _block(writer: HTML5Translator, node: nodes.math_block) -> None:
    writer.body.append(latex2mathml.converter.convert(node.astext(), display="block"))
    raise nodes.SkipNode
