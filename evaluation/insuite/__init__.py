"""The suite's own feature network, trained once without labels (train.py) and committed: the `fd-insuite` protocol.

It is no Inception network and its distance is no FID: it compares records of this suite with each other, on
machines without downloads. Its weights' hash is part of the protocol's identity.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from latticebench.errors import BadInput, Missing
from latticebench.files import sha256

if TYPE_CHECKING:
    from evaluation.insuite.network import Network

WEIGHTS = Path(__file__).with_name("weights.safetensors")
SHA256 = "088c97495cf5b232cd73d846e5b34a4633554d75b2819381c0fbd643794ff8aa"
"""Hash of the committed weights; train.py prints the new one when it makes others."""


def load(path: Path = WEIGHTS) -> "Network":
    """The network in eval mode without gradients: (B, 3, H, W) float in [0, 1] -> (B, 64) float32.

    Raises Missing where the file is absent and BadInput where its hash is not SHA256.
    """
    from safetensors.torch import load_file

    from evaluation.insuite.network import Network

    if not path.is_file():
        raise Missing(f"evaluation/insuite/{path.name} is missing; it is part of the repository: restore it with git")
    found = sha256(path)
    if found != SHA256:
        raise BadInput(f"{path} has sha256 {found}, the fd-insuite protocol needs {SHA256}; restore it with git")
    network = Network()
    network.load_state_dict(load_file(path))
    return network.eval().requires_grad_(False)
