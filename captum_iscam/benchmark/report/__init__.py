"""The page that `captum-iscam benchmark` writes: `page.py` and what a browser runs."""
