"""Which method satisfies which axiom of attribution, and that others do not.

`experiments/quality/axioms.py` asks the axioms; `FAILS` is what the page says of them.
"""

import re
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from captum_iscam import LayerIntegratedScoreCAM, LayerScoreCAM
from captum_iscam.demo import load_network, load_scenes, preprocess
from captum_iscam.methods import METHODS
from experiments.quality import axioms, invariant_form
from experiments.quality.axioms import ASKED, AXIOMS, Case, Explainer
from experiments.speed.goals import rows_of

RESULTS = Path(__file__).parents[2] / "experiments" / "results"
UNITS = {"is-cam", "ss-cam", "score-cam", "poly-cam"}
PLUS_PLUS = {"grad-cam++", "smooth-grad-cam++"}
FAILS = {
    "channels rescaled": {*UNITS, "ablation-cam"},
    "channels permuted": set(),
    "channels split": {"score-cam normalised", "ablation-cam", *PLUS_PLUS},
    "dummy channels": {*UNITS, "score-cam normalised"},
    "unseen region": set(ASKED) - {"integrated-gradients"},
    "constant model": {"rise"},
    "linear": {"ablation-cam", "finer-cam", "poly-cam", "layer-cam", *PLUS_PLUS},
    "symmetric": {"ss-cam", "smooth-grad-cam++", "rise"},
}
COMPLETE_IN_LAYER = {"grad-cam", "hires-cam", "xgrad-cam"}

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@cache
def explained(name):
    """A small network that is linear neither before nor after its layer."""
    torch.manual_seed(5)
    front = nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)),
        *(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU()),
    )
    # What the model does not see still makes its channels active.
    for convolution in (front[0], front[3]):
        nn.init.constant_(convolution.bias, 0.2)
    head = nn.Sequential(
        *(nn.Conv2d(6, 5, 1), nn.Tanh()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4)),
    )
    inputs = torch.randn(1, 2, 16, 16)
    case = Case("small", "noise", front.double(), head.double(), inputs.double(), 2, 0)
    return Explainer(ASKED[name], case)


@cache
def on_a_scene(name):
    """The bundled network, whose head is linear in the means of the channels."""
    model, scene = load_network().double(), load_scenes()[6]
    head = nn.Sequential(model.pool, nn.Flatten(), model.head)
    inputs = preprocess(scene.image.double())
    case = Case("scene-net", "6", model.features, head, inputs, scene.labels[0], 0)
    return Explainer(ASKED[name], case)


@pytest.mark.parametrize("axiom", FAILS)
@pytest.mark.parametrize("name", ASKED)
def test_an_axiom_holds_exactly_where_the_page_says_so(name, axiom):
    violation = AXIOMS[axiom](explained(name))

    if name in FAILS[axiom]:
        assert violation > 1e-5
    else:
        # Captum's Occlusion sums in single precision.
        assert violation < (1e-6 if name == "occlusion" else 1e-10)


@pytest.mark.parametrize("name", sorted(COMPLETE_IN_LAYER))
def test_gradients_are_complete_from_layer_0_where_the_head_is_linear(name):
    explain = on_a_scene(name)

    assert axioms.complete_in_layer(explain) < 1e-10
    # The layer is not 0 for the input 0.
    assert axioms.complete(explain) > 1e-3
    # The head of the small network is not linear.
    assert axioms.complete_in_layer(explained(name)) > 1e-2


@pytest.mark.parametrize("name", sorted(set(ASKED) - {"integrated-gradients"}))
def test_no_other_method_is_complete(name):
    assert axioms.complete(explained(name)) > 1e-2


def test_integrated_gradients_become_complete_with_the_steps():
    gaps = []
    for steps in (5, 50, 500):
        method = METHODS["integrated-gradients"]
        fixed = {**method.fixed, "n_steps": steps}
        method = axioms.replace(method, fixed=fixed)
        case = explained("integrated-gradients").case
        gaps.append(axioms.complete(Explainer(axioms.raw_form(method), case)))

    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 1e-3


class Corners(nn.Module):
    """Channel 1 is the upper left pixel, times a unit, channel 2 the lower right one.

    The score is the sum of both pixels, whatever the unit. A dummy is a further channel
    like the second one, which the score ignores.
    """

    def __init__(self, unit=1.0, dummy=False):
        super().__init__()
        self.layer, self.unit, self.dummy = nn.Identity(), unit, dummy
        self.eval()

    def forward(self, x):
        left = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
        right = left.flip(0, 1)
        more = [x * right] if self.dummy else []
        a = self.layer(torch.cat([x * left * self.unit, x * right, *more], 1))
        return a[:, 0].sum((1, 2)) / self.unit + a[:, 1].sum((1, 2))


# The masks show one pixel each, so the weights are 4 and 2; the channels are 4 and 2.
@pytest.mark.parametrize(
    ("model", "left", "right"),
    [
        (Corners(), 16.0, 4.0),
        (Corners(unit=0.25), 4.0, 4.0),  # not larger than the other one any more
        (Corners(dummy=True), 16.0, 8.0),
    ],
)
@pytest.mark.parametrize(
    ("method", "share"), [(LayerScoreCAM, 1.0), (LayerIntegratedScoreCAM, 0.5)]
)
def test_score_cam_depends_on_units_and_dummies_by_hand(
    model, left, right, method, share
):
    x = torch.tensor([[[[4.0, 0.0], [0.0, 2.0]]]])

    found = method(model, model.layer, score="identity").attribute(x)

    # The score of x is 6, which none of these maps adds up to.
    expected = share * torch.tensor([[[[left, 0.0], [0.0, right]]]])
    torch.testing.assert_close(found, expected)


def test_the_first_of_both_forms_is_score_cam():
    case = explained("score-cam").case
    model = nn.Sequential(case.front, case.head)

    both = axioms.BothForms(model, case.front).attribute(case.inputs, case.target)

    assert torch.equal(both[:, :1], explained("score-cam").map)
    assert not torch.equal(both[:, 1:], both[:, :1])


def test_the_page_has_the_rows_that_were_measured():
    rows = [
        axioms.Row(**{**row, "violation": _number(row["violation"])})
        for row in rows_of(RESULTS / "axioms.csv.gz")
    ]

    assert axioms.table(rows) == (RESULTS / "axioms.md").read_text()


def _number(cell):
    return None if cell == "" else float(cell)


def test_the_page_has_the_differences_that_were_measured():
    rows = rows_of(RESULTS / "invariant_form.csv.gz")

    table = invariant_form.table([invariant_form.Row(**row) for row in rows])

    assert table == (RESULTS / "invariant_form.md").read_text()


def test_on_real_networks_holds_what_holds_by_construction():
    text = (RESULTS / "axioms.md").read_text()
    # IS-CAM predicts weights on layers of 128 channels, from others if they are split.
    predicted = {("is-cam", "channels split"), ("is-cam", "symmetric")}
    for block in text.split("### ")[1:]:
        table = [line for line in block.splitlines() if line.startswith("|")]
        heading, _, *lines = (re.split(r" *\| *", line)[1:-1] for line in table)
        for (name, method), line in zip(ASKED.items(), lines, strict=True):
            found = dict(zip(heading, line, strict=True))
            assert found["method"] == method.title
            for axiom, fails in FAILS.items():
                if name not in fails and (name, axiom) not in predicted:
                    assert found[axiom] == "holds", (name, axiom)
