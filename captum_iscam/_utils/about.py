"""Who made the package, where it is, and how to cite it.

The address and the authors are set here. `setup.cfg`, `CITATION.cff` and the docs
cannot read Python and repeat them. A test compares all of them.
"""

from __future__ import annotations

URL = "https://example.org/captum_iscam"
AUTHORS = "The captum_iscam developers"
TITLE = "captum_iscam: IS-CAM, SS-CAM and Score-CAM for Captum"
YEAR = 2026


def citation(version: str) -> str:
    """Returns a reference to a version of the package, in one line.

    Examples::

        >>> citation("0.1.0")[:45]
        'The captum_iscam developers (2026). captum_is'
    """
    return f"{AUTHORS} ({YEAR}). {TITLE}. Version {version}. {URL}"


def bibtex(version: str) -> str:
    """Returns the entry of a version of the package for a BibTeX file.

    Examples::

        >>> bibtex("0.1.0").splitlines()[0]
        '@software{captum_iscam,'
    """
    title, authors = (text.replace("_", r"\_") for text in (TITLE, AUTHORS))
    return f"""\
@software{{captum_iscam,
  title  = {{{title}}},
  author = {{{{{authors}}}}},
  year   = {{{YEAR}}},
  url    = {{{URL}}},
  note   = {{Version {version}}}
}}
"""
