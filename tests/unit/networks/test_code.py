"""Networks from a function, class names and preprocessing that the caller gives."""

import importlib
import json
import os
import sys
import warnings

import pytest
import torch
from PIL import Image
from torch import nn

from captum_iscam._utils.files import sha256
from captum_iscam._utils.hooks import is_compiled
from captum_iscam.networks import load_classifier
from captum_iscam.networks.classes import read_classes

MODULE = """
import torch
from torch import nn


def make(channels=3, classes=5):
    layers = nn.Conv2d(channels, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Sequential(nn.Dropout(), nn.Linear(4, classes)))


def grey():
    return make(1)


def hyperspectral():
    return make(7)


def with_transform():
    return make(1), lambda image: torch.zeros(1, 20, 30)


def wrong_transform():
    return make(), lambda image: torch.zeros(20, 30)


def raising_transform():
    return make(), lambda image: image.nothing


def double():
    return make().double()


def transform_of_doubles():
    return make(), lambda image: torch.zeros(3, 20, 30).double()


def transform_of_integers():
    return make(), lambda image: torch.zeros(3, 20, 30).byte()


def without_values():
    return make().to("meta")


def quantised():
    quantise = torch.ao.quantization.quantize_dynamic
    return quantise(make(), {nn.Linear}, dtype=torch.qint8)


def not_a_number():
    model = make()
    model[0].weight.data.fill_(float("nan"))
    return model


def number():
    return 3


def nothing():
    pass


def raises():
    raise RuntimeError("no\\nluck")


def maps():
    return nn.Conv2d(3, 4, 3)


class Output:
    def __init__(self, logits):
        self.logits = logits


class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = make()

    def forward(self, x):
        return Output(self.inner(x))


instance = make()


def compiled():
    return torch.compile(make(), backend="eager")


def compiled_in_place():
    model = make()
    model.compile(backend="eager")
    return model


def compiled_in_parts():
    model = make()
    model[0] = torch.compile(model[0], backend="eager")
    model[3].compile(backend="eager")
    return torch.nn.Sequential(torch.compile(model, backend="eager"))


def exported():
    example = torch.zeros(1, 3, 32, 32)
    return torch.export.export(make().eval(), (example,)).module()


class Dropping(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = make()

    def forward(self, x):
        return nn.functional.dropout(self.inner(x), 0.5)


class OfTheBatch(Dropping):
    def forward(self, x):
        return self.inner(x) - self.inner(x).mean(0)


class OneImage(Dropping):
    def forward(self, x):
        return self.inner(x.reshape(1, 3, 32, 32))


def ends():
    raise SystemExit(3)


def moves():
    import os

    os.chdir("/")
    torch.set_grad_enabled(False)
    return make()


def moves_later():
    import os

    class Moving(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = make()

        def forward(self, x):
            os.chdir("/")
            return self.inner(x)

    return Moving()
"""


@pytest.fixture
def code(tmp_path):
    """Writes a module; returns the name of a function in it."""
    file = tmp_path / "net.py"
    file.write_text(MODULE)
    return lambda function: f"{file}:{function}"


def fresh():
    """The model of the module, with other weights."""
    torch.manual_seed(1)
    head = nn.Sequential(nn.Dropout(), nn.Linear(4, 5))
    layers = nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head
    return nn.Sequential(*layers).eval()


def test_a_function_returns_the_model(code):
    network = load_classifier(code("make"))

    assert network.classes == tuple(f"class {i}" for i in range(5))
    assert not network.model.training
    assert network.preprocessing == {
        "resize": 256,
        "crop": 224,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "interpolation": "bilinear",
    }
    assert network.weights == "as returned by its function"
    assert network.source.startswith("net.py, SHA-256 ")


def test_a_head_of_its_own_with_weights_from_a_file(code, tmp_path):
    saved = fresh()
    file = tmp_path / "tuned.pt"
    torch.save({"state_dict": saved.state_dict()}, file)

    network = load_classifier(code("make"), file, classes=["a", "b", "c", "d", "e"])

    x = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(network.model(x), saved(x))
    assert network.classes == ("a", "b", "c", "d", "e")
    assert network.weights == "tuned.pt"
    first = load_classifier(code("make"))
    assert first.sha256 != load_classifier(code("grey"), mean=0, std=1).sha256


