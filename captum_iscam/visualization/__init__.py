"""Layer maps as pictures, scaled by Captum's `visualize_image_attr`.

Captum's function wants a map as large as the image, channels last, that is nowhere NaN
and somewhere not zero. Maps of a layer are small, channels first, and rectified ones
can be zero everywhere. The functions here convert them. Captum scales every map; the
colours, the opacity and the layout around it are ours.
"""

from captum_iscam.visualization.arrays import display_image, upsample
from captum_iscam.visualization.figure import visualize, visualize_rows
from captum_iscam.visualization.heat import colours
from captum_iscam.visualization.overlay import overlay
from captum_iscam.visualization.photograph import OnOriginal, on_original
from captum_iscam.visualization.rows import Row

__all__ = [
    "OnOriginal",
    "Row",
    "colours",
    "display_image",
    "on_original",
    "overlay",
    "upsample",
    "visualize",
    "visualize_rows",
]
