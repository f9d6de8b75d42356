"""Images, labels, boxes and masks of every kind of data."""

import os
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from reference.real import FOLDER, needs_real_data, photograph
from reference.real import rows as real_rows
from torchvision.transforms.functional import to_tensor

from captum_iscam._utils.images import UnreadableImageError
from captum_iscam.benchmark.dataloader import load
from captum_iscam.benchmark.dataset import DataSet, FileItem, resolve
from captum_iscam.benchmark.explained_models import load_explained_model
from captum_iscam.benchmark.sources import (
    READERS,
    bundled_scenes,
    find_data,
    register_reader,
)
from captum_iscam.demo import CLASSES, load_scenes, preprocess
from captum_iscam.networks.classes import number


def picture(file, size=(40, 30), value=128):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(file)
    return file


def table(folder, text, boxes=None):
    (folder / "labels.csv").write_text(text)
    if boxes is not None:
        (folder / "boxes.csv").write_text("file,class_index,x0,y0,x1,y1\n" + boxes)
    return folder


def labels(data):
    return {item.id: item.label for item in data.items}


def test_bundled_scenes_come_with_their_masks():
    data = resolve(bundled_scenes(), CLASSES)

    assert [item.id for item in data.items] == [f"scene_{i}" for i in range(8)]
    for item, scene in zip(data.items, load_scenes(), strict=True):
        image, regions = item.read()
        assert set(regions) == set(scene.labels)
        largest = max(regions, key=lambda c: regions[c].sum())
        assert item.label == largest
        assert item.class_name == CLASSES[largest]
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
        torch.testing.assert_close(pixels, scene.image)


def test_more_scenes_than_bundled_are_drawn_the_same_each_time():
    once, twice = bundled_scenes(10), bundled_scenes(12)

    assert len(once.items) == 10
    assert once.items[9] == twice.items[9]
    assert once.items[9].read()[0] == twice.items[9].read()[0]


def test_folders_are_classes(tmp_path):
    picture(tmp_path / "star" / "deep" / "a.PNG")
    picture(tmp_path / "Heart" / "b.jpg")
    (tmp_path / "star" / "notes.txt").write_text("no image")

    data = resolve(find_data(tmp_path), CLASSES)

    assert data.kind == "folder"
    assert labels(data) == {
        "Heart/b.jpg": CLASSES.index("heart"),
        "star/deep/a.PNG": CLASSES.index("star"),
    }
    assert [item.class_name for item in data.items] == ["Heart", "star"]


@pytest.mark.parametrize("named", ["by number", "by name", "by folder"])
@pytest.mark.parametrize("count", [10, 11])
def test_numbers_that_sort_otherwise_as_text_are_named(tmp_path, count, named):
    for label in range(count):
        picture(tmp_path / str(label) / "a.png")
    known = {
        "by number": number(count),
        "by name": tuple(f"sign {'abcdefghijk'[i]}" for i in range(count)),
        "by folder": tuple(map(str, range(count))),
    }[named]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        data = resolve(find_data(tmp_path), known)

    assert [item.label for item in data.items] == sorted(range(count), key=str)
    texts = [str(w.message) for w in said]
    assert len(texts) == (count == 11 and named != "by folder")
    if texts:
        assert "'10' is class 10." in texts[0]
        assert "it is class 2:" in texts[0]


@pytest.mark.parametrize("known", [number(12), tuple("abcdefghijkl")])
@pytest.mark.parametrize("drawn", range(12))
def test_folders_from_1_on_are_refused_whichever_image_is_drawn(tmp_path, known, drawn):
    for label in range(1, 13):
        picture(tmp_path / str(label) / "a.png")
    data = find_data(tmp_path)

    with pytest.raises(ValueError, match=r"got a folder '12'. .* as --classes"):
        resolve(replace(data, items=(data.items[drawn],)), known)
    folders = resolve(data, data.classes)
    assert [item.label for item in folders.items] == list(range(12))


def test_folders_named_by_numbers_are_indices(tmp_path):
    for name in ("7", "12"):
        picture(tmp_path / name / "a.png")

    data = resolve(find_data(tmp_path), [f"class {i}" for i in range(20)])

    assert labels(data) == {"12/a.png": 12, "7/a.png": 7}


