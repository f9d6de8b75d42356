"""Public names of the first version can be imported from where they were."""

import subprocess
import sys
from importlib import import_module

import pytest

NAMES = {
    "captum_iscam": "LayerGradCAMPlusPlus LayerIntegratedGradCAM LayerScoreCAM RISE "
    "LayerIntegratedScoreCAM LayerSmoothGradCAMPlusPlus LayerSmoothedScoreCAM",
    "captum_iscam.attr": "LayerGradCAMPlusPlus LayerIntegratedGradCAM LayerScoreCAM "
    "LayerIntegratedScoreCAM LayerSmoothGradCAMPlusPlus LayerSmoothedScoreCAM RISE "
    "fuse",
    "captum_iscam.demo": "CLASSES Scene draw_scene draw_scenes load_network "
    "load_scenes preprocess",
    "captum_iscam.layers": "check_spatial default_layer find_layer",
    "captum_iscam.methods": "METHODS Method Options find_methods",
    "captum_iscam.metrics": "CenterMap ChannelMean CurveMetric Curves Metric RandomMap "
    "Randomization adcc average_drop average_gain average_increase boxes_to_masks "
    "center_map channel_mean coherency complexity deletion energy_pointing_game "
    "infidelity insertion mask_iou parameter_randomization pointing_game "
    "quantus_explain_func random_map road road_least_relevant_first "
    "road_most_relevant_first sensitivity_max sparseness target_sensitivity "
    "top_k_intersection win_rate",
    "captum_iscam.networks": "Network load_classifier model_names sha256",
    "captum_iscam.reshape_transforms": "maxvit_grid maxvit_windows swin tokens vit",
    "captum_iscam.targets": "ModelScore detection multi_label regression segmentation "
    "similarity",
    "captum_iscam.transformers": "reshape_transform_for token_layer",
    "captum_iscam.visualization": "OnOriginal Row colours display_image on_original "
    "overlay upsample visualize visualize_rows",
    "captum_iscam.cli": "main",
}


@pytest.mark.parametrize("module", NAMES)
def test_a_public_name_is_where_it_was(module):
    found = import_module(module)

    assert [n for n in NAMES[module].split() if not hasattr(found, n)] == []


def test_the_controls_are_those_of_attr():
    from captum_iscam import attr, metrics

    assert metrics.RandomMap is attr.RandomMap
    assert metrics.center_map is attr.CenterMap
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = metrics.nothing


def test_metrics_import_the_controls_when_asked_for():
    # The package's own __init__ imports attr, so it is stood in for.
    code = (
        "import sys, types, captum_iscam as c\n"
        "path = c.__path__\n"
        "for name in [n for n in sys.modules if n.startswith('captum_iscam')]:\n"
        "    del sys.modules[name]\n"
        "stand_in = types.ModuleType('captum_iscam'); stand_in.__path__ = path\n"
        "sys.modules['captum_iscam'] = stand_in\n"
        "import captum_iscam.metrics as metrics\n"
        "assert 'captum_iscam.attr' not in sys.modules\n"
        "assert metrics.RandomMap.__name__ == 'RandomMap'\n"
        "assert 'captum_iscam.attr.controls' in sys.modules\n"
    )

    subprocess.run([sys.executable, "-c", code], check=True)