def test_weights_of_another_head_are_refused(code, tmp_path):
    state = {**fresh().state_dict(), "3.1.bias": torch.zeros(7)}
    torch.save(state, tmp_path / "other.pt")

    with pytest.raises(ValueError, match=r"weights must fit .*3\.1\.bias \(7,\) inst"):
        load_classifier(code("make"), tmp_path / "other.pt")


def test_a_module_in_the_working_directory(code, tmp_path, monkeypatch):
    package = tmp_path / "its_package_of_networks"
    package.mkdir()
    (package / "nets.py").write_text("from its_helper_of_networks import make\n")
    (tmp_path / "its_helper_of_networks.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["/nowhere"])

    network = load_classifier("its_package_of_networks.nets:make")

    assert len(network.classes) == 5
    (tmp_path / "beside.py").write_text("from its_helper_of_networks import grey\n")
    assert load_classifier(f"{tmp_path / 'beside.py'}:grey", mean=0, std=1)


def test_files_of_one_name_are_two_networks(tmp_path):
    files = [tmp_path / folder / "net.py" for folder in "ab"]
    for classes, file in enumerate(files, 2):
        file.parent.mkdir()
        file.write_text(f"{MODULE}\n\ndef two():\n    return make(3, {classes})\n")

    found = [load_classifier(f"{file}:two") for file in files]

    assert [len(network.classes) for network in found] == [2, 3]


def test_logits_are_unwrapped(code):
    network = load_classifier(code("Wrapped"))

    assert network.model(network.example()).shape == (1, 5)
    assert type(network.model.model).__name__ == "Wrapped"


def test_a_transform_of_its_own(code):
    network = load_classifier(code("with_transform"))

    assert network.example().shape == (1, 1, 20, 30)
    assert set(network.preprocessing) == {
        *("resize", "crop", "mean", "std", "interpolation")
    }
    assert set(network.preprocessing.values()) == {None}
    for option in ({"size": 32}, {"mean": 0.5}, {"std": 0.5}):
        with pytest.raises(ValueError, match="size, mean and std must not be given"):
            load_classifier(code("with_transform"), **option)


def test_one_channel_makes_images_grey(code):
    with pytest.raises(ValueError, match=r"mean must be one number .*, 1 in all, got"):
        load_classifier(code("grey"))

    network = load_classifier(code("grey"), size=32, mean=0.5, std=[0.25])

    inputs = network.transform(Image.new("RGB", (60, 50), "red"))
    assert inputs.shape == (1, 32, 32)
    luma = (76 / 255 - 0.5) / 0.25
    torch.testing.assert_close(inputs, torch.full((1, 32, 32), luma))
    assert network.preprocessing["mean"] == [0.5]
    assert network.preprocessing["resize"] == 37


@pytest.mark.parametrize(
    ("function", "inside"),
    [("compiled", ""), ("compiled_in_place", ""), ("compiled_in_parts", "0.")],
)
def test_a_compiled_model_has_the_layers_of_its_module(code, function, inside):
    plain = load_classifier(code("make"), size=32).model
    with pytest.warns(UserWarning, match=f"{function} is run without torch.compile"):
        model = load_classifier(code(function), size=32).model

    names = [name for name, _ in plain.named_modules() if name]
    assert [n for n, _ in model.named_modules()][1 + bool(inside) :] == [
        inside + name for name in names
    ]
    assert not is_compiled(model)
    x = torch.rand(1, 3, 32, 32)
    plain.load_state_dict(
        {key.removeprefix(inside): v for key, v in model.state_dict().items()}
    )
    assert torch.equal(model(x), plain(x))


@pytest.mark.parametrize("function", ["Dropping", "OfTheBatch"])
def test_a_model_whose_output_is_not_that_of_the_image_alone_is_said(code, function):
    with pytest.warns(UserWarning, match=f"The outputs of .*{function} for an image"):
        load_classifier(code(function), size=32)


@pytest.mark.parametrize("function", ["make", "OneImage", "Wrapped"])
def test_a_model_whose_output_is_that_of_the_image_is_not(code, function):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_classifier(code(function), size=32)


def test_a_model_of_no_numbers_is_not_said_to_change(code):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_classifier(code("not_a_number"), size=32)


@pytest.mark.filterwarnings("ignore:.*quantiz")
def test_a_quantised_model_has_a_digest_of_its_weights(code):
    first, again = (load_classifier(code("quantised"), size=32) for _ in range(2))

    assert len(first.sha256) == 64
    assert first.sha256 != again.sha256  # other random weights


@pytest.mark.parametrize("function", ["moves", "moves_later"])
def test_a_function_that_changes_the_working_directory(
    code, function, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)

    load_classifier(code(function), size=32)

    assert os.getcwd() == str(tmp_path)
    assert torch.is_grad_enabled()


def test_a_file_that_ends_the_program_is_refused(tmp_path):
    (tmp_path / "ends.py").write_text("raise SystemExit(0)\n")

    with pytest.raises(ValueError, match=r"imported, .* \(RuntimeError: SystemExit: 0"):
        load_classifier(f"{tmp_path / 'ends.py'}:make")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("mak", r"must name a function .*Functions there: make.*\. Write FILE"),
        ("instance", "must name a function of its module"),
        ("number", "which returns int"),
        ("nothing", "which returns None"),
        ("raises", r"which raised RuntimeError: no luck\. Correct it"),
        ("ends", r"which raised RuntimeError: SystemExit: 3\. Correct it"),
        ("exported", r"set to evaluation mode, .*Return the module before"),
        ("maps", r"one row of class scores .* got the shape \(1, 4, 222, 222\)"),
        ("hyperspectral", "images of 1 or 3 channels, got a first .* 7 channels"),
        (
            "wrong_transform",
            r"tensors \(3, H, W\) or \(1, H, W\), got \(30,\)|\(20, 30",
        ),
        ("raising_transform", "got AttributeError.* Correct it"),
        ("double", r"its inputs, torch\.float32, got torch\.float64 .*model\.float"),
        ("transform_of_doubles", r"torch\.float64, got torch\.float32 .*transform"),
        ("transform_of_integers", r"torch\.uint8, got torch\.float32 .*transform"),
        ("without_values", "parameters with values, got some on the device meta"),
    ],
)
def test_what_is_no_model_is_one_line(code, function, said):
    with pytest.raises(ValueError, match=said) as caught:
        load_classifier(code(function))

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        (
            "tim:resnet18",
            ValueError,
            r"begin with timm:, hf:, FILE\.py: or the name",
        ),
        ("google/vit:x", ValueError, "there is no module 'google/vit'"),
        ("gone.py:make", FileNotFoundError, r"existing file, got 'gone\.py:make'"),
        ("gone.py", ValueError, r"must name a function, got 'gone\.py'\. Write FILE"),
        (":make", ValueError, "must name a function, got ':make'"),
        ("json:", ValueError, "must name a function, got 'json:'"),
        ("json:load", ValueError, "which raised TypeError"),
        ("google/vit", ValueError, "hf:NAME or hf:FOLDER of Hugging Face"),
    ],
)
def test_a_name_that_leads_nowhere_says_what_does(name, kind, said):
    with pytest.raises(kind, match=said):
        load_classifier(name)