def test_as_many_folders_as_classes_are_in_their_order(tmp_path):
    for name in ("zebra", "apple", "melon"):
        picture(tmp_path / name / "a.png")

    data = resolve(find_data(tmp_path), ["class 0", "class 1", "class 2"])

    assert labels(data) == {"apple/a.png": 0, "melon/a.png": 1, "zebra/a.png": 2}


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (("n01440764", "n01443537"), ("tench", "goldfish")),
        (("cat", "dog"), ("class 0", "class 1")),
    ],
)
def test_an_order_that_is_all_that_is_known_is_taken(names, classes, recwarn):
    items = tuple(FileItem(name, name, name) for name in names)

    resolve(DataSet("folder", None, items, names), classes)

    assert not recwarn.list


def test_an_order_that_may_be_another_is_warned_of(tmp_path):
    for name in ("cat", "dog", "fish", "hare"):
        picture(tmp_path / name / "a.png")

    with pytest.warns(UserWarning, match="'cat' for 'Hund', 'dog' .*, ..."):
        data = resolve(find_data(tmp_path), ["Hund", "Katze", "Fisch", "Hase"])

    assert [item.label for item in data.items] == [0, 1, 2, 3]


@pytest.mark.parametrize("parts", [("train", "val"), ("Test", "training", "valid")])
@pytest.mark.parametrize("named", [True, False])
def test_parts_of_a_data_set_are_no_classes(tmp_path, parts, named):
    for part in parts:
        picture(tmp_path / part / "cat" / "a.png")
    classes = [f"{'name' if named else 'class'} {i}" for i in range(len(parts))]
    data = find_data(tmp_path)

    with pytest.raises(ValueError, match=f"got {' and '.join(parts)}, none of which"):
        resolve(data, classes)
    resolve(data.without_labels(), classes)
    resolve(data, list(parts))


def test_hidden_folders_are_ignored(tmp_path):
    picture(tmp_path / "star" / "a.png")
    picture(tmp_path / "star" / ".ipynb_checkpoints" / "a-checkpoint.png")
    picture(tmp_path / ".trash" / "b.png")

    assert [item.id for item in find_data(tmp_path).items] == ["star/a.png"]


@pytest.mark.parametrize("samples", [2, 1])
def test_a_misspelt_folder_does_not_move_the_others(tmp_path, samples):
    for name in ("zebra", "aple", "melon"):
        picture(tmp_path / name / "a.png")
    classes = ["zebra", "melon", "apple"]
    data = find_data(tmp_path)

    with pytest.raises(ValueError, match="got 'aple', which is not one of them"):
        resolve(data, classes)
    kept = tuple(item for item in data.items if item.label != "aple")[:samples]
    few = resolve(replace(data, items=kept), classes)

    assert all(classes[item.label] == item.class_name for item in few.items)


def test_images_without_folders_have_no_label(tmp_path):
    picture(tmp_path / "a.png")

    item = resolve(find_data(tmp_path), CLASSES).items[0]

    assert (item.id, item.label, item.class_name) == ("a.png", None, None)


@pytest.mark.parametrize("names", [["cat"], ["star", "cat"], ["crane"], ["3", "cat"]])
def test_labels_must_be_classes_of_the_model(tmp_path, names):
    for name in names:
        picture(tmp_path / name / "a.png")
    classes = ["star", "crane", "crane", "heart", "die"]

    with pytest.raises(ValueError, match=r"labels must be classes of the model \(5, "):
        resolve(find_data(tmp_path), classes)


def test_the_strange_label_is_named(tmp_path):
    picture(tmp_path / "crane" / "a.png")

    with pytest.raises(ValueError, match="'crane', the name of several classes"):
        resolve(find_data(tmp_path), ["crane", "crane", "tench"])


def test_indices_must_be_of_the_model(tmp_path):
    data = find_data(table(tmp_path, "file,class_index\na.png,5\n"))

    with pytest.raises(ValueError, match=r"the model's 5 classes, got 5 for a.png"):
        resolve(data, ["a", "b", "c", "d", "e"])


