import pytest
import torch

from captum_iscam.demo import CLASSES, draw_scene, draw_scenes


@pytest.fixture(scope="module")
def scenes():
    return draw_scenes(60, seed=11)


def test_one_seed_draws_one_picture():
    first, second = draw_scene(5), draw_scene(5)

    assert torch.equal(first.image, second.image)
    assert torch.equal(first.masks, second.masks)
    assert first.labels == second.labels


def test_different_seeds_draw_different_pictures():
    assert not torch.equal(draw_scene(5).image, draw_scene(6).image)


def test_a_longer_list_starts_with_the_shorter_one():
    short, long = draw_scenes(2, seed=3), draw_scenes(4, seed=3)

    assert all(
        torch.equal(a.image, b.image) for a, b in zip(short, long[:2], strict=True)
    )


def test_images_are_float_pixels_between_zero_and_one(scenes):
    images = torch.stack([scene.image for scene in scenes])

    assert images.shape == (60, 3, 96, 96)
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 1


def test_mid_grey_is_close_to_the_mean_colour(scenes):
    mean = torch.stack([scene.image for scene in scenes]).mean((0, 2, 3))

    torch.testing.assert_close(mean, torch.full((3,), 0.5), atol=0.06, rtol=0)


def test_labels_are_distinct_and_have_a_mask_each(scenes):
    for scene in scenes:
        assert 1 <= len(scene.labels) == len(set(scene.labels)) <= 3
        assert scene.masks.shape == (len(scene.labels), 96, 96)


def test_masks_are_boolean_disjoint_and_not_empty(scenes):
    for scene in scenes:
        assert scene.masks.dtype == torch.bool
        assert scene.masks.sum(0).max() == 1
        assert (scene.masks.sum((1, 2)) > 100).all()


def test_one_two_and_three_objects_all_occur(scenes):
    assert {len(scene.labels) for scene in scenes} == {1, 2, 3}


@pytest.mark.parametrize("n_objects", [0, 1, 2, 3])
def test_the_number_of_objects_can_be_chosen(n_objects):
    assert len(draw_scene(0, n_objects=n_objects).labels) == n_objects


@pytest.mark.parametrize("label", range(len(CLASSES)), ids=CLASSES)
def test_the_mask_is_where_the_picture_changes(label):
    # The same seed draws the same ground; a second object adds nothing to the first's.
    scene = draw_scene(2, labels=[label])
    ground = draw_scene(2, labels=[])

    changed = (scene.image - ground.image).abs().amax(0) > 0.02
    inside, outside = scene.masks[0], ~scene.masks[0]

    assert scene.labels == (label,)
    assert changed[inside].float().mean() > 0.9
    # Outside only the anti-aliased rim differs.
    assert changed[outside].float().mean() < 0.03


def test_objects_stand_out_from_their_surroundings(scenes):
    for scene in scenes:
        for mask in scene.masks:
            near = torch.nn.functional.max_pool2d(mask[None].float(), 9, 1, 4)[0] > 0
            around = near & ~scene.masks.any(0)
            apart = scene.image[:, mask].mean(1) - scene.image[:, around].mean(1)
            assert apart.norm() > 0.1


def test_classes_are_named_once():
    assert len(CLASSES) == len(set(CLASSES)) >= 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_objects": 4}, r"n_objects must be from 0 to 3, got 4\."),
        ({"n_objects": -1}, r"n_objects must be from 0 to 3, got -1\."),
        ({"labels": [1], "n_objects": 2}, "n_objects must equal the number of labels"),
        ({"labels": [1, 1]}, r"labels must be at most 3 different .* got \(1, 1\)\."),
        ({"labels": [99]}, r"labels must be .* got \(99,\)\."),
        ({"labels": [0, 1, 2, 3]}, "labels must be at most 3 different"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_scene(0, **arguments)


def test_a_negative_number_of_scenes_is_refused():
    with pytest.raises(ValueError, match=r"n_scenes must be at least 0, got -1\."):
        draw_scenes(-1)
