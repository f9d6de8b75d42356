"""The command line: `captum-iscam`, also `python -m captum_iscam`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from captum_iscam._utils.interrupts import INTERRUPTED, raising_interrupts
from captum_iscam.cli.parser import make_parser
from captum_iscam.cli.streams import standard_streams


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv (Sequence[str], optional): The arguments. Default: None, those of the
            process

    Returns:
        0; or 1 if some of the images could not be explained, a method of a benchmark
        has nothing but errors, the run failed, or what it printed was lost; or 2 if the
        command was wrong; or 130 after Ctrl-C.
    """
    with standard_streams() as lost:
        code = _run(argv)
        if not lost():
            return code
        # Where one of them is left.
        _print_error(
            "captum-iscam: standard output or error was closed before all was printed. "
            "The work went on without it."
        )
        return code or 1


def _run(argv: Sequence[str] | None) -> int:
    try:
        args = make_parser().parse_args(argv)
        args.words = sys.argv[1:] if argv is None else list(argv)
    except SystemExit as stop:  # argparse has printed why
        return stop.code if isinstance(stop.code, int) else 2
    try:
        # Imported when needed: torch takes seconds that --help need not take.
        if args.command == "demo":
            from captum_iscam.cli.demo import run
        elif args.command == "app":
            from captum_iscam.cli.app import run
        elif args.command == "benchmark":
            from captum_iscam.cli.benchmark import run
        else:
            from captum_iscam.cli.explain import run
        with raising_interrupts():
            return run(args)
    except (ValueError, FileNotFoundError) as error:
        _print_error(f"captum-iscam {args.command}: error: {error}")
        return 2
    except OSError as error:
        _print_error(f"captum-iscam {args.command}: {error}")
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return INTERRUPTED


def _print_error(message: str) -> None:
    from captum_iscam.cli.output import printable

    print(printable(message, sys.stderr), file=sys.stderr)
