"""The options of every method as fuzzing draws them, with their flaws."""

import hypothesis.strategies as st
import torch
from promises.fuzzing.situations import WRONG, baselines, now_and_then
from reference.score_methods import RULES

from captum_iscam import (
    RISE,
    LayerAblationCAM,
    LayerCAM,
    LayerGradCAMPlusPlus,
    LayerHiResCAM,
    LayerIntegratedGradCAM,
    LayerIntegratedScoreCAM,
    LayerPolyCAM,
    LayerReciproCAM,
    LayerScoreCAM,
    LayerSmoothedScoreCAM,
    LayerSmoothGradCAMPlusPlus,
    LayerXGradCAM,
)

METHODS = {
    "Score-CAM": LayerScoreCAM,
    "IS-CAM": LayerIntegratedScoreCAM,
    "SS-CAM": LayerSmoothedScoreCAM,
    "Poly-CAM": LayerPolyCAM,
    "Integrated Grad-CAM": LayerIntegratedGradCAM,
    "Grad-CAM++": LayerGradCAMPlusPlus,
    "Smooth Grad-CAM++": LayerSmoothGradCAMPlusPlus,
    "LayerCAM": LayerCAM,
    "HiResCAM": LayerHiResCAM,
    "XGrad-CAM": LayerXGradCAM,
    "Ablation-CAM": LayerAblationCAM,
    "Recipro-CAM": LayerReciproCAM,
    "RISE": RISE,
}
SCORE_METHODS = ("Score-CAM", "IS-CAM", "SS-CAM", "Poly-CAM")
LAYER_MASKS = ("Ablation-CAM", "Recipro-CAM")
OF_ONE_PASS = ("LayerCAM", "HiResCAM", "XGrad-CAM")
GRADIENT_METHODS = (*OF_ONE_PASS, *(name for name in METHODS if "Grad-CAM" in name))
SEED = 11
SINGLE_STEPS = (
    "accumulated",
    "gausslegendre",
    "gaussradau",
    "riemann_right",
    "riemann_middle",
)


def one_of(draw, name, fine, wrong):
    """An argument, omitted at times, now and then a wrong one, and its flaws."""
    if now_and_then(draw, WRONG):
        return {name: draw(st.sampled_from(wrong))}, {name}
    if draw(st.booleans()):
        return {}, set()
    return {name: draw(st.sampled_from(fine))}, set()


def several(draw, *choices):
    """The arguments of several `one_of`."""
    own, flaws = {}, set()
    for name, fine, wrong in choices:
        argument, wrongs = one_of(draw, name, fine, wrong)
        own |= argument
        flaws |= wrongs
    return own, flaws


OWN_RULES = ("accumulated", "gaussradau", "recurrence")
RELU = ("relu_attributions", [True, False], [])


def relu(draw):
    return draw(st.sampled_from([{}, {"relu_attributions": False}]))


def score_options(draw, situation):
    """What all score methods take besides."""
    own, flaws = several(
        draw, ("screening", [1.0, 1.0, 0.5, 0.01], [0, -0.5, 1.5, "all", True])
    )
    given, wrong = draw(baselines(situation.image, situation.vector))
    own |= given | relu(draw)
    if now_and_then(draw):
        own["channel_softmax"] = True
    if now_and_then(draw):
        own["return_convergence_delta"] = True
        flaws |= {"return_convergence_delta"} & {
            "return_convergence_delta" if "channel_softmax" in own else ""
        }
    return own, flaws | wrong


def path_options(draw, extra=()):
    rules = [rule for rule in RULES if rule not in OWN_RULES]
    own, flaws = several(
        draw,
        ("n_steps", [1, 2, 3, 5], [0, -1, 2.0, "3"]),
        ("method", [*rules, *extra], ["simpson", 3]),
    )
    single = own.get("n_steps", 2) == 1
    if single and own.get("method", "gausslegendre") not in SINGLE_STEPS:
        flaws.add("n_steps")
    return own, flaws


def integrated_score_cam(draw, situation):
    own, flaws = score_options(draw, situation)
    rule, wrong = path_options(draw, OWN_RULES)
    outside = rule.get("method") in ("recurrence", "accumulated")
    if outside and "return_convergence_delta" in own:
        flaws.add("return_convergence_delta")
    return own | rule, flaws | wrong


def poly_cam(draw, situation):
    own, flaws = score_options(draw, situation)
    own = {k: own[k] for k in own.keys() & {"baselines", "screening", RELU[0]}}
    fine = ["insertion", "insertion", "deletion", "both"]
    kind, wrong = one_of(draw, "variant", fine, ["all", 3])
    return own | kind, (flaws - {"return_convergence_delta"}) | wrong


NOISE = [0, 0.2, 3.0, (0.2,)]
WRONG_NOISE = [[0.2], float("inf"), -1.0, float("nan"), (None,), (0.1, 0.2, 0.3), (-1,)]


def smoothed_score_cam(draw, situation):
    own, flaws = score_options(draw, situation)
    noise, wrong = several(
        draw,
        ("stdevs", [None, *NOISE], WRONG_NOISE),
        ("noise", ["input", "mask"], ["output", 3]),
    )
    if noise.get("noise") == "mask" and noise.get("stdevs") is None:
        if now_and_then(draw, 4):
            wrong.add("stdevs")
        else:
            noise["stdevs"] = 0.2
    count, further = number_of(draw, "n_samples", [1, 2, 3, 5, 11])
    return own | noise | count, flaws | wrong | further