def test_labels_can_be_left_out(tmp_path):
    picture(tmp_path / "a.png")
    file = table(tmp_path, "file,class_name\na.png,cat\n", "a.png,3,0,0,2,2\n")

    data = find_data(file).without_labels()

    assert resolve(data, CLASSES).items[0].label is None
    assert not data.has_regions
    scenes = bundled_scenes().without_labels()
    assert resolve(scenes, ["tench"]).items[0].read()[1] == {}


def test_a_table_has_labels_boxes_and_masks(tmp_path):
    picture(tmp_path / "photos" / "a.png")
    picture(tmp_path / "photos" / "b.png")
    mask = np.zeros((30, 40), np.uint8)
    mask[3:5, 6:9] = 200
    Image.fromarray(mask).save(tmp_path / "b_mask.png")
    table(
        tmp_path,
        "\ufefffile,class_index,class_name,mask\n"
        "photos/a.png,2,cat,\n"
        "photos/b.png,,star,b_mask.png\n",
        "photos/a.png,2,1,2,5,4\nphotos/a.png,2,10,10,12,11\nphotos/a.png,3,0,0,1,1\n",
    )

    data = resolve(find_data(tmp_path), CLASSES)

    assert data.kind == "csv"
    assert data == resolve(find_data(tmp_path / "labels.csv"), CLASSES)
    data.check_regions()
    first, second = (item.read()[1] for item in data.items)
    expected = np.zeros((30, 40), bool)
    expected[2:4, 1:5] = expected[10:11, 10:12] = True
    assert np.array_equal(first[2], expected)
    assert first[3].sum() == 1
    star = CLASSES.index("star")
    assert set(second) == {star}
    assert np.array_equal(second[star], mask > 0)
    assert [item.class_name for item in data.items] == ["cat", "star"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,class_index\na,1\n", "data must have a column named file, got name"),
        ("", "column named file, got an empty table"),
        ("file,class_index\n", "got a table without lines"),
        ("file,class_index\na.png,x\n", "class_index must be .* got 'x' in labels.csv"),
        ("file,class_index\na.png,-1\n", "class_index must be .* got '-1'"),
        ("file,class_index\na.png,1\na.png,2\n", "each file once, got 'a.png'"),
        ("file,class_index\na.png,1,2\n", "as many fields as columns"),
        ("file,class_index\n,1\n", "must have a file and .* line 2"),
        ("file,class_index\na.png,1\nb.png\n", "as many fields .* labels.csv, line 3"),
        ("file,mask,class_index\na.png,1\n", "as many fields .* labels.csv, line 2"),
        ("file,class_index,class_index\na.png,0,3\n", "at most once .* line 1"),
        ("file,class_index, class_index\na.png,0,3\n", "at most once .* line 1"),
        ("file, class_index\na.png,0\n", "spelt so, got 'file', ' class_index'"),
        ("file,Class_Name\na.png,star\n", "spelt so, .* delete 'Class_Name'"),
        ("file,note,file\na.png,0,b.png\n", "at most once .* delete 'file'"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        find_data(table(tmp_path, text))


@pytest.mark.parametrize("index", ["2", "02", " 2 "])
@pytest.mark.parametrize("name", ["Heart", "star ", "moon"])
def test_an_index_and_a_name_of_two_classes_are_refused(tmp_path, index, name):
    classes = ["star", "heart", "sun", "moon", "moon"]
    line = f"file,class_index,class_name\n\na.png,2,sun\n\nb.png,{index},{name}\n"
    data = find_data(table(tmp_path, line))

    with pytest.raises(ValueError, match=r"got 2, which is 'sun', .* labels.csv, line"):
        resolve(data, classes)
    with pytest.raises(ValueError, match=r"csv, line 5. Correct one of them"):
        resolve(data, classes)
    resolve(data.without_labels(), classes)


@pytest.mark.parametrize("name", ["moon", "MOON", "", "a name of my own", "4"])
def test_an_index_may_have_any_name_that_is_of_no_other_class(tmp_path, name):
    data = find_data(table(tmp_path, f"file,class_index,class_name\na.png,4,{name}\n"))

    (item,) = resolve(data, ["star", "heart", "sun", "moon", "moon"]).items

    assert item.label == 4


def test_boxes_may_be_named_by_class(tmp_path):
    picture(tmp_path / "a.png")
    table(tmp_path, "file,class_name\na.png,star\n")
    (tmp_path / "boxes.csv").write_text(
        "file,class_name,x0,y0,x1,y1\na.png,heart,1,2,5,4\n"
    )

    (item,) = resolve(find_data(tmp_path), ["star", "heart"]).items

    assert list(item.read()[1]) == [1]


def test_boxes_in_fractions_of_the_image_are_refused(tmp_path):
    picture(tmp_path / "a.png")
    table(tmp_path, "file,class_index\na.png,1\n", "a.png,1,0.1,0,0.9,1\n")

    with pytest.raises(ValueError, match=r"look like fractions of it\. .* in pixels"):
        find_data(tmp_path).check_regions()


def test_a_box_of_an_index_and_the_name_of_another_class_is_refused(tmp_path):
    table(tmp_path, "file,class_index\na.png,1\n")
    (tmp_path / "boxes.csv").write_text(
        "file,class_index,class_name,x0,y0,x1,y1\na.png,0,green,1,1,5,5\n"
    )

    with pytest.raises(ValueError, match=r"got 0, .*'red', .*in boxes.csv, line 2"):
        resolve(find_data(tmp_path), ["red", "green"])


def test_a_picture_is_no_table(tmp_path):
    with pytest.raises(ValueError, match="data must be a CSV file in UTF-8"):
        find_data(picture(tmp_path / "a.png", value=255))


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ("b.png,1,0,0,1,1\n", "boxes must belong to files of labels.csv, got 'b.png'"),
        ("a.png,1,0,0,1\n", "as many fields .* in boxes.csv, line 2"),
        ("a.png,1,0,0,1,\n", "boxes must have the numbers"),
        ("a.png,1,0,0,1,x\n", "boxes must have the numbers .* in boxes.csv, line 2"),
        ("a.png,x,0,0,1,1\n", "class_index must be"),
    ],
)
def test_a_wrong_table_of_boxes_is_refused(tmp_path, boxes, message):
    with pytest.raises(ValueError, match=message):
        find_data(table(tmp_path, "file,class_index\na.png,1\n", boxes))


