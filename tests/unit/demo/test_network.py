from importlib import resources

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from PIL import Image
from torch.nn import functional as F

from captum_iscam import LayerIntegratedScoreCAM
from captum_iscam.demo import (
    CLASSES,
    draw_scenes,
    load_network,
    load_scenes,
    preprocess,
)
from captum_iscam.demo.network import SceneNet, save_weights
from captum_iscam.demo.pictures import write_scenes
from tools import train_scene_net as train
from tools.train_scene_net import draw_batch, draw_pool, soft_targets

DATA = resources.files("captum_iscam.demo") / "data"


@pytest.fixture(scope="module")
def network():
    return load_network()


@pytest.fixture(scope="module")
def fresh_scenes():
    return draw_scenes(400, seed=2024)


def test_the_network_names_the_classes_of_new_scenes(network, fresh_scenes):
    result = train.accuracy(network, fresh_scenes)

    assert result.single >= 0.97
    assert result.several >= 0.97
    assert result.top1 >= 0.97


def test_the_network_is_ready_to_explain(network):
    maps = network.features(torch.zeros(2, 3, 96, 96))

    assert not network.training
    assert maps.shape == (2, 96, 12, 12)
    assert maps.min() >= 0
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_grey_speaks_for_no_class(network):
    probabilities = network(torch.zeros(1, 3, 96, 96)).softmax(1)

    assert probabilities.max() < 0.2


def _maps_on_own_objects(method, scenes):
    """Whether each map's peak is on its own object, and the share of the map there."""
    hits, own_shares = [], []
    for which in (0, 1):
        images = torch.stack([scene.image for scene in scenes])
        labels = torch.tensor([scene.labels[which] for scene in scenes])
        masks = torch.stack([scene.masks[which] for scene in scenes])
        # Four pixels of tolerance: half a cell of the 12 x 12 map.
        near = F.max_pool2d(masks.float(), 9, 1, 4).flatten(1)
        maps = method.attribute(preprocess(images), target=labels).detach().relu()
        maps = F.interpolate(maps, (96, 96), mode="bilinear").flatten(1)
        hits.append(near.gather(1, maps.argmax(1, keepdim=True)))
        own_shares.append((maps * near).sum(1) / maps.sum(1))
    return torch.cat(hits), torch.cat(own_shares)


def test_two_classes_have_maps_on_their_own_objects(network, fresh_scenes):
    pairs = [scene for scene in fresh_scenes if len(scene.labels) == 2][:100]

    hits, own_shares = _maps_on_own_objects(
        LayerGradCam(network, network.features), pairs
    )

    assert hits.mean() >= 0.95
    assert own_shares.mean() >= 0.8


def test_is_cam_finds_both_objects_of_the_first_bundled_pair(network):
    pairs = [scene for scene in load_scenes() if len(scene.labels) == 2][:1]

    hits, own_shares = _maps_on_own_objects(
        LayerIntegratedScoreCAM(network, network.features), pairs
    )

    assert hits.all()
    assert own_shares.min() >= 0.5


def test_bundled_scenes_hold_several_objects_and_all_classes(network):
    scenes = load_scenes()

    assert 6 <= len(scenes) <= 8
    assert sum(len(scene.labels) > 1 for scene in scenes) >= 5
    assert {label for s in scenes for label in s.labels} == set(range(len(CLASSES)))
    for scene in scenes:
        assert scene.image.shape == (3, 96, 96)
        assert scene.image.dtype == torch.float32
        assert scene.masks.dtype == torch.bool
        assert (scene.masks.sum((1, 2)) > 100).all()
        assert scene.masks.sum(0).max() == 1
        top = network(preprocess(scene.image))[0].topk(len(scene.labels)).indices
        assert set(top.tolist()) == set(scene.labels)


def test_bundled_scenes_are_what_their_recipes_draw(tmp_path):
    write_scenes(tmp_path)

    for file in sorted(tmp_path.iterdir()):
        with (DATA / file.name).open("rb") as stored:
            kept = np.array(Image.open(stored)).astype(int)
        drawn = np.array(Image.open(file)).astype(int)
        # One grey level of room for another numpy's rounding.
        assert abs(kept - drawn).max() <= 1, file.name


