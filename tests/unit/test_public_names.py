"""Public names of the first version can be imported from where they were."""

import ast
import pickle
import subprocess
import sys
from importlib import import_module

import pytest

import captum_iscam

NAMES = {
    "captum_iscam": "LayerGradCAMPlusPlus LayerIntegratedGradCAM LayerScoreCAM RISE "
    "LayerIntegratedScoreCAM LayerSmoothGradCAMPlusPlus LayerSmoothedScoreCAM "
    "LayerCAM LayerHiResCAM LayerPolyCAM LayerXGradCAM LayerAblationCAM "
    "LayerReciproCAM",
    "captum_iscam.attr": "LayerGradCAMPlusPlus LayerIntegratedGradCAM LayerScoreCAM "
    "LayerIntegratedScoreCAM LayerSmoothGradCAMPlusPlus LayerSmoothedScoreCAM RISE "
    "fuse LayerCAM LayerHiResCAM LayerPolyCAM LayerXGradCAM LayerAblationCAM "
    "LayerReciproCAM",
    "captum_iscam.demo": "CLASSES Scene draw_scene draw_scenes load_network "
    "load_scenes preprocess",
    "captum_iscam.layers": "check_spatial default_layer find_layer spatial_layers",
    "captum_iscam.methods": "METHODS Method Options find_methods",
    "captum_iscam.metrics": "CenterMap ChannelMean CurveMetric Curves Metric RandomMap "
    "Randomization adcc average_drop average_gain average_increase boxes_to_masks "
    "center_map channel_mean coherency complexity deletion energy_pointing_game "
    "infidelity insertion mask_iou parameter_randomization pointing_game "
    "quantus_explain_func random_map road road_least_relevant_first "
    "road_most_relevant_first sensitivity_max sparseness target_sensitivity "
    "top_k_intersection win_rate arcc attainable_deletion attainable_insertion "
    "irrelevant_object_share object_order single_deletion",
    "captum_iscam.networks": "Network load_classifier model_names sha256",
    "captum_iscam.reshape_transforms": "maxvit_grid maxvit_windows swin tokens vit",
    "captum_iscam.targets": "ModelScore contrast detection multi_label regression "
    "segmentation similar_classes similarity",
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


def mirrored():
    """The names that type checkers read in the package's own file, by module."""
    with open(captum_iscam.__file__) as file:
        tree = ast.parse(file.read())
    (branch,) = [node for node in tree.body if isinstance(node, ast.If)]
    return {alias.name: node.module for node in branch.body for alias in node.names}


def test_what_type_checkers_read_is_what_the_package_hands_out():
    classes = {n for n, module in mirrored().items() if module == "captum_iscam.attr"}
    modules = mirrored().keys() - classes

    assert {*classes, "__version__"} == set(captum_iscam.__all__)
    assert modules == set(captum_iscam._MODULES)
    for name in classes:
        found = getattr(captum_iscam, name)
        assert found is getattr(captum_iscam.attr, name)
        assert pickle.loads(pickle.dumps(found)) is found
    for name in modules:
        assert getattr(captum_iscam, name) is import_module(f"captum_iscam.{name}")


def test_names_are_listed_and_imported_when_asked_for():
    code = (
        "import sys, captum_iscam\n"
        "assert {*captum_iscam.__all__, 'attr', 'layers'} <= set(dir(captum_iscam))\n"
        "assert not hasattr(captum_iscam, 'nothing')\n"
        "assert 'torch' not in sys.modules\n"
        "from captum_iscam import *\n"
        "assert RISE is captum_iscam.RISE is captum_iscam.attr.RISE\n"
        "assert captum_iscam.layers.find_layer\n"
    )

    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_of_the_package_is_an_error():
    with pytest.raises(AttributeError, match="'captum_iscam' has no attribute 'no'"):
        _ = captum_iscam.no
    with pytest.raises(ImportError, match="cannot import name 'no'"):
        from captum_iscam import no  # noqa: F401 - it is the import that fails