def test_a_file_that_cannot_be_imported(tmp_path):
    file = tmp_path / "broken.py"
    file.write_text("import no_such_library_at_all\n")

    with pytest.raises(ValueError, match=r"code that can be imported, .*no_such_lib"):
        load_classifier(f"{file}:make")


FORMS = {
    "lines.txt": "ant\nbee\ncat\ndog\nelk\n",
    "table.csv": 'class,name\n1,bee\n0,ant\n2,"cat"\n4,elk\n3,dog\n',
    "headless.csv": "0;ant\n1; bee\n2;cat\n3;dog\n4;elk\n",
    "spaces.txt": "0 ant\n1 bee\n2 cat\n3 dog\n4 elk\n",
    "dots.txt": "0. ant\n1. bee\n2. cat\n3. dog\n4. elk\n",
    "colons.txt": "0: ant\n1: bee\n2: cat\n3: dog\n4: elk\n",
    "tabs.tsv": "ant\t0\nbee\t1\ndog\t3\ncat\t2\nelk\t4\n",
    "quoted.csv": '"0","ant"\n"1","bee"\n"2","cat"\n"3","dog"\n"4","elk"\n',
    "quoted_last.csv": '"","x"\n"ant","0"\n"bee","1"\n"cat","2"\n"dog","3"\n"elk","4"',
    "quoted.txt": '"ant"\n"bee"\n"cat"\n"dog"\n"elk"\n',
    "python.txt": "'ant',\n  'bee',\n  'cat',\n  'dog',\n  'elk'\n",
    "script.txt": '"ant",\n"bee",\n"cat",\n"dog",\n"elk",\n',
    "commas.txt": "ant,\nbee,\ncat,\ndog,\nelk\n",
    "dict.txt": "0: 'ant',\n1: 'bee',\n2: 'cat',\n3: 'dog',\n4: 'elk',\n",
    "dict_last.txt": "'bee': 1,\n'ant': 0,\n'cat': 2,\n'dog': 3,\n'elk': 4,\n",
    "places.txt": "bee 1\nant 0\ncat 2\ndog 3\nelk 4\n",
    "last.yaml": "bee: 1\nant: 0\ncat: 2\ndog: 3\nelk: 4\n",
    "list.yaml": "- ant\n- bee\n- cat\n- dog\n- elk\n",
    "floats.csv": "0.0,ant\n1.0,bee\n2.0,cat\n3.0,dog\n4.0,elk\n",
    "single.csv": "0,'ant'\n1,'bee'\n2,'cat'\n3,'dog'\n4,'elk'\n",
    "list.json": '["ant", "bee", "cat", "dog", "elk"]',
    "by_index.json": '{"1": "bee", "0": "ant", "2": "cat", "4": "elk", "3": "dog"}',
    "by_name.json": '{"bee": 1, "ant": 0, "cat": 2, "elk": 4, "dog": 3}',
    "wordnet.json": '{"0": ["n1", "ant"], "1": ["n2", "bee"], "2": ["n3", "cat"], '
    '"3": ["n4", "dog"], "4": ["n5", "elk"]}',
    "config.json": '{"hidden_size": 8, "id2label": {"0": "ant", "1": "bee", '
    '"2": "cat", "3": "dog", "4": "elk"}}',
    "no_suffix": '\ufeff["ant", "bee", "cat", "dog", "elk"]',
}