@pytest.mark.parametrize(
    "corners",
    [
        *("0,0,41,5", "0,0,5,31", "-1,0,5,5", "5,5,5,9", "9,5,6,9", "nan,0,1,1"),
        *("3.6,5,4.4,9", "5,3.6,9,4.4"),  # no pixel after rounding
    ],
)
def test_boxes_outside_of_the_image_are_refused(tmp_path, corners):
    picture(tmp_path / "a.png")
    table(tmp_path, "file,class_index\na.png,1\n", f"a.png,1,{corners}\n")

    with pytest.raises(
        ValueError, match=r"40 wide and 30 high for a.png, and not empty"
    ):
        find_data(tmp_path).check_regions()


def test_boxes_of_a_turned_photograph_are_in_the_turned_one(tmp_path):
    image = Image.new("RGB", (40, 30))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    table(tmp_path, "file,class_index\na.jpg,1\n", "a.jpg,1,0,0,30,40\n")

    data = find_data(tmp_path)

    data.check_regions()
    assert data.items[0].read()[1][1].shape == (40, 30)


def test_masks_of_another_size_are_refused(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "m.png", (30, 40))
    table(tmp_path, "file,class_index,mask\na.png,1,m.png\n")

    with pytest.raises(ValueError, match=r"40 x 30 for a.png, got one of 30 x 40"):
        find_data(tmp_path).check_regions()
    with pytest.raises(UnreadableImageError, match="not of the image's size"):
        find_data(tmp_path).items[0].read()


def _forms_of(grey):
    """Yields one mask in the forms that programs store it in, with its file's name."""
    rgb = grey.convert("RGB")
    yield "l.png", grey, {}
    yield "bits.png", grey.convert("1"), {}
    yield "deep.png", Image.fromarray(np.asarray(grey).astype(np.uint16) * 2), {}
    yield "alpha.png", grey.convert("LA"), {}
    clear = grey.convert("RGBA")
    clear.putalpha(grey)
    yield "clear.png", clear, {}
    white = Image.new("RGBA", grey.size, "white")
    white.putalpha(grey)
    yield "white.png", white, {}
    yield "ink.tif", rgb.convert("CMYK"), {}
    yield "quantized.png", grey.quantize(2), {}
    black, white = [0] * 3, [255] * 3
    marked = np.asarray(grey) > 0
    for name, index, palette in (
        ("one", marked, black + white),
        ("zero", ~marked, white + black),
    ):
        indexed = Image.fromarray(index.astype(np.uint8))
        indexed.putpalette(palette)
        yield f"{name}.png", indexed, {}
        yield f"{name}.gif", indexed, {}


