"""`latticebench` and `evaluation` import without the packages that only one door needs."""

import subprocess
import sys

SCRIPT = """
import importlib, pkgutil, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"snakemake", "lpips", "torch_fidelity"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
count = 0
for package in ("latticebench", "evaluation"):
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
            count += 1
print(count)
"""


UNTOUCHED = """
import importlib, pkgutil, types

import torch, torchvision
from torch import nn

def settings():
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    found = {
        "threads": torch.get_num_threads(), "dtype": torch.get_default_dtype(), "grad": torch.is_grad_enabled(),
        "precision": torch.get_float32_matmul_precision(), "tf32": (matmul.allow_tf32, cudnn.allow_tf32),
        "cudnn": (cudnn.benchmark, cudnn.deterministic), "algorithms": torch.are_deterministic_algorithms_enabled(),
        "seed": torch.initial_seed(),
    }
    for place in (nn.init, nn.functional, nn.Module, nn.Linear, nn.Conv2d, nn.Embedding, nn.LayerNorm, nn.GroupNorm):
        functions = {key: value for key, value in vars(place).items() if isinstance(value, types.FunctionType)}
        found |= {f"{place.__name__}.{key}": id(value) for key, value in functions.items()}
    return found

before = settings()
for package in ("latticebench", "evaluation"):
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
for name in ("lpips", "torch_fidelity", "torch_fidelity.feature_extractor_inceptionv3", "torchmetrics"):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        print("absent", name)
after = settings()
print(len(before), sorted(key for key in before if after.get(key) != before[key]))
"""


def test_no_import_changes_torch() -> None:
    """Neither ours nor those of the judge's libraries patch initialisers, threads or TF32 flags."""
    result = subprocess.run([sys.executable, "-c", UNTOUCHED], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    count, changed = result.stdout.strip().splitlines()[-1].split(" ", 1)
    assert int(count) > 100 and changed == "[]", changed


def test_every_module_imports_without_the_optional_packages() -> None:
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 50
