"""The page itself, in Gradio: `make_app`, which a hub of models can run as well."""

from __future__ import annotations

import base64
import sys
import threading
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

import gradio as gr
import torch

from captum_iscam.benchmark.explained_models import SCENE_NET
from captum_iscam.cli.app.cards import CSS, SET_OPACITY, cards, error_line
from captum_iscam.cli.app.served import Result, ServedNetwork, explain, serve_network
from captum_iscam.cli.output import print_line
from captum_iscam.methods import METHODS, find_methods
from captum_iscam.visualization.heat import ALPHA

_FIRST = ["is-cam", "score-cam", "grad-cam"]
# Thousands of forward passes for each image.
_SLOW = ("ss-cam", "rise")
_HOUR = 3600
# What a file, a network or too little memory may raise.
_ERRORS = (ValueError, RuntimeError, MemoryError)

SETTINGS: dict[str, Any] = {
    "css": CSS,
    # The fonts of the system: none is fetched.
    "theme": gr.themes.Default(
        primary_hue="blue",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ),
    "max_file_size": "20mb",
    "share": False,
    "ssr_mode": False,
    "pwa": False,
    "quiet": True,
    "run_history": False,
    "footer_links": [],
}
"""Arguments of `launch` that the page needs."""

_SAVE = """file => {
    if (!file) return [];
    const bytes = Uint8Array.from(atob(file.data), c => c.charCodeAt(0));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([bytes]));
    link.download = file.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    return [];
}"""
"""JavaScript that saves a file that a handler returned: none is left on the server."""

_EMPTY = "<p>Drop an image or take an example, then press Explain.</p>"
_HELP = (
    "**passes**: images that the network was shown. **delta**: the error of the map, "
    "probably below this share of it. The opacity changes nothing but the drawing. "
    "The NPZ file has the maps as arrays, at the size of the layer."
)


def make_app(networks: Sequence[ServedNetwork] | None = None) -> gr.Blocks:
    """Returns the page; `launch(**SETTINGS)` serves it.

    Args:
        networks (Sequence[ServedNetwork], optional): The networks to choose from.
            Default: None, the bundled network alone
    """
    networks = networks or [serve_network(SCENE_NET, torch.device("cpu"))]
    page = gr.Blocks(
        title="captum_iscam", analytics_enabled=False, delete_cache=(_HOUR, _HOUR)
    )
    with page:
        _Page({served.explained.name: served for served in networks})
    page.queue(api_open=False, max_size=20)
    return page


def serve(page: gr.Blocks, host: str, port: int | None) -> None:
    """Serves the page until KeyboardInterrupt.

    Raises:
        ValueError: If the address or port cannot be taken.
    """
    try:
        _, url, _ = page.launch(
            server_name=host, server_port=port, prevent_thread_lock=True, **SETTINGS
        )
    except OSError as error:
        raise ValueError(
            f"host and port must be an address of this computer and a free port, got "
            f"{host} and {port or 'any'}. Choose others with --host and --port."
        ) from error
    try:
        print_line(f"{url} (Ctrl-C stops it)", sys.stdout)
        threading.Event().wait()
    finally:
        page.close(verbose=False)