def test_masks_mark_what_is_not_black_however_it_is_stored(tmp_path):
    picture(tmp_path / "a.png")
    values = np.zeros((30, 40), np.uint8)
    values[3:5, 6:9] = 255
    grey = Image.fromarray(values)
    turned = grey.transpose(Image.Transpose.ROTATE_180)
    exif = turned.getexif()
    exif[0x0112] = 3
    forms = [*_forms_of(grey), ("turned.png", turned, {"exif": exif})]

    for name, image, options in forms:
        image.save(tmp_path / name, **options)
        table(tmp_path, f"file,class_index,mask\na.png,1,{name}\n")
        found = find_data(tmp_path).items[0].read()[1][1]

        assert np.array_equal(found, values > 0), name


@pytest.mark.parametrize(
    ("name", "mode", "reason"),
    [
        ("m.jpg", "L", "JPEG has no exact black; save it as PNG"),
        ("m.webp", "RGB", "WEBP has no exact black; save it as PNG"),
        ("m.tif", "LAB", "LAB has no exact black; save it as PNG"),
    ],
)
def test_masks_without_an_exact_black_are_refused(tmp_path, name, mode, reason):
    picture(tmp_path / "a.png")
    Image.new("RGB", (40, 30)).convert(mode).save(tmp_path / name)
    table(tmp_path, f"file,class_index,mask\na.png,1,{name}\n")

    with pytest.raises(UnreadableImageError, match=reason):
        find_data(tmp_path).items[0].read()


def test_missing_masks_are_refused_and_missing_images_left_to_the_run(tmp_path):
    picture(tmp_path / "a.png")
    rows = "a.png,1,no.png\n"
    table(tmp_path, "file,class_index,mask\n" + rows)
    with pytest.raises(ValueError, match=r"got no image in .*no.png"):
        find_data(tmp_path).check_regions()

    (tmp_path / "a.png").unlink()
    data = find_data(tmp_path)

    data.check_regions()
    with pytest.raises(UnreadableImageError):
        data.items[0].read()


def write_voc(root):
    for name in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    picture(root / "JPEGImages" / "one.jpg")
    picture(root / "JPEGImages" / "two.jpg")
    picture(root / "JPEGImages" / "train.jpg")
    box = (
        "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
    )
    dog = f"<object><name>dog</name>{box.format(1, 1, 4, 5)}</object>"
    cat = f"<object><name>cat</name>{box.format(11, 11, 30, 30)}</object>"
    for name, objects in {"one": dog + cat, "two": dog, "train": cat}.items():
        text = f"<annotation>{objects}</annotation>"
        (root / "Annotations" / f"{name}.xml").write_text(text)
    (root / "ImageSets" / "Main" / "val.txt").write_text("one\ntwo\n")
    painted = np.full((30, 40), 255, np.uint8)
    painted[:10] = 0
    painted[10:20, 5:9] = 12  # the dog
    image = Image.fromarray(painted)
    image.putpalette(list(range(256)) * 3)
    image.save(root / "SegmentationClass" / "two.png")


@pytest.mark.parametrize("above", ["", "VOC2012", "VOCdevkit/VOC2012"])
def test_pascal_voc(tmp_path, above):
    write_voc(tmp_path / above)

    found = find_data(tmp_path)
    data = resolve(found, [f"class {i}" for i in range(20)])

    assert data.kind == "voc"
    dog, cat = 11, 7
    assert labels(data) == {"one.jpg": cat, "two.jpg": dog}
    data.check_regions()
    boxes, masks = (item.read()[1] for item in data.items)
    assert set(boxes) == {dog, cat}
    # From 1 to 4, counted from 1 and the last included: the first four columns.
    assert boxes[dog][:5, :4].all()
    assert boxes[dog].sum() == 20
    assert masks[dog].sum() == 40
    assert masks[dog][10:20, 5:9].all()


