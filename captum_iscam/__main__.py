"""`python -m captum_iscam` is `captum-iscam`."""

import sys

from captum_iscam.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