@pytest.mark.parametrize("form", FORMS)
def test_names_of_classes_from_a_file(code, tmp_path, form):
    (tmp_path / form).write_text(FORMS[form], encoding="utf-8")

    network = load_classifier(code("make"), classes=tmp_path / form)

    assert network.classes == ("ant", "bee", "cat", "dog", "elk")


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        # As in a list of code: names with commas and marks of quotation.
        (
            ['"tench, Tinca tinca",', '"12\\" disc",', "'it\\'s',", '"a ""b"""'],
            ["tench, Tinca tinca", '12" disc', "it's", 'a "b"'],
        ),
        # What not all lines have belongs to the names.
        (["tench, Tinca tinca", "goldfish, Carassius", "shark,", "ray"], None),
        (['"tench"', "goldfish", "shark", "ray"], None),
        (['"tench",', "goldfish", "shark", "ray"], None),
        (["'s-Graven", "d'Or", "it's", "'"], None),
        (['"a" and "b"', '"c" or "d"', '"e"', '"f"'], None),
        (["ratio 4:3", "ratio 1:1", "in 16:9", "in 2:1"], None),
    ],
)
def test_quotes_and_commas_go_where_all_lines_have_them(tmp_path, lines, names):
    file = tmp_path / "names.txt"
    file.write_text("\n".join(lines))

    assert read_classes(file) == tuple(names or lines)