def test_the_data_stay_small():
    sizes = [len(entry.read_bytes()) for entry in DATA.iterdir() if entry.is_file()]

    assert sum(sizes) < 1_000_000


def test_preprocess_puts_mid_grey_at_zero():
    pixels = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1)

    assert preprocess(pixels).flatten().tolist() == [-2.0, 0.0, 2.0]
    assert preprocess(torch.rand(2, 3, 5, 6)).shape == (2, 3, 5, 6)


def test_preprocess_refuses_bytes():
    with pytest.raises(TypeError, match="images must be a floating point tensor, got"):
        preprocess(torch.zeros(3, 4, 4, dtype=torch.uint8))


@pytest.mark.parametrize("shape", [(4, 4), (1, 4, 4), (2, 4, 4, 3)])
def test_preprocess_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match="images must have the shape"):
        preprocess(torch.zeros(shape))


def test_weights_survive_saving(tmp_path, network):
    path = str(tmp_path / "weights.pt")
    save_weights(network, path)
    copy = SceneNet()
    copy.load_state_dict(torch.load(path, weights_only=True))

    inputs = torch.zeros(1, 3, 96, 96)
    assert torch.equal(copy.eval()(inputs), network(inputs))


def test_a_few_steps_reduce_the_loss():
    pool = draw_pool(3, 32)  # the scenes trained on
    batch = draw_batch(pool, np.random.default_rng(0), 32, hardness=0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        untrained = SceneNet()

    trained = train.train(3, 8, 32).train()

    with torch.no_grad():
        before = train.scene_loss(untrained, 1.0, *batch)
        after = train.scene_loss(trained, 1.0, *batch)
    assert after < before - 0.04


def test_training_repeats_exactly_and_leaves_the_global_randomness_alone():
    state = torch.random.get_rng_state()
    losses = []
    first = train.train(3, 2, 32, report=lambda step, loss: losses.append(loss))
    second = train.train(3, 2, 32)

    assert len(losses) == 2
    assert not first.training
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_another_seed_gives_other_weights():
    first, second = train.train(0, 1, 32), train.train(1, 1, 32)

    assert not torch.equal(first.head.weight, second.head.weight)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, r"steps must be at least 1, got 0\."),
        ({"pool_size": 10}, r"pool_size must be at least 32, got 10\."),
    ],
)
def test_training_refuses_bad_numbers(arguments, message):
    with pytest.raises(ValueError, match=message):
        train.train(**arguments)


def test_soft_targets_follow_what_is_left_of_the_objects():
    coverage = torch.zeros(1, len(CLASSES), 4, 4)
    coverage[0, 4, :2], coverage[0, 7, 3] = 1.0, 1.0
    whole = torch.ones(1, 1, 8, 8)
    covered = whole.clone()
    covered[..., 6:, :] = 0.1
    nothing = torch.full((len(CLASSES),), 1 / len(CLASSES))

    both, _ = soft_targets(coverage, whole * 0.2)
    one, cells = soft_targets(coverage, covered)
    none, _ = soft_targets(torch.zeros_like(coverage), whole)

    assert both[0].tolist() == [0.5 if i in (4, 7) else 0.0 for i in range(10)]
    assert one[0].tolist() == [1.0 if i == 4 else 0.0 for i in range(10)]
    assert cells[0, 4, 0, 0] == 1.0
    torch.testing.assert_close(cells[0, :, 3, 0], nothing)
    torch.testing.assert_close(none[0], nothing)


def test_the_command_trains_and_reports(tmp_path, capsys):
    path = tmp_path / "weights.pt"

    train.main(["--out", str(path), "--steps", "1", "--pool", "32", "--validate", "8"])

    assert "validation on 8 new scenes" in capsys.readouterr().out
    assert set(torch.load(path, weights_only=True)) == set(SceneNet().state_dict())
