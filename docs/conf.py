"""Sphinx: `make docs` builds these pages offline. Warnings are errors, and links between pages are checked."""

import pathlib
import re
import shutil
from typing import Any

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
    "sphinx.ext.napoleon",
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

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100

# The notebooks live with the experiments, where people open them; Sphinx wants its sources in one folder.
if NOTEBOOKS.exists():
    shutil.copytree(NOTEBOOKS, HERE / "notebooks", dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.connect("autodoc-process-docstring", _plain_docstring, priority=400)  # before napoleon's


def _plain_docstring(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Docstrings here are plain text: `code` in single backticks, and indented blocks are code."""
    made: list[str] = []
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith("    ") and not before.strip() and not _is_indented(made):
            made += ["::", ""]
        made.append(line if line.startswith("    ") else _code(line))
    lines[:] = made


def _is_indented(lines: list[str]) -> bool:
    """Whether the last line that is not empty is."""
    return next((line.startswith("    ") for line in reversed(lines) if line.strip()), False)


def _code(line: str) -> str:
    return re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``\\ ", line.replace("|", r"\|"))


def _inline(writer: HTML5Translator, node: nodes.math) -> None:
    writer.body.append(latex2mathml.converter.convert(node.astext()))
    raise nodes.SkipNode


def _block(writer: HTML5Translator, node: nodes.math_block) -> None:
    writer.body.append(latex2mathml.converter.convert(node.astext(), display="block"))
    raise nodes.SkipNode