class _Page:
    """The components of the page, and what happens at an event."""

    def __init__(self, networks: dict[str, ServedNetwork]) -> None:
        self._networks = networks
        gr.Markdown("# Which part of the image supports a class?")
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=280):
                self._add_inputs()
            with gr.Column(scale=2, min_width=280):
                self._add_outputs()
        self._connect()

    def _add_inputs(self) -> None:
        name, served = next(iter(self._networks.items()))
        self.image = gr.Image(
            label="Image",
            type="filepath",
            sources=["upload", "clipboard"],
            height=260,
            buttons=[],
        )
        self._add_examples()
        # Gradio's own would open the file before any limit is checked.
        self.image.preprocess = _path_of  # type: ignore[assignment, method-assign]
        self.network = gr.Dropdown(list(self._networks), value=name, label="Network")
        self.layer = gr.Dropdown(
            served.layers, value=served.explained.layer_name, label="Layer"
        )
        self.target = gr.Dropdown([], label="Class, the most probable first")
        self.methods = gr.CheckboxGroup(
            [(_title(name), name) for name in find_methods("all")],
            value=_FIRST,
            label="Methods",
        )

    def _add_examples(self) -> None:
        data = resources.files("captum_iscam.demo") / "data"
        scenes = [[str(data / f"scene_{n}.png")] for n in range(8)]
        gr.Examples(
            scenes,
            self.image,
            label="Scenes for the bundled network",
            api_visibility="private",
        )

    def _add_outputs(self) -> None:
        self.start = gr.Button("Explain", variant="primary")
        self.opacity = gr.Slider(
            0, 1, ALPHA, step=0.05, label="Opacity of the maps", buttons=[]
        )
        self.maps = gr.HTML(_EMPTY, min_height=140)
        with gr.Row():
            self.png = gr.Button("Download PNG")
            self.npz = gr.Button("Download NPZ")
        gr.Markdown(_HELP)
        self.file = gr.JSON(visible="hidden")
        self.result = gr.State(None, time_to_live=_HOUR)

    def _connect(self) -> None:
        chosen = [self.image, self.network]
        _on(self.network.change, self._show_layers, [self.network], [self.layer])
        for change in (self.network.change, self.image.change):
            _on(change, self._classify, chosen, [self.target, self.result, self.maps])
        _on(
            self.start.click,
            self._explain,
            [*chosen, self.layer, self.target, self.methods],
            [self.result, self.maps],
        )
        self.opacity.change(None, self.opacity, js=SET_OPACITY)
        for button, give in ((self.png, _png_of), (self.npz, _npz_of)):
            given, shown = [self.result, self.opacity], [self.file, self.maps]
            _on(button.click, give, given, shown).then(None, self.file, js=_SAVE)

    def _show_layers(self, network: str) -> Any:
        served = self._networks[network]
        return gr.Dropdown(served.layers, value=served.explained.layer_name)

    def _classify(self, image: str | None, network: str) -> tuple[Any, None, str]:
        """Returns the classes of an image, the most probable first, without maps."""
        if image is None:
            return gr.Dropdown([], value=None), None, _EMPTY
        try:
            served = self._networks[network]
            targets = served.classify(served.read(image))
        except _ERRORS as error:
            return gr.Dropdown([], value=None), None, error_line(error)
        choices = [(f"{t.class_name} ({t.probability:.3f})", t.index) for t in targets]
        return gr.Dropdown(choices, value=targets[0].index), None, _EMPTY

    def _explain(
        self,
        image: str | None,
        network: str,
        layer: str,
        index: int | None,
        methods: list[str],
        # Gradio shows the bars of tqdm where this is the default of an argument.
        progress: gr.Progress = gr.Progress(track_tqdm=True),  # noqa: B008
    ) -> tuple[Result | None, str]:
        """Returns the maps, as data and as HTML, or what went wrong."""
        try:
            if image is None:
                raise ValueError("image must be given. Drop one, or take an example.")
            if not methods:
                raise ValueError("methods must be at least one. Choose one.")
            result = explain(self._networks[network], image, layer, index, methods)
            return result, cards(result)
        except _ERRORS as error:
            return None, error_line(error)


def _on(
    event: Callable[..., Any],
    function: Callable[..., Any],
    inputs: list[Any],
    outputs: list[Any],
) -> Any:
    """Runs a function at an event, one at a time in the whole process."""
    return event(
        function,
        inputs,
        outputs,
        concurrency_id="network",
        concurrency_limit=1,
        api_visibility="private",
    )


def _path_of(uploaded: Any) -> str | None:
    return None if uploaded is None else uploaded.path


def _title(name: str) -> str:
    return METHODS[name].title + " (slow)" * (name in _SLOW)


def _png_of(result: Result | None, opacity: float) -> tuple[Any, Any]:
    return _saved(result, "png", lambda made: made.as_png(opacity))


def _npz_of(result: Result | None, _: float) -> tuple[Any, Any]:
    return _saved(result, "npz", Result.as_npz)


def _saved(
    result: Result | None, suffix: str, content: Callable[[Result], bytes]
) -> tuple[Any, Any]:
    """Returns a file's name and content for `_SAVE`, or what went wrong."""
    if result is None:
        return None, error_line(ValueError("There are no maps yet. Explain an image."))
    data = base64.b64encode(content(result)).decode()
    return {"name": f"{result.name}.{suffix}", "data": data}, gr.skip()
