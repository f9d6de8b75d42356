"""`captum-iscam`, and `python -m captum_iscam`: the command line as a process."""

import sys

from captum_iscam._utils.interrupts import leave_on_interrupt


def main() -> int:
    """Runs a command with the arguments of the process; returns its exit code."""
    leave_on_interrupt()
    # After that, so that Ctrl-C while it is imported prints no traceback.
    from captum_iscam.cli.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