def test_pascal_voc_needs_its_annotations(tmp_path):
    write_voc(tmp_path)
    (tmp_path / "Annotations" / "one.xml").write_text("<annotation><object>")
    with pytest.raises(
        ValueError, match=r"an annotation for each image, got .*one.xml"
    ):
        find_data(tmp_path)

    (tmp_path / "Annotations" / "one.xml").unlink()
    with pytest.raises(
        ValueError, match=r"an annotation for each image, got .*one.xml"
    ):
        find_data(tmp_path)


def test_imagenet_is_in_the_order_of_its_identifiers(tmp_path):
    names = {f"n0000000{i}": (f"name {i}", "other") for i in (3, 1, 2)}
    torch.save((names, ["n00000003"]), tmp_path / "meta.bin")
    for name in ("n00000003", "n00000001"):
        picture(tmp_path / "val" / name / "a.JPEG")

    data = resolve(find_data(tmp_path), ["a", "b", "c"])

    assert data.kind == "imagenet"
    assert labels(data) == {"n00000001/a.JPEG": 0, "n00000003/a.JPEG": 2}
    assert [item.class_name for item in data.items] == ["name 1", "name 3"]


def test_imagenet_without_its_names_needs_all_folders(tmp_path):
    for name in ("n00000003", "n00000001"):
        picture(tmp_path / "val" / name / "a.JPEG")

    assert labels(resolve(find_data(tmp_path), ["a", "b"])) == {
        "n00000001/a.JPEG": 0,
        "n00000003/a.JPEG": 1,
    }
    with pytest.raises(ValueError, match="labels must be classes of the model"):
        resolve(find_data(tmp_path), ["a", "b", "c"])


def test_folders_that_are_not_imagenets_are_refused(tmp_path):
    torch.save(({"n00000001": ("a",)}, []), tmp_path / "meta.bin")
    picture(tmp_path / "val" / "cats" / "a.JPEG")

    with pytest.raises(ValueError, match=r"the folders of ImageNet .* got cats"):
        find_data(tmp_path)


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "text.txt").write_text("nothing")

    with pytest.raises(
        ValueError, match=r"data must contain images \(JPEG, .*got none"
    ):
        find_data(tmp_path)


def test_images_are_found_by_every_suffix_and_formats_not_read_are_named(tmp_path):
    names = ("a.gif", "b.JP2", "c.jfif", "d.apng", "e.pbm")
    for name in (*names, "f.heic", "g.dcm", "h.csv", "i.txt", ".j.heic"):
        (tmp_path / name).touch()

    with pytest.warns(match=r"f\.heic' is ignored, the first of 2 such images: "):
        data = find_data(tmp_path)

    assert [item.id for item in data.items] == list(names)


def test_images_beside_folders_of_images_are_refused(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "star" / "b.png")

    with pytest.raises(ValueError, match=r"a.png lies next to folders"):
        find_data(tmp_path)


def many(count):
    return DataSet("csv", None, tuple(FileItem(f"{i}.png") for i in range(count)))


def test_a_subset_is_the_same_on_every_machine():
    ids = [item.id for item in many(1000).subset(5, 0).items]

    # Found with sha256sum and sort; a change would keep old runs from being repeated.
    assert ids == ["40.png", "334.png", "362.png", "900.png", "911.png"]


def test_a_subset_depends_on_seed_and_ids_alone():
    data = many(1000)
    items = data.subset(100, 1).items

    turned = DataSet("csv", None, data.items[::-1]).subset(100, 1).items
    assert set(items) == set(turned)
    assert items != data.subset(100, 2).items
    assert set(data.subset(50, 1).items) < set(items)
    numbers = [int(item.id.removesuffix(".png")) for item in items]
    assert numbers == sorted(numbers)
    # Evenly over the list, as far as 100 draws can tell.
    assert 400 < np.mean(numbers) < 600


@pytest.mark.parametrize("samples", [0, 4])
def test_a_subset_must_be_there(samples):
    with pytest.raises(ValueError, match=r"samples must be from 1 to .* 3, got"):
        many(3).subset(samples, 0)


