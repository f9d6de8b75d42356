"""The former home of two functions of :mod:`captum_iscam.layers`."""

from captum_iscam.layers import reshape_transform_for, token_layer

__all__ = ["reshape_transform_for", "token_layer"]
