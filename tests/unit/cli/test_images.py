import os
from pathlib import Path

import pytest

from captum_iscam.cli.images import find_images


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    """A folder with files of many kinds; it is the working folder."""
    for name in (
        *("b.jpg", "A.PNG", "notes.txt", ".hidden.jpg", "._a.jpg"),
        *("inner/c.jpeg", "inner/deep/d.webp", ".cache/e.jpg", "text/readme.md"),
        *("out/.captum-iscam.lock", "out/cat/overlay.png"),
        *("cat/record.json", "cat/maps.npz", "cat/overlay.png"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(root, *words, recursive=False):
    files = find_images([root / word for word in words], recursive)
    return [file.relative_to(root).as_posix() for file in files]


def test_a_folder_gives_its_images_and_recursively_those_inside(photographs):
    assert found(photographs, "") == ["A.PNG", "b.jpg"]
    inside = ["A.PNG", "b.jpg", "inner/c.jpeg", "inner/deep/d.webp"]
    assert found(photographs, "", recursive=True) == inside


def test_an_output_folder_can_be_named(photographs):
    assert found(photographs, "cat") == ["cat/overlay.png"]


def test_links_in_a_circle_are_followed_once(photographs):
    (photographs / "inner" / "loop").symlink_to(photographs)
    (photographs / "twice").symlink_to(photographs / "inner")

    images = found(photographs, "", recursive=True)

    assert images == ["A.PNG", "b.jpg", "inner/c.jpeg", "inner/deep/d.webp"]


def test_patterns_and_lists_and_files_give_each_image_once(photographs):
    (photographs / "list").write_text("b.jpg\n\ninner\ngone.jpg\n")

    assert found(photographs, "*.jpg", "b.jpg") == ["b.jpg"]
    assert found(photographs, "**/*.[jw]*") == [
        *("b.jpg", "cat/record.json", "inner/c.jpeg", "inner/deep/d.webp")
    ]
    files = find_images([photographs / "A.PNG", Path("@list")])
    assert [os.fspath(f) for f in files[1:]] == ["b.jpg", "inner/c.jpeg", "gone.jpg"]


def test_a_list_may_begin_with_a_byte_order_mark(photographs):
    (photographs / "list").write_text("b.jpg\n", encoding="utf-8-sig")

    assert find_images([Path("@list")]) == [Path("b.jpg")]


def test_a_name_with_the_signs_of_a_pattern_or_a_list_is_a_file(photographs):
    for name in ("[a].jpg", "@b"):
        (photographs / name).touch()

    assert [str(f) for f in find_images([Path("[a].jpg"), Path("@b")])] == [
        "[a].jpg",
        "@b",
    ]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("text", r"got '.*text' without any\. Name another folder\."),
        ("out", r"got '.*out' without any\. Pass --recursive to look in the folders"),
        ("*.gif", r"got '.*\*\.gif', which matches no file\. Correct the pattern\."),
    ],
)
def test_what_has_no_image_is_said_with_what_to_do(photographs, word, message):
    with pytest.raises(ValueError, match=message):
        find_images([photographs / word])


def test_a_list_that_is_missing_is_said(photographs):
    with pytest.raises(FileNotFoundError, match=r"after @ must be .* got 'gone'"):
        find_images([Path("@gone")])
