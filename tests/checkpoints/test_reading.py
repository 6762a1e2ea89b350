"""Reading checkpoints without running them, and writing safetensors."""

import argparse
import codecs
import collections
import os
import pickle
import subprocess
import sys
import types
import warnings
import zipfile

import psutil
import pytest
import safetensors.torch
import torch

from latticebench.errors import BadInput
from latticebench.weights import convert, reading
from tests.checkpoints.conftest import pickled

NAMESPACE = ("argparse.Namespace",)


def written(tmp_path, content, name="file.pt", **options):
    path = tmp_path / name
    torch.save(content, path, **options)
    return path


def test_takes_the_first_path_that_exists(tmp_path):
    weight = torch.arange(3.0)
    content = {"trainer": {"gpt": {"w": weight, "step": 7}, "optimizer": {"state": {}}}, "epoch": 4, "ema": None}
    path = written(tmp_path, content)
    tensors, left_out = reading.state_dict(path, (("ema",), ("trainer", "gpt")))
    assert list(tensors) == ["w"] and torch.equal(tensors["w"], weight)
    assert left_out == ["trainer.gpt.step (int)", "trainer.optimizer (dict of 1)", "epoch (int)", "ema (NoneType)"]


def test_a_bare_state_dict_in_the_old_format(tmp_path):
    path = written(tmp_path, {"w": torch.ones(2), "n": 3}, _use_new_zipfile_serialization=False)
    tensors, left_out = reading.state_dict(path, ((),))
    assert list(tensors) == ["w"] and left_out == ["n (int)"]


def test_no_state_dict_there(tmp_path):
    path = written(tmp_path, {"model": {"w": torch.ones(2)}, "epoch": 1})
    with pytest.raises(BadInput, match=r"no state dict at vae, a/b; the file holds model, epoch"):
        reading.state_dict(path, (("vae",), ("a", "b")))


def test_listed_classes_become_stand_ins(tmp_path):
    content = {
        "args": argparse.Namespace(lr=1.0, names=["a"]),
        "counts": collections.defaultdict(list, a=[1]),
        "model": {"w": torch.ones(2)},
    }
    path = written(tmp_path, content)
    with pytest.raises(BadInput, match=r"argparse\.Namespace"):
        reading.state_dict(path, (("model",),))
    tensors, left_out = reading.state_dict(
        path, (("model",),), (*NAMESPACE, "collections.defaultdict", "builtins.list")
    )
    assert list(tensors) == ["w"]
    assert left_out == ["args (argparse.Namespace)", "counts (dict of 1)"]


def test_a_configuration_object_of_a_library_that_is_not_here(tmp_path, monkeypatch):
    module = types.ModuleType("omegaconf.dictconfig")
    module.DictConfig = type("DictConfig", (), {"__module__": "omegaconf.dictconfig"})
    monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
    monkeypatch.setitem(sys.modules, "omegaconf.dictconfig", module)
    config = module.DictConfig()
    config._content = {"lr": 1}
    path = written(tmp_path, {"config": config, "model": {"w": torch.ones(2)}})
    monkeypatch.undo()
    from latticebench.published import npq_vit

    assert list(reading.state_dict(path, (("model",),), npq_vit.STAND_INS)[0]) == ["w"]