def number_of(draw, name, fine):
    """A count that is always given, since the default is a large one."""
    if now_and_then(draw, WRONG):
        return {name: draw(st.sampled_from([0, -2, 2.0, "3", True]))}, {name}
    return {name: draw(st.sampled_from(fine))}, set()


def integrated_grad_cam(draw, situation):
    own, flaws = path_options(draw)
    given, wrong = draw(baselines(situation.image, situation.vector))
    return {"n_steps": 4} | own | given | relu(draw), flaws | wrong


DENOMINATOR = ("denominator", ["activations", "products"], ["sum", 3])


def grad_cam_plus_plus(draw, situation):
    own, flaws = several(draw, DENOMINATOR)
    return own | relu(draw), flaws


def smooth_grad_cam_plus_plus(draw, situation):
    fine = [stdevs for stdevs in NOISE if not isinstance(stdevs, tuple)]
    own, flaws = several(
        draw, DENOMINATOR, ("stdevs", fine, [None, *WRONG_NOISE, (0.1, 0.2, 0.3)])
    )
    count, wrong = number_of(draw, "n_samples", [1, 2, 3, 5])
    return own | relu(draw) | count, flaws | wrong


def rise(draw, situation):
    spatial = situation.image.dim() - 2
    own, flaws = several(
        draw,
        ("grid", [1, 2, 7, (3,) * spatial], [0, 2.5, (2,) * (spatial + 1), "7", True]),
        ("keep_probability", [0.1, 0.5, 1, 1.0], [0, -0.5, 1.5, "half"]),
    )
    given, wrong = draw(baselines(situation.image, situation.vector))
    count, further = number_of(draw, "n_masks", [1, 2, 5])
    return own | given | count, flaws | wrong | further


def ablation_cam(draw, situation):
    own, flaws = several(draw, ("fill", ["zero"], ["mean", None]))
    if not flaws and now_and_then(draw):
        own = {"fill": "below_minimum"}
    return own | relu(draw), flaws


def recipro_cam(draw, situation):
    own, flaws = several(
        draw,
        ("window", ["gaussian", "single", "spread"], ["square", 3]),
    )
    # A scaled map has no reference: it may be one of equal scores.
    own["normalize"] = draw(st.sampled_from([False, False, False, True]))
    return own | relu(draw), flaws


def generators(draw):
    """The argument `generator`, now and then none at all, and its flaws."""
    if now_and_then(draw, WRONG):
        return {"generator": draw(st.sampled_from([3, "seed"]))}, {"generator"}
    return {"generator": torch.Generator().manual_seed(SEED)}, set()


OPTIONS = {
    "Score-CAM": score_options,
    "IS-CAM": integrated_score_cam,
    "SS-CAM": smoothed_score_cam,
    "Poly-CAM": poly_cam,
    "Integrated Grad-CAM": integrated_grad_cam,
    "Grad-CAM++": grad_cam_plus_plus,
    "Smooth Grad-CAM++": smooth_grad_cam_plus_plus,
    **dict.fromkeys(OF_ONE_PASS, lambda draw, situation: (relu(draw), set())),
    "Ablation-CAM": ablation_cam,
    "Recipro-CAM": recipro_cam,
    "RISE": rise,
}
NOISY = ("SS-CAM", "Smooth Grad-CAM++", "RISE")


def flaws_of_both(name, situation, own):
    """Returns the flaws that only method and situation together have."""
    s, flaws = situation, set()
    if s.score == "softmax" and s.net.form in ("one", "flat"):
        flaws.add("score")
    if s.dtype == torch.float16:
        flaws.add("forward_func")
    if s.dtype.itemsize == 2 and "return_convergence_delta" in own:
        flaws.add("return_convergence_delta")
    if name == "RISE":
        # Masks are laid on all inputs alike, so a vector has no place among them.
        return flaws | ({"inputs"} if s.vector is not None else set())
    if name in (*SCORE_METHODS, *LAYER_MASKS) and s.image.numel():
        maps = s.net.after(s.depth, s.image)
        if maps.shape[2:].numel() < 2:
            flaws.add("layer")
    if isinstance(own.get("stdevs"), tuple) and len(own["stdevs"]) == 1:
        masked = 1 if name == "SS-CAM" or s.vector is None else 2
        flaws |= {"stdevs"} if masked != 1 else set()
    return flaws


def flaws_of_several_layers(s, own):
    """Maps of layers that are multiplied differ in size, and are never negative."""
    sizes = [s.net.after(depth, s.image).shape[2:] for depth in (2, 3)]
    flaws = {"layer"} if len({*sizes}) == 1 else set()
    return flaws if own.get(RELU[0], True) else flaws | {RELU[0]}


@st.composite
def methods_and_options(draw, name, situation):
    """The options of a method for a situation, and all flaws there are."""
    own, flaws = OPTIONS[name](draw, situation)
    if name in NOISY:
        source, wrong = generators(draw)
        own |= source
        flaws |= wrong
    flaws |= situation.flaws | flaws_of_both(name, situation, own)
    if name == "Poly-CAM" and isinstance(situation.layer, list) and situation.layer:
        flaws |= flaws_of_several_layers(situation, own)
    if name == "RISE":
        flaws -= {"layer", "reshape_transform"}
    return own, flaws
