"""Settings of the site: `sphinx-build -W --keep-going -n docs docs/_build/html`."""

import re
import shutil
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert

from captum_iscam import __version__

project = "captum_iscam"
author = "The captum_iscam developers"
# The name is Sphinx's.
copyright = f"2026, {author}"  # noqa: A001 - Sphinx reads this name
release = version = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "myst_nb",
]
# Scripts and included tables are no pages of their own.
exclude_patterns = ["_build", "images"]

html_theme = "furo"
html_title = "captum_iscam: Score-CAM for PyTorch"
html_static_path = ["_static"]
html_extra_path = ["llms.txt"]  # what the site is about, for language models
html_css_files = ["site.css"]
html_math_renderer = "mathml"

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks are committed with their pictures, tests run them
nb_render_markdown_format = "myst"  # with tables

# One pair of backticks is code in docstrings, as it is in Markdown.
default_role = "code"
autodoc_typehints = "none"  # the docstrings say the types, with shapes
autodoc_member_order = "bysource"
# Types in docstrings are words, "Tensor or tuple[Tensor, ...]". Only names of this
# package have to be found.
nitpick_ignore_regex = [
    (r"py:(class|data|exc|obj)", r"(?!captum_iscam\.).*"),
    (r"py:.*", r"captum\..*"),
]

HERE = Path(__file__).parent
# Links are written as they work in the repository. On the site the notebooks stand
# next to the pages, not next to `docs`.
TO_TUTORIALS = re.compile(r"\]\(\.\./((?:\.\./)*tutorials/)")
TO_PAGES = re.compile(r"\]\(\.\./docs/")
TO_START = re.compile(r"\]\(\.\./README\.md(#[\w-]+)?\)")


def copy_tutorials():
    """Puts the notebooks where Sphinx finds them: below its own folder."""
    shutil.rmtree(HERE / "tutorials", ignore_errors=True)
    (HERE / "tutorials").mkdir()
    for notebook in sorted((HERE.parent / "tutorials").glob("*.ipynb")):
        shutil.copy(notebook, HERE / "tutorials")


def point_into_the_site(app, page, source):
    """Turns links of the repository into links of the site."""
    text = TO_START.sub("](index.md)", source[0])
    source[0] = TO_PAGES.sub("](../", TO_TUTORIALS.sub(r"](\1", text))


def inline_math(translator, node):
    """Writes a formula in a line as MathML, which browsers draw by themselves."""
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def displayed_math(translator, node):
    """Writes a formula of its own, which scrolls where the screen is too narrow."""
    formula = convert(node.astext(), display="block")
    translator.body.append(f'<div class="formula" tabindex="0">{formula}</div>')
    raise nodes.SkipNode


def setup(app):
    """Registers the formulas, which need no script and no network, and the links."""
    copy_tutorials()
    app.connect("source-read", point_into_the_site)
    app.add_html_math_renderer("mathml", (inline_math, None), (displayed_math, None))