@pytest.mark.parametrize(
    "lines",
    [
        ["20 km/h", "30 km/h", "50 km/h", "stop", "yield"],
        list("13579"),
        [f"class {i}" for i in range(5)],
        ["Boeing 717", "Boeing 727", "Airbus 318", "Airbus 319", "DC 3"],
    ],
)
def test_names_of_classes_may_have_numbers(code, tmp_path, lines):
    (tmp_path / "names.txt").write_text("\n".join(lines))

    network = load_classifier(code("make"), classes=tmp_path / "names.txt")

    assert network.classes == tuple(lines)


@pytest.mark.parametrize("line", ["{} {}", "{1} {0}"])
def test_two_classes_of_one_name_have_indices(tmp_path, line):
    names = ("crane", "maillot", "crane")
    lines = [line.format(*numbered) for numbered in enumerate(names)]
    (tmp_path / "names.txt").write_text("\n".join(lines))

    assert read_classes(tmp_path / "names.txt") == names


def test_names_of_classes_from_folders(code, tmp_path):
    for name in ("elk", "bee", "cat", "ant", "dog", ".hidden"):
        (tmp_path / "train" / name).mkdir(parents=True)
    (tmp_path / "train" / "notes.txt").write_text("no class")

    network = load_classifier(code("make"), classes=str(tmp_path / "train"))

    assert network.classes == ("ant", "bee", "cat", "dog", "elk")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a\nb\nc\n", r"got 3 names \(a, b, c, \.\.\.\) and 5 outputs"),
        ("a\n\nc\nd\ne", "5 names, 1 of them empty"),
        ("", "got 0 names"),
        ('["a", 3]', "neither a list nor an object"),
        ('{"0": "a", "2": "b"}', "indices are not 0 to 1"),
        ('{"a": 0, "b": 0}', "indices are not 0 to 1"),
        ('{"0": "a", "0": "b"}', "'0' is there twice"),
        ('{"a": 0, "b": 1, "a": 2}', "'a' is there twice"),
        ('{"a": [0]}', "indices are not 0 to 0"),
        ("[", "must be a file of names"),
        ("1,a\n2,b\n3,c\n4,d\n5,e", r"indices are not 0 to 4, once each\).*\(0,cat\)"),
        ("1 a\n2 b\n3 c\n4 d\n5 e", "indices are not 0 to 4, once each"),
        ("0,a\n1,b\n1,c\n3,d\n4,e", "indices are not 0 to 4, once each"),
        ("0,x,a\n1,y,b\n2,z,c\n3,x,d\n4,x,e", "'0,x,a' has more than an index"),
        ("0,a\nb\n2,c\n3,d\n4,e", "'0,a' has an index, 'b' has none"),
        ("a,0\nb,1\nc\nd,3\ne,4", "'a,0' has an index, 'c' has none"),
        ("0,\n1,\n2,\n3,\n4,", "5 names, 5 of them empty"),
    ],
)
def test_names_that_do_not_fit_are_refused(code, tmp_path, content, said):
    file = tmp_path / "names.txt"
    file.write_text(content)

    with pytest.raises(ValueError, match=rf"classes .*{said}"):
        load_classifier(code("make"), classes=file)


@pytest.mark.parametrize("argument", ["classes", "weights"])
def test_a_pipe_is_not_read(code, tmp_path, argument):
    os.mkfifo(tmp_path / "pipe.pt")

    with pytest.raises(FileNotFoundError, match=r"a pipe .* Only regular files"):
        load_classifier(code("make"), **{argument: tmp_path / "pipe.pt"})


