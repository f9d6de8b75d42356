"""Makes the pictures of docs/gallery.md, small enough for a page of many.

    python docs/images/gallery.py [--weights FILE] [--only NAME,...]

A picture's name is that of its function. Networks and data come from the tutorial and
the guides, whose code runs here. Needs scikit-image, MONAI, and for pages of the
browser gradio, playwright and chromium. Without `--weights` torchvision downloads its
own weights of SqueezeNet 1.1. All take a few minutes on one core.
"""

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import make
import matplotlib as mpl
import skimage.data
import torch
from matplotlib.figure import Figure
from PIL import Image
from playwright.sync_api import sync_playwright
from torchvision.ops import roi_align

from captum_iscam.networks import load_classifier
from captum_iscam.targets import detection
from captum_iscam.visualization import overlay, upsample

ROOT = Path(__file__).parents[2]
SIZE = (640, 480)
LARGEST = 80_000  # bytes
KNOWN = "Compare: a case where the right answer is known"


def panels(rows):
    """A picture of rows of panels, each a title and an array of pixels."""
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.05, wspace=0, hspace=0)
    axes = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        for panel, (title, pixels) in zip(line, row, strict=True):
            panel.imshow(pixels)
            panel.set_title(title, fontsize=14, pad=5)
            panel.axis("off")
    return as_image(figure)


def as_image(figure):
    stream = io.BytesIO()
    figure.savefig(stream, dpi=100)
    return Image.open(stream)


def run(code):
    """Runs code of the documentation and returns its names."""
    mpl.use("Agg")
    names = {"__name__": "example"}
    exec(code, names)
    return names


def of_tutorial(*headings):
    """The names of a tutorial's imports and of the sections with these headings."""
    file = ROOT / "tutorials" / "04_your_own_network.ipynb"
    chosen, code = False, []
    for cell in json.loads(file.read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            found = re.search(r"^## (.+)$", source, re.MULTILINE)
            chosen = found[1] in headings if found else chosen
        elif chosen or "from captum_iscam import" in source:
            code.append(source.replace("%matplotlib inline", ""))
    return run("\n".join(code))


def of_page(name, end, start=""):
    """The names of a page's blocks between the texts `start` and `end`."""
    text = (ROOT / "docs" / name).read_text()
    text = text[text.index(start) : text.index(end)]
    return run("\n".join(re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)))


def methods(weights):
    network = load_classifier("squeezenet1_1", weights)
    title, inputs, target = next(make.photographs_and_targets(network))
    layer, image = network.model.features, make.as_picture(inputs, network)
    maps = make.by_name(
        network.model, layer, inputs, target, make.Options(n_samples=2, stdevs=0.1)
    )
    shown = [(name, overlay(image, values)) for name, values in maps.items()]
    shown.insert(0, (title, image.permute(1, 2, 0)))
    return panels([shown[:3], shown[3:]])


def classes(weights):
    network = load_classifier("squeezenet1_1", weights)
    both = make.photographs_and_targets(network)
    _, images, targets = zip(*both, strict=True)
    inputs = torch.cat(images, dim=2)  # one above the other
    explain = make.LayerIntegratedScoreCAM(network.model, network.model.features)
    maps = explain.attribute(inputs, target=[list(targets)])
    image = make.as_picture(inputs, network)
    shown = [("input", image.permute(1, 2, 0))]
    for i, target in enumerate(targets):
        shown.append((network.classes[target], overlay(image, maps[:, i : i + 1])))
    return panels([shown])


def transformer(_):
    names = of_tutorial("A transformer")
    images = ((names["images"][:3] + 0.5) / 2).clamp(0, 1)
    maps = names["attributions"]
    drawn = [overlay(image, maps[i : i + 1]) for i, image in enumerate(images)]
    inputs = [image.permute(1, 2, 0) for image in images]
    colours = [("red", "green", "blue")[colour] for colour in names["colours"][:3]]
    squares = [f"{colour} square" for colour in colours]
    return panels(
        [list(zip(squares, inputs, strict=True)), [("IS-CAM", d) for d in drawn]]
    )


class BoxScorer(torch.nn.Module):
    """Scores given boxes by the classes that a segmentation network finds in them."""

    def __init__(self, segmenter, boxes):
        super().__init__()
        self.segmenter, self.boxes = segmenter, boxes

    def forward(self, images):
        boxes = [self.boxes] * len(images)
        scores = roi_align(self.segmenter(images), boxes, 1).flatten(1).softmax(1)
        return boxes, scores.chunk(len(images))


def boxes_around(masks):
    """The smallest box `x0, y0, x1, y1` around each of the masks."""
    found = []
    for mask in masks:
        y, x = torch.where(mask)
        found.append([x.min(), y.min(), x.max() + 1, y.max() + 1])
    return torch.tensor(found, dtype=torch.float32)


def detector(_):
    names = of_tutorial(KNOWN, "Segmentation")
    scene, inputs = names["scene"], names["inputs"]
    boxes = boxes_around(scene.masks)
    guide = of_page("guides.md", "Then, given your", "## A detector's boxes")
    model = guide["WithDictionaries"](BoxScorer(names["segmenter"], boxes)).eval()
    rows = [[], []]
    for box, label in zip(boxes, scene.labels, strict=True):
        score = detection(model, inputs, box, label)
        explain = make.LayerIntegratedScoreCAM(
            score, names["model"].features, score="identity"
        )
        frame = tuple(box.tolist())
        nothing = torch.zeros(1, 1, 2, 2)
        title = f"box of the {make.CLASSES[label]}"
        rows[0].append((title, overlay(scene.image, nothing, frame=frame)))
        maps = explain.attribute(inputs)
        rows[1].append(("IS-CAM", overlay(scene.image, maps, frame=frame)))
    return panels(rows)


