"""A door for torch-fidelity: the suite's own network in its extractor registry.

After `register()`, `torch_fidelity.calculate_metrics(feature_extractor="latticebench-insuite", fid=True, …)` computes
with it. torch-fidelity is imported when asked for: it takes seconds.
"""

import functools

NAME = "latticebench-insuite"


@functools.cache
def register() -> str:
    """Registers the network once a process and returns the name under which torch-fidelity knows it."""
    import torch
    from torch import Tensor
    from torch_fidelity import FeatureExtractorBase, register_feature_extractor

    from evaluation import insuite
    from evaluation.insuite.network import FEATURES

    class Insuite(FeatureExtractorBase):
        """uint8 (B, 3, H, W) -> the 64 features of `fd-insuite`."""

        def __init__(self, name: str, features_list: list[str], **options: object) -> None:
            super().__init__(name, features_list)
            self.network = insuite.load()

        def forward(self, images: Tensor) -> tuple[Tensor]:
            return (self.network(images.float() / 255),)

        @staticmethod
        def get_provided_features_list() -> tuple[str]:
            return (str(FEATURES),)

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return str(FEATURES)

        @staticmethod
        def can_be_compiled() -> bool:
            return True

        @staticmethod
        def get_dummy_input_for_compile() -> tuple[Tensor]:
            return (torch.zeros(1, 3, 64, 64, dtype=torch.uint8),)

    register_feature_extractor(NAME, Insuite)
    return NAME
