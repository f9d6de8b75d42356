"""`captum-iscam app`: a page in the browser that explains images."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import tempfile
from typing import Any

from captum_iscam.benchmark.explained_models import SCENE_NET
from captum_iscam.cli.app.served import ServedNetwork, serve_network
from captum_iscam.cli.explain import choose_device, network_options


def run(args: argparse.Namespace) -> int:
    """Serves the page until it is stopped."""
    # Uploads are removed with the folder, also when the process is asked to end.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="captum-iscam-app-") as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads  # read when Gradio is imported
        page = _import_page()
        page.serve(page.make_app(load_networks(args)), args.host, args.port)
    return 0


def load_networks(args: argparse.Namespace) -> list[ServedNetwork]:
    """Returns the network of the options, and the bundled one.

    Raises:
        ValueError: If the network, its layer or the device is not as the options say.
    """
    name = args.model or SCENE_NET
    if name == SCENE_NET and args.weights != "DEFAULT":
        raise ValueError(
            f"weights must be of a network that --model names, got {args.weights!r} "
            f"for {SCENE_NET}, which has its own. Pass --model, or omit them."
        )
    device = choose_device(args.device)
    given = serve_network(
        name,
        device,
        args.score,
        weights=args.weights,
        layer=args.layer,
        **network_options(args),
    )
    return [given] if name == SCENE_NET else [given, serve_network(SCENE_NET, device)]


def _import_page() -> Any:
    try:
        importlib.import_module("gradio")
    except ImportError as error:
        raise ValueError(
            f"gradio must be installed for the app ({error}). Install it: "
            "pip install 'captum_iscam[app]'."
        ) from error
    return importlib.import_module("captum_iscam.cli.app.page")
