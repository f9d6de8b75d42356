"""Runs the tutorials and stores each with what it shows.

    python tools/run_tutorials.py [NOTEBOOK ...]

`jupyter nbconvert --execute --inplace` does the same, but the pictures of photographs
are several times as large. Here they get 100 dots per inch and become JPEG, and plots
get 256 colours. torchvision's weights are in its usual folder, below TORCH_HOME.
Needs ipywidgets: without it Captum's progress bars warn in every notebook.
"""

import argparse
import base64
import io
import tempfile
from pathlib import Path

import nbclient
import nbformat
from PIL import Image

TUTORIALS = Path(__file__).parents[1] / "tutorials"
SIZE = "--InlineBackend.print_figure_kwargs={'dpi': 100}"


def encoded(picture, form, **options):
    """Returns a picture in base64, as notebooks hold it."""
    stream = io.BytesIO()
    picture.save(stream, form, optimize=True, **options)
    return base64.b64encode(stream.getvalue()).decode() + "\n"


def shrink(data):
    """Replaces a picture by the smaller of a JPEG and a PNG of 256 colours."""
    png = data.pop("image/png")
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    forms = {
        "image/jpeg": encoded(picture, "jpeg", quality=75),
        "image/png": encoded(picture.quantize(256), "png"),
    }
    smaller = min(forms, key=lambda form: len(forms[form]))
    data[smaller] = forms[smaller]


def run(path):
    """Runs a notebook in an empty folder and stores it."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = nbclient.NotebookClient(
            notebook,
            timeout=900,
            record_timing=False,
            coalesce_streams=True,
            extra_arguments=[SIZE],
            resources={"metadata": {"path": folder}},
        )
        client.execute()
    notebook.metadata.language_info = {"name": "python"}
    for output in (out for cell in notebook.cells for out in cell.get("outputs", [])):
        if "image/png" in output.get("data", {}):
            shrink(output.data)
    nbformat.write(notebook, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK")
    for path in parser.parse_args().notebooks or sorted(TUTORIALS.glob("*.ipynb")):
        run(path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
