"""`captum-iscam`: a file for each command, its options and what it writes."""

from captum_iscam.cli.main import main

__all__ = ["main"]
