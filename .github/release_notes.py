"""Prints the changelog's section of a version: `python .github/release_notes.py 0.1.0`.

Fails where the package, the changelog and the citation do not all know that version.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def notes(version, root=ROOT):
    """Returns the text under the version's heading, without the heading."""
    said = {
        "captum_iscam/__init__.py": f'__version__ = "{version}"\n',
        "CITATION.cff": f"version: {version}\n",
    }
    for file, line in said.items():
        if line not in (root / file).read_text():
            raise ValueError(f"{file} must say {line.strip()}. Set the version there.")
    heading = rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## \[|\Z)"
    changelog = (root / "CHANGELOG.md").read_text()
    found = re.search(heading, changelog, re.MULTILINE | re.DOTALL)
    if found is None or not found[1].strip():
        raise ValueError(
            f'CHANGELOG.md must have a section "## [{version}] - YYYY-MM-DD" with '
            "text. Rename [Unreleased] and date it."
        )
    return found[1].strip() + "\n"


if __name__ == "__main__":
    try:
        sys.stdout.write(notes(sys.argv[1]))
    except (IndexError, ValueError) as error:
        sys.exit(f"release: {error}")