def segmentation(_):
    names = of_tutorial(KNOWN, "Segmentation")
    image, labels = names["scene"].image, names["predicted"]
    rows = [[("input", image.permute(1, 2, 0))], [("predicted regions", labels[0])]]
    for row, label in zip(rows, names["targets"], strict=False):
        kind = names["classes"][label]
        region = (labels == label)[None].float()
        row.append((f"region of the {kind}", overlay(image, region)))
        title = f"why {kind} there"
        row.append((title, overlay(image, names["maps"][title])))
    return panels(rows)


def signal(_):
    names = of_tutorial("A signal")
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    for i, panel in enumerate(figure.subplots(2, 1, sharex=True)):
        values = upsample(names["found"][:, i : i + 1], names["signal"])[0, 0]
        panel.plot(names["signal"][0, 0], linewidth=0.8, color="black")
        panel.plot(values / values.max(), linewidth=2.5, label="IS-CAM")
        panel.set_title(("high tone", "low tone")[i], fontsize=15)
        panel.tick_params(labelsize=12)
    panel.legend(loc="upper left", fontsize=13)
    return as_image(figure)


def volume(_):
    names = of_page("medical.md", "`visualize` draws one slice")
    scan, maps = names["scan"], names["attributions"]
    rows = []
    for depth in (10, 15, 20):
        grey = 0.4 * scan[0, :, depth] + 0.5
        shown = [
            (f"slice {depth}", grey.clamp(0, 1).expand(3, -1, -1).permute(1, 2, 0))
        ]
        for i, finding in enumerate(("bright", "dark")):
            values = upsample(maps[:, i : i + 1], scan)
            pixels = overlay(
                scan[0, :, depth],
                values[0, :, depth],
                mean=[0.5],
                std=[0.4],
                vmax=float(values.max()),
            )
            shown.append((f"IS-CAM, {finding}", pixels))
        rows.append(shown)
    return panels(rows)


@contextlib.contextmanager
def browser_page(place, width=960):
    """A page in chromium, of the shape of a tile."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--headless", "--disable-gpu"],
        )
        view = {"width": width, "height": width * SIZE[1] // SIZE[0]}
        page = chromium.new_page(viewport=view)
        page.goto(place.as_uri() if isinstance(place, Path) else place)
        yield page
        chromium.close()


def screenshot(page):
    page.wait_for_timeout(1000)  # pictures are decoded after they are loaded
    taken = Image.open(io.BytesIO(page.screenshot()))
    return taken.convert("RGB").resize(SIZE, Image.Resampling.LANCZOS)


def command(folder, *words):
    """Runs `captum-iscam` in a folder."""
    words = [sys.executable, "-m", "captum_iscam", *words]
    subprocess.run(words, cwd=folder, stdout=subprocess.DEVNULL, check=True)


def report(_):
    with tempfile.TemporaryDirectory() as folder:
        command(
            *(folder, "benchmark", "--method", "is-cam,score-cam,grad-cam,controls"),
            *("--metric", "average_drop,insertion,deletion,pointing_game"),
            *("--out", "benchmark"),
        )
        with browser_page(Path(folder) / "benchmark" / "report.html") as page:
            page.wait_for_selector(".card")
            return screenshot(page)


def explained(weights):
    if weights != "DEFAULT":
        weights = Path(weights).resolve()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("chelsea", "coffee"):
            photograph = Image.fromarray(getattr(skimage.data, name)())
            photograph.save(Path(folder) / f"{name}.png")
        command(
            *(folder, "explain", ".", "--model", "squeezenet1_1", "--target", "top2"),
            *("--weights", weights, "--out", "explained"),
        )
        with browser_page(Path(folder) / "explained" / "index.html") as page:
            page.wait_for_selector(".card img")
            return screenshot(page)


def app(_):
    words = [sys.executable, "-m", "captum_iscam", "app"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as served:
        try:
            with browser_page(served.stdout.readline().split()[0], 1300) as page:
                page.set_default_timeout(120_000)
                scene = ROOT / "captum_iscam" / "demo" / "data" / "scene_0.png"
                page.locator("input[type=file]").set_input_files(scene)
                page.wait_for_timeout(3000)  # until the classes are known
                page.get_by_role("button", name="Explain").click()
                page.wait_for_selector(".iscam-maps figure:nth-child(4) img")
                return screenshot(page)
        finally:
            served.terminate()


TILES = (
    *(methods, classes, transformer, detector, segmentation, signal, volume),
    *(report, app, explained),
)


def save(name, picture):
    """Writes a picture as large and with as many colours as the limit allows."""
    for width, colours in ((640, 256), (640, 128), (480, 256), (480, 128), (480, 64)):
        size = (width, width * SIZE[1] // SIZE[0])
        small = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        few = small.quantize(colours, kmeans=3, dither=Image.Dither.NONE)
        few.save(stream, "png", optimize=True)
        if stream.tell() < LARGEST:
            break
    (make.HERE / "gallery" / f"{name}.png").write_bytes(stream.getvalue())


if __name__ == "__main__":
    make.draw(__doc__, {tile.__name__: tile for tile in TILES}, save)