class Runs:
    """A pickle that runs a command when it is read."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("old", [False, True])
def test_code_is_refused_and_not_run(tmp_path, old):
    mark = tmp_path / "ran"
    path = written(
        tmp_path,
        {"model": {"w": torch.ones(2)}, "x": Runs(os.mkdir, str(mark))},
        _use_new_zipfile_serialization=not old,
    )
    with pytest.raises(BadInput, match=r"refused: it wants to build .*mkdir|cannot be read"):
        reading.state_dict(path, (("model",),), NAMESPACE)
    assert not mark.exists()


def test_a_listed_name_cannot_be_called_into_being_something_else(tmp_path):
    path = written(tmp_path, {"model": {"w": torch.ones(2)}, "x": Runs(eval, "1 + 1")})
    with pytest.raises(BadInput, match="eval"):
        reading.state_dict(path, (("model",),), NAMESPACE)


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_damaged_files(tmp_path, cut):
    body = pickled({"model": {"w": torch.ones(1000)}})
    path = tmp_path / "file.pt"
    path.write_bytes(body[: len(body) + cut] if cut < 0 else body[:cut])
    with pytest.raises(BadInput, match="delete it and fetch it again"):
        reading.state_dict(path, (("model",),))


def test_a_bare_pickle(tmp_path):
    path = tmp_path / "file.pt"
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(BadInput):
        reading.state_dict(path, ((),))


def rss():
    return psutil.Process().memory_info().rss / 2**20


def repacked(path, kind, members=()):
    """A checkpoint with its members written again, some of them once more."""
    with zipfile.ZipFile(path) as archive:
        content = [(name, archive.read(name)) for name in archive.namelist()]
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", kind) as archive:
        warnings.simplefilter("ignore", UserWarning)  # of names that come twice
        for name, data in [*content, *(pair for pair in content if pair[0].endswith(tuple(members) or ("/",)))]:
            archive.writestr(name, data)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    ("function", "arguments"),
    [(bytearray, (2**30,)), (codecs.encode, ("00" * 50, "hex_codec"))],
    ids=["bytearray", "encode"],
)
def test_functions_that_make_much_of_little_are_refused(tmp_path, old, function, arguments):
    content = {"model": {"w": torch.ones(2)}, "x": Runs(function, *arguments)}
    path = written(tmp_path, content, _use_new_zipfile_serialization=not old)
    before = rss()
    with pytest.raises(BadInput, match=r"it wants to build (builtins\.bytearray|_codecs\.encode)"):
        reading.state_dict(path, (("model",),))
    assert rss() - before < 200


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_a_compressed_member_is_refused_before_it_is_unpacked(tmp_path, kind):
    path = written(tmp_path, {"model": {"w": torch.ones(2)}, "x": "a" * 30_000_000})
    repacked(path, kind)
    assert path.stat().st_size < 2**20
    before = rss()
    with pytest.raises(BadInput, match=r"its member '.*' is compressed.*save it again"):
        reading.state_dict(path, (("model",),))
    assert rss() - before < 20


def test_members_that_share_a_name_or_their_bytes_are_refused(tmp_path):
    path = written(tmp_path, {"model": {"w": torch.ones(2)}})
    repacked(path, zipfile.ZIP_STORED, ["data.pkl"])
    with pytest.raises(BadInput, match="overlap"):
        reading.state_dict(path, (("model",),))


def test_a_number_repeated_without_end_is_refused(tmp_path):
    path = written(tmp_path, {"model": {"w": torch.ones(1).expand(2**40)}})
    with pytest.raises(BadInput, match="its tensors take"):
        reading.state_dict(path, (("model",),))


def test_writes_what_the_library_reads(tmp_path):
    tensors = {
        "a": torch.randn(3, 4),
        "b": torch.randn(5).to(torch.bfloat16),
        "scalar": torch.tensor(7),
        "none": torch.zeros(0, 3),
        "bits": torch.tensor([True, False]),
        "turned": torch.randn(4, 6).t(),
        "double": torch.randn(2, dtype=torch.float64),
    }
    path = tmp_path / "file.safetensors"
    convert.write(path, tensors, {"family": "test"})
    read = safetensors.torch.load_file(path)
    assert set(read) == set(tensors)
    assert all(torch.equal(read[key], value) and read[key].dtype == value.dtype for key, value in tensors.items())
    assert convert.metadata(path) == {"family": "test"}


def test_a_type_that_safetensors_lacks(tmp_path):
    with pytest.raises(BadInput, match="cannot hold"):
        convert.write(tmp_path / "file.safetensors", {"a": torch.zeros(2, dtype=torch.complex64)}, {})
    assert not list(tmp_path.iterdir())


CONVERSION = """
import resource, sys
from pathlib import Path
from latticebench.weights import convert, reading
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
tensors, _ = reading.state_dict(Path(sys.argv[1]), (("vae",),))
convert.write(Path(sys.argv[2]), tensors, {})
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_conversion_needs_less_than_twice_the_file(tmp_path):
    megabytes = 128
    content = {"vae": {str(i): torch.full((2**22,), float(i)) for i in range(megabytes // 16)}}
    path = written(tmp_path, content)
    del content
    done = subprocess.run(
        [sys.executable, "-c", CONVERSION, str(path), str(tmp_path / "out.safetensors")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) / 1024 < 2 * megabytes
    read = safetensors.torch.load_file(tmp_path / "out.safetensors")
    assert all(bool((value == float(key)).all()) for key, value in read.items())
