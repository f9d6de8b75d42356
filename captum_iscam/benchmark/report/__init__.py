"""The page that `captum-iscam benchmark` writes: `page.py` and what a browser runs."""

from captum_iscam.benchmark.report.page import write_report

__all__ = ["write_report"]
