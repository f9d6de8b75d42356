"""A small network and images whose right explanation is known.

Scenes are drawn with the mask of every object; the bundled network was trained on such
scenes by ``python tools/train_scene_net.py``. A map for a class should lie on that
class's object, and here anyone can check whether it does.
"""

from captum_iscam.demo.network import load_network, preprocess
from captum_iscam.demo.pictures import load_scenes
from captum_iscam.demo.scenes import CLASSES, Scene, draw_scene, draw_scenes

__all__ = [
    "CLASSES",
    "Scene",
    "draw_scene",
    "draw_scenes",
    "load_network",
    "load_scenes",
    "preprocess",
]
