"""The notebooks run from top to bottom, without a network, and show their pictures."""

import re
from pathlib import Path

import pytest
import torch
from reference.real import FOLDER
from torchvision.models import get_model, get_model_weights

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
TUTORIALS = Path(__file__).parents[2] / "tutorials"
NOTEBOOKS = sorted(TUTORIALS.glob("*.ipynb"))
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def outputs(notebook):
    return [out for cell in notebook.cells for out in cell.get("outputs", [])]


def pictures(notebook):
    kinds = {"image/png", "image/jpeg"}
    return [out for out in outputs(notebook) if kinds & {*out.get("data", {})}]


@pytest.fixture(scope="module")
def torch_home(tmp_path_factory):
    """Where torchvision finds SqueezeNet 1.1: trained if possible, else at random."""
    home = tmp_path_factory.mktemp("torch")
    checkpoints = home / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    trained = FOLDER / "weights" / "squeezenet1_1.pt"
    if trained.is_file():
        state = torch.load(trained, weights_only=True)
    else:
        state = get_model("squeezenet1_1").state_dict()
    address = get_model_weights("squeezenet1_1").DEFAULT.url
    state = {name: values.float() for name, values in state.items()}
    torch.save(state, checkpoints / Path(address).name)
    return home


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@every_notebook
def test_a_notebook_runs(path, tmp_path, torch_home, monkeypatch):
    pytest.importorskip("skimage", reason="needs scikit-image for its photographs")
    monkeypatch.setenv("TORCH_HOME", str(torch_home))
    committed, notebook = read(path), read(path)

    nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()

    assert len(pictures(notebook)) == len(pictures(committed))


@every_notebook
def test_a_notebook_is_committed_with_what_it_shows(path):
    notebook = read(path)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]

    assert pictures(notebook)
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    # Warnings and errors, and the places of the machine it ran on.
    assert {out.get("name", "stdout") for out in outputs(notebook)} == {"stdout"}
    assert not re.search(r"/(home|root|tmp|Users)/", path.read_text())
    assert path.stat().st_size < 500_000


@every_notebook
def test_a_notebook_has_a_description_that_a_search_shows(path):
    assert 50 <= len(read(path).metadata.myst.html_meta.description) <= 160


@every_notebook
def test_one_variable_switches_to_another_network(path):
    code = [cell.source for cell in read(path).cells if cell.cell_type == "code"]

    assert any(re.search(r"^MODEL = ", c, re.MULTILINE) for c in code)


@every_notebook
def test_the_links_of_a_notebook_lead_somewhere(path):
    prose = [cell.source for cell in read(path).cells if cell.cell_type == "markdown"]
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", "\n".join(prose))

    missing = [
        link for link in links if "://" not in link and not (TUTORIALS / link).exists()
    ]

    assert missing == []


def test_every_notebook_is_named_in_the_readme():
    text = (TUTORIALS.parent / "README.md").read_text()

    assert len(NOTEBOOKS) >= 5
    assert [path.name for path in NOTEBOOKS if path.name not in text] == []