def test_images_reach_the_network_as_it_wants_them(tmp_path):
    explained = load_explained_model("scene-net")
    data = resolve(bundled_scenes(), CLASSES)

    loaded = list(load(data.items, [5, 2], [explained, explained]))

    assert [one.index for one in loaded] == [5, 2]
    scene = load_scenes()[5]
    view = loaded[0].preprocessed[0]
    torch.testing.assert_close(view.inputs, preprocess(scene.image))
    assert view is loaded[0].preprocessed[1]
    assert set(view.masks) == set(scene.labels)
    for label, mask in zip(scene.labels, scene.masks, strict=True):
        assert torch.equal(view.masks[label][0, 0], mask)


def test_what_the_crop_does_not_show_is_no_region(tmp_path):
    picture(tmp_path / "a.png", (192, 96))
    boxes = "a.png,1,0,0,40,96\na.png,2,96,0,192,96\n"
    table(tmp_path, "file,class_index\na.png,1\n", boxes)
    data = resolve(find_data(tmp_path), CLASSES)

    (loaded,) = load(data.items, [0], [load_explained_model("scene-net")])

    # The middle 96 columns, 48 to 144: the first box is outside, half of the second in.
    assert set(loaded.preprocessed[0].masks) == {2}
    mask = loaded.preprocessed[0].masks[2][0, 0]
    assert mask[:, 48:].all()
    assert not mask[:, :48].any()


@needs_real_data
def test_real_boxes_are_where_the_reference_puts_them():
    data = find_data(FOLDER / "images")
    data.check_regions()
    wanted = {row["file"] for row in real_rows("boxes.csv")}
    places = [i for i, item in enumerate(data.items) if item.id in wanted][::20]
    network = load_explained_model(
        "squeezenet1_1", FOLDER / "weights" / "squeezenet1_1.pt"
    )
    data = resolve(data, network.network.classes)
    table = {row["file"]: row for row in real_rows()}

    for loaded in load(data.items, places, [network]):
        item = data.items[loaded.index]
        image, boxes = photograph(table[item.id])
        view = loaded.preprocessed[0]
        assert (view.inputs - image).abs().max() < 0.1
        # Its boxes are rounded after the scaling, ours before.
        differ = view.masks[item.label][0, 0] ^ boxes
        assert differ.sum() < 0.02 * boxes.sum() + 500
        assert (view.masks[item.label][0, 0] & boxes).sum() > 0.9 * boxes.sum()


def is_mine(path):
    return (path / "mine.txt").is_file()


def read_mine(path):
    names = (path / "mine.txt").read_text().split()
    items = tuple(FileItem(name, 3, file=path / name) for name in names)
    return DataSet("any", path, items)


def test_a_registered_reader_is_asked_first(tmp_path, monkeypatch):
    monkeypatch.setattr("captum_iscam.benchmark.sources.READERS", list(READERS))
    (tmp_path / "mine.txt").write_text("one.png two.png")
    (tmp_path / "labels.csv").write_text("file\none.png\n")
    assert find_data(tmp_path).kind == "csv"

    register_reader("mine", is_mine, read_mine)
    register_reader("mine", is_mine, read_mine)

    data = find_data(tmp_path)
    assert data.kind == "mine"
    assert [item.id for item in data.items] == ["one.png", "two.png"]
    (tmp_path / "mine.txt").unlink()
    assert find_data(tmp_path).kind == "csv"


@pytest.mark.parametrize("name", ["voc", "scenes"])
def test_a_reader_has_a_name_of_its_own(name):
    with pytest.raises(ValueError, match=f"that no kind of data has, got '{name}'"):
        register_reader(name, is_mine, read_mine)

    assert [r.name for r in READERS] == ["csv", "voc", "imagenet", "folder"]


def test_a_path_that_is_neither_file_nor_folder_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(ValueError, match=r"known kind, got .* a pipe .* Known are: "):
        find_data(tmp_path / "pipe")


def test_a_scene_is_drawn_without_each_object_unless_its_classes_are_others():
    data = bundled_scenes()
    item, scene = data.items[2], load_scenes()[2]

    without = item.interventions()

    assert data.has_interventions
    assert list(without) == list(scene.labels)
    for image, expected in zip(without.values(), scene.without, strict=True):
        assert torch.equal(to_tensor(image), expected)
    assert data.without_labels().items[2].interventions() == {}
    assert not data.without_labels().has_interventions