def test_a_file_of_names_that_is_missing(code, tmp_path):
    with pytest.raises(FileNotFoundError, match="classes must be an existing file"):
        load_classifier(code("make"), classes=tmp_path / "gone.txt")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"size": 0}, "size must be an integer of at least 1"),
        ({"size": 100_000_000}, "size must be at most 10000, got 100000000"),
        (
            {"size": 2},
            r"\(1, 3, 2, 2\), got .* which raised RuntimeError: .*another",
        ),
        ({"mean": [0.5, 0.5]}, "mean must be one number or one for each channel"),
        ({"mean": float("nan")}, "mean must be"),
        ({"std": [0.1, "x", 0.1]}, "std must be"),
        ({"std": 0}, "std must be above 0, got 0"),
    ],
)
def test_preprocessing_that_does_not_fit_is_refused(code, option, said):
    with pytest.raises(ValueError, match=said):
        load_classifier(code("make"), **option)


def test_names_that_are_json_can_be_written_back(code):
    network = load_classifier(code("make"), size=96, std=0.5)

    assert json.loads(json.dumps(network.preprocessing)) == network.preprocessing


def write_code(folder, factor):
    """Writes a network whose forward, with this factor, is in a file next to it."""
    folder.mkdir(exist_ok=True)
    (folder / "neighbour_of_net.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Module):\n"
        "    def forward(self, x):\n"
        f"        return {factor} * x.mean((2, 3))\n"
    )
    (folder / "net.py").write_text("from neighbour_of_net import Net as make\n")
    return f"{folder / 'net.py'}:make"


def loaded_anew(name):
    """The network, as another process would load it."""
    for module in [m for m in sys.modules if "neighbour_of_net" in m]:
        del sys.modules[module]
    for module in [m for m in sys.modules if m.startswith("captum_iscam_network")]:
        del sys.modules[module]
    importlib.invalidate_caches()
    return load_classifier(name)


def test_changed_code_that_is_imported_changes_the_digest(tmp_path):
    name = write_code(tmp_path / "a", 1)
    before = loaded_anew(name).source
    assert before == loaded_anew(name).source
    assert before.startswith("net.py + neighbour_of_net.py, SHA-256 ")
    moved = write_code(tmp_path / "b", 1)
    assert loaded_anew(moved).source == before

    write_code(tmp_path / "a", 10)
    assert loaded_anew(name).source != before


def test_changed_code_of_a_package_changes_the_digest(tmp_path, monkeypatch):
    write_code(tmp_path / "package_of_nets", 1)
    (tmp_path / "package_of_nets" / "net.py").write_text(
        "from package_of_nets.neighbour_of_net import Net as make\n"
    )
    monkeypatch.chdir(tmp_path)
    before = loaded_anew("package_of_nets.net:make").source
    assert before.startswith("net.py + neighbour_of_net.py, SHA-256 ")

    with (tmp_path / "package_of_nets" / "neighbour_of_net.py").open("a") as file:
        file.write("# changed\n")
    sys.modules.pop("package_of_nets.net")
    assert loaded_anew("package_of_nets.net:make").source != before


def test_code_of_two_folders_imports_what_is_next_to_each(tmp_path):
    first, second = write_code(tmp_path / "a", 1), write_code(tmp_path / "b", 10)
    x = torch.rand(1, 3, 4, 4)

    outputs = [load_classifier(name).model(x) for name in (first, second)]

    torch.testing.assert_close(outputs[1], 10 * outputs[0])


def test_a_file_that_was_edited_is_read_again(tmp_path):
    file = tmp_path / "mine.py"
    for places in ("[0, 1]", "[1, 0]"):  # of one size, in one second
        file.write_text(
            "import torch\n\n\nclass Net(torch.nn.Module):\n"
            f"    def forward(self, x):\n        return x.mean((2, 3))[:, {places}]\n"
            "\n\ndef make():\n    return Net().eval()\n"
        )

        network = load_classifier(f"{file}:make")

        x = torch.arange(2.0).view(1, 2, 1, 1)
        assert network.model(x).tolist() == [eval(places)]
        assert sha256(file) in network.source
    assert load_classifier(f"{file}:make").model.__class__ is network.model.__class__
