"""The maps as a part of a page: colours over the image, whose opacity CSS sets."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from html import escape

from PIL import Image

from captum_iscam.cli.app.served import Result
from captum_iscam.cli.record import Explanation
from captum_iscam.methods import METHODS
from captum_iscam.visualization.heat import ALPHA, Style, as_bytes, rgba
from captum_iscam.visualization.overlay import drawn
from captum_iscam.visualization.rows import Row

CSS = f"""
.iscam-maps {{ display: grid; gap: 16px;
  grid-template-columns: repeat(auto-fill, minmax(min(220px, 100%), 1fr)); }}
.iscam-maps figure {{ margin: 0; min-width: 0; }}
.iscam-maps .pixels {{ position: relative; overflow: hidden; border-radius: 6px; }}
.iscam-maps .pixels img {{ display: block; width: 100%; height: auto; }}
.iscam-maps .pixels img + img {{ position: absolute; inset: 0; height: 100%;
  opacity: var(--iscam-opacity, {ALPHA}); }}
.iscam-maps figcaption {{ padding-top: 6px; overflow-wrap: anywhere;
  font-size: .875rem; line-height: 1.4; }}
.iscam-maps b {{ display: block; }}
.iscam-error {{ margin: 0; padding: 10px 14px; border-radius: 6px;
  overflow-wrap: anywhere; color: var(--error-text-color);
  border: 1px solid var(--error-border-color);
  background: var(--error-background-fill); }}
"""

SET_OPACITY = (
    "v => {document.documentElement.style.setProperty('--iscam-opacity', v); return []}"
)
"""JavaScript that sets the opacity of all maps."""


def cards(result: Result) -> str:
    """Returns HTML: the image as the network sees it, then each map over it."""
    image = _img(result.image, "The image as the network sees it")
    score = result.target.value(result.served.score)
    first = _card(image, result.target.class_name, f"{score} · layer {result.layer}")
    maps = (_map_card(result, image, e) for e in result.explanations)
    return f'<div class="iscam-maps">{first}{"".join(maps)}</div>'


def error_line(error: Exception) -> str:
    """Returns HTML that says in one line what is wrong."""
    said = " ".join(str(error).split()) or type(error).__name__
    return f'<p class="iscam-error" role="alert">{escape(said)}</p>'


def _map_card(result: Result, image: str, explanation: Explanation) -> str:
    title = METHODS[explanation.method].title
    row = Row("", result.image, {title: explanation.attributions})
    # Opaque where the map is largest; the page's opacity is a factor.
    _, heat = drawn(row, Style(alpha_overlay=1.0), None, None)
    pixels = Image.fromarray(as_bytes(rgba(heat)))
    colours = _img(pixels, f"{title} map of {result.target.class_name}")
    facts = " · ".join(_facts(explanation))
    return _card(image + colours, title, facts, *explanation.warnings)


def _facts(explanation: Explanation) -> Iterator[str]:
    passes = explanation.forward_passes
    yield f"{passes} pass{'es' * (passes != 1)}"
    yield f"{explanation.seconds:.2f} s"
    if explanation.error:
        yield explanation.error


def _card(pixels: str, title: str, *lines: str) -> str:
    said = "<br>".join(escape(line) for line in lines)
    return (
        f'<figure><div class="pixels">{pixels}</div>'
        f"<figcaption><b>{escape(title)}</b>{said}</figcaption></figure>"
    )


def _img(image: Image.Image, said: str) -> str:
    """Returns an image element with the pixels in it."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    data = base64.b64encode(stream.getvalue()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{escape(said)}">'
