"""`captum-iscam`, and `python -m captum_iscam`: the command line as a process."""

import sys
import warnings

from captum_iscam._utils.interrupts import leave_on_interrupt


def main() -> int:
    """Runs a command with the arguments of the process; returns its exit code."""
    leave_on_interrupt()
    # After that, so that Ctrl-C while it is imported prints no traceback.
    from captum_iscam.cli.main import main as run

    # Without the file and the line of code, which tell a user of commands nothing.
    warnings.formatwarning = _as_line
    return run()


def _as_line(message: Warning | str, *_: object, **__: object) -> str:
    from captum_iscam.cli.output import printable

    return f"captum-iscam: warning: {printable(str(message), sys.stderr)}\n"


if __name__ == "__main__":
    sys.exit(main())
