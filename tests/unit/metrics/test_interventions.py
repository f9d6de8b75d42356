"""Order and share of objects on networks whose answer is known by construction."""

import math

import pytest
import torch

from captum_iscam.demo import draw_scene, draw_scenes, load_scenes, preprocess
from captum_iscam.metrics import irrelevant_object_share, object_order

IDENTITY = {"score": "identity"}


def painted(amounts):
    """An image of one bar per object, of that much red, and its interventions."""
    count = len(amounts)
    masks = torch.eye(count, dtype=torch.bool).view(1, count, 1, count)
    masks = masks.expand(-1, -1, 4, -1)
    image = torch.zeros(1, 3, 4, count)
    image[:, 0] = torch.tensor(amounts)
    without = torch.where(masks.unsqueeze(2), 0.0, image.unsqueeze(1))
    return image, {"interventions": without, "object_masks": masks}


def redness(x):
    """The amount of red: the importance of an object is its own."""
    return x[:, 0].flatten(1).sum(1)


def map_of(shares):
    return torch.tensor(shares).view(1, 1, 1, -1).expand(-1, -1, 4, -1)


@pytest.mark.parametrize(
    ("shares", "order"),
    [
        ([0.5, 0.3, 0.2], 1.0),
        ([0.2, 0.3, 0.5], 0.0),
        ([0.5, 0.2, 0.3], 2 / 3),
        ([0.4, 0.4, 0.2], (0.5 + 1 + 1) / 3),
        ([1.0, 1.0, 1.0], 0.5),
    ],
)
def test_the_order_is_the_share_of_pairs_in_the_right_order(shares, order):
    image, objects = painted([3.0, 2.0, 1.0])

    found = object_order(redness, image, map_of(shares), **objects, **IDENTITY)

    assert found.item() == pytest.approx(order)


def test_objects_of_one_importance_are_no_pair():
    image, objects = painted([3.0, 1.0, 1.0])
    maps = map_of([0.2, 0.1, 0.3])

    assert object_order(redness, image, maps, **objects, **IDENTITY).item() == 0.5
    same, objects = painted([2.0, 2.0])
    assert object_order(redness, same, same[:, :1], **objects, **IDENTITY).isnan()


@pytest.mark.parametrize(
    ("amounts", "negligible", "share"),
    [
        ([3.0, 2.0, 0.0], 0.05, 0.2),
        ([3.0, -2.0, 0.0], 0.05, 0.5),  # what opposes the class is not for it
        ([3.0, 0.1, 0.2], 0.05, 0.3),
        ([3.0, 0.1, 0.2], 0.0, math.nan),
        ([3.0, 2.0, 1.0], 0.4, 0.2),
        ([-3.0, -2.0, 0.0], 0.05, math.nan),  # nothing supports the class
    ],
)
def test_the_share_is_that_of_objects_that_do_not_matter(amounts, negligible, share):
    image, objects = painted(amounts)

    found = irrelevant_object_share(
        redness,
        image,
        map_of([0.5, 0.3, 0.2]),
        negligible=negligible,
        **objects,
        **IDENTITY,
    )

    assert found.item() == pytest.approx(share, nan_ok=True)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_an_empty_map_has_no_share(value):
    image, objects = painted([3.0, 0.0])
    maps = torch.full((1, 1, 4, 2), value)

    found = irrelevant_object_share(redness, image, maps, **objects, **IDENTITY)

    assert found.isnan().all()


def test_each_example_has_its_own_objects():
    (first, a), (second, b) = painted([3.0, 2.0]), painted([1.0, 2.0])
    objects = {name: torch.cat([a[name], b[name]]) for name in a}
    images, maps = torch.cat([first, second]), map_of([0.6, 0.4]).expand(2, -1, -1, -1)

    found = object_order(redness, images, maps, **objects, **IDENTITY)

    assert found.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"interventions": torch.zeros(1, 3, 4, 2)}, ValueError, "interventions must"),
        ({"interventions": [1]}, TypeError, "interventions must be a tensor, got list"),
        ({"object_masks": None}, TypeError, "object_masks must be a tensor, got None"),
        ({"interventions": torch.zeros(1, 2, 3, 4, 2).int()}, TypeError, "floating"),
        ({"object_masks": torch.ones(1, 2, 3, 2)}, ValueError, "object_masks must be"),
        ({"object_masks": torch.zeros(1, 2, 4, 2)}, ValueError, "at least one pixel"),
        ({"negligible": 1.0}, ValueError, "negligible must be at least 0 and below 1"),
    ],
)
def test_objects_that_do_not_fit_are_refused(change, error, match):
    image, objects = painted([3.0, 2.0])

    with pytest.raises(error, match=match):
        irrelevant_object_share(
            redness, image, image[:, :1], **{**objects, **change}, **IDENTITY
        )


@pytest.mark.parametrize("scene", [draw_scene(5, n_objects=3), *load_scenes()[2:4]])
def test_a_scene_without_an_object_is_the_same_everywhere_else(scene):
    for mask, without in zip(scene.masks, scene.without, strict=True):
        changed = (without != scene.image).any(0)
        # The anti-aliased border lies outside of the mask, at most a pixel from it.
        near = torch.nn.functional.max_pool2d(mask[None].float(), 3, 1, 1)[0] > 0
        assert not (changed & ~near).any()
        assert (changed & mask).sum() > 0.9 * mask.sum()


def test_on_scenes_a_network_of_area_finds_the_area():
    for scene in draw_scenes(3, seed=4, n_objects=3):
        inputs, without = preprocess(scene.image), preprocess(scene.without)[None]

        def covered(x, scene=scene, inputs=inputs):
            # How many pixels still show what the whole scene shows.
            same = (x == inputs).all(1)
            return (same & scene.masks.any(0)).flatten(1).sum(1).float()

        objects = {"interventions": without, "object_masks": scene.masks[None]}
        perfect = scene.masks.any(0).float()[None, None]
        assert object_order(covered, inputs, perfect, **objects, **IDENTITY) == 1
        inside = (scene.masks.float() / scene.masks.sum((1, 2), True).square()).sum(0)
        found = object_order(covered, inputs, inside[None, None], **objects, **IDENTITY)
        assert found == 0
