"""Protocols as data: a metric is a name, a version and every choice that moves the number.

Two numbers share a column only if their protocols are equal. `protocol_id(metric)` is the identity that a
record carries; `check_column` refuses a mixed column. docs/protocols.md is `document()`'s text.
"""

import dataclasses
from collections.abc import Iterable

from evaluation.metrics import METRICS
from latticebench.errors import BadInput


@dataclasses.dataclass(frozen=True)
class Protocol:
    """name: without the version. metrics: keys of METRICS that it measures. choices: what moves the number.

    comparable: whom the number can stand beside. weights: the name of the weights file that it needs, if any;
    where `identified` is set, the weights' hash is part of the protocol's identity in records.
    """

    name: str
    version: int
    metrics: tuple[str, ...]
    choices: dict[str, str | int | float]
    comparable: str
    weights: str | None = None
    identified: bool = False

    @property
    def id(self) -> str:
        return f"{self.name}-v{self.version}"


_UINT8 = {"door": "clamped to [0, 1], times 255, rounded half to even to uint8"}
_PAIRS = {"reference": "the evaluation split's own prepared images, image by image"}
_INCEPTION = {
    "network": "FID Inception of 2015-12-05 (TensorFlow graph converted by torch-fidelity), not torchvision's",
    "features": "pool3, 2048",
}
_FRECHET = {
    "covariance": "N − 1, float64",
    "algebra": "symmetric square roots, singular values, float64",
    "minimum": "more images than dimensions, unless asked",
}
_PYTORCH_FID = {
    "resize": "299 x 299, bilinear, half-pixel centres, no antialiasing (pytorch-fid)",
    "scaling": "2x − 1 for x in [0, 1]",
}
_TF1 = {
    "resize": "299 x 299, bilinear, TF1 (no half-pixel centres)",
    "scaling": "(x − 128)/128 for x in 0..255",
}
_TRAINING = {
    "reference": "the training split's prepared images, centre crops of the samples' size, at most 50,000 evenly spread"
}
_ADM = {"reference": "ADM's VIRTUAL batch of the training set (moments; 10,000 images for precision and recall)"}
_SSIM = {
    "window": "Gaussian, 11 x 11, sigma 1.5",
    "constants": "K1 = 0.01, K2 = 0.03",
    "data_range": 255,
    "covariance": "population (no sample correction)",
    "border": "windows wholly inside the image",
    "channels": "mean of R, G and B",
}
_LPIPS = {"version": "0.1", "scaling": "2x − 1 for x in [0, 1]", "resize": "none", "aggregate": "mean of images"}

_CODED = {
    "formula": "8 x bytes of the token file / pixels of the image",
    "file": "format 1: header of 24 bytes, checksum of 4, range-coded tokens (docs/compression.md)",
    "aggregate": "mean over images",
    "size": "tiles of the tokenizer's image size, the last row and column padded with the edge",
}
_PRIORS = {
    "uniform": "every code equally likely",
    "static": "frequencies of the training tokens, absolute discounting, an escape for unseen codes",
    "network": "raster transformer trained on the training tokens, evaluated in exact integers, each tile by itself",
}

_ALL = (
    Protocol(
        "psnr",
        1,
        ("psnr", "psnr_gain"),
        {
            **_UINT8,
            **_PAIRS,
            "data_range": 255,
            "aggregate": "PSNR of each image over its three channels, then the mean over images",
            "identical": "an identical pair counts as one grey level of error in a single sample of the image",
        },
        "Papers that average PSNR per image on 8-bit images (npq-vit, BSQ). Not with a PSNR of the mean squared "
        "error of a batch or a data set, which lies lower, nor with one of un-rounded floats.",
    ),
    Protocol(
        "ssim",
        1,
        ("ssim",),
        {**_UINT8, **_PAIRS, **_SSIM, "aggregate": "mean over windows, channels, images"},
        "scikit-image's structural_similarity with gaussian_weights, sigma 1.5, use_sample_covariance=False and "
        "data_range=255; Wang et al. 2004 on colour channels. Not with scikit-image's default uniform 7 x 7 window, "
        "nor with SSIM of the luma alone.",
    ),
    Protocol(
        "ms-ssim",
        1,
        ("ms_ssim",),
        {
            **_UINT8,
            **_PAIRS,
            **_SSIM,
            "scales": "5, weights 0.0448 0.2856 0.3001 0.2363 0.1333",
            "downsampling": "2 x 2 mean, odd sides padded with zeros that count (pytorch-msssim)",
            "negative": "contrast terms below zero become zero",
            "minimum": "sides above 160 px",
        },
        "Wang, Simoncelli and Bovik 2003 as pytorch-msssim and the learned-compression papers compute it, on RGB.",
    ),
    Protocol(
        "lpips-alex",
        1,
        ("lpips_alex",),
        {**_UINT8, **_PAIRS, **_LPIPS, "network": "AlexNet trunk (torchvision 7be5be79), lpips 0.1 heads"},
        "Papers that state LPIPS with AlexNet; the tables of BSQ and npq-vit. Never with the VGG variant.",
        weights="lpips-alex",
    ),
    Protocol(
        "lpips-vgg",
        1,
        ("lpips_vgg",),
        {**_UINT8, **_PAIRS, **_LPIPS, "network": "VGG-16 trunk (torchvision 397923af), lpips 0.1 heads"},
        "Papers that state LPIPS with VGG, often those that train with it. Never with the AlexNet variant.",
        weights="lpips-vgg",
    ),
    Protocol(
        "rfid-npq-float",
        1,
        ("rfid_float",),
        {
            "door": "un-rounded floats clamped to [0, 1]; the one protocol that takes floats",
            **_PAIRS,
            **_INCEPTION,
            **_PYTORCH_FID,
            **_FRECHET,
        },
        "The rFID columns of BSQ and of the Λ24 tables (npq-vit), computed on validation crops with pytorch-fid's "
        "network from un-rounded decoder outputs.",
        weights="inception",
    ),
    Protocol(
        "rfid-inception",
        1,
        ("rfid",),
        {**_UINT8, **_PAIRS, **_INCEPTION, **_PYTORCH_FID, **_FRECHET},
        "rfid-npq-float-v1 in everything but rounding to uint8, which every real image goes through; also numbers "
        "that pytorch-fid prints for folders of PNGs of prepared crops.",
        weights="inception",
    ),
    Protocol(
        "rfid-adm",
        1,
        ("rfid_adm",),
        {
            **_UINT8,
            "reference": "moments of the training set, not of the evaluation split",
            **_INCEPTION,
            **_TF1,
            **_FRECHET,
        },
        "rFIDs computed by ADM's evaluator against its training batch. Not with an rFID against validation crops: "
        "the two differ by the distance between the training and validation sets.",
        weights="inception",
    ),
    Protocol(
        "gfid-adm",
        1,
        ("gfid",),
        {
            **_UINT8,
            **_ADM,
            **_INCEPTION,
            **_TF1,
            **_FRECHET,
            "samples": "50,000 in a seeded shuffled order",
        },
        "Class-conditional ImageNet gFIDs computed by ADM's evaluator (guided-diffusion), which most generation "
        "papers use.",
        weights="inception",
    ),
    Protocol(
        "sfid-adm",
        1,
        ("sfid",),
        {
            **_UINT8,
            **_ADM,
            **_INCEPTION,
            **_TF1,
            **_FRECHET,
            "features": "first 7 channels of mixed_6/conv (17 x 17), 2023",
            "samples": "50,000 in a seeded shuffled order",
        },
        "sFIDs of ADM's evaluator (Nash et al. 2021).",
        weights="inception",
    ),
    Protocol(
        "fd-insuite",
        1,
        ("fd_insuite", "fd_insuite_infinite"),
        {
            **_UINT8,
            **_PAIRS,
            **_FRECHET,
            "network": "the suite's own self-supervised network (evaluation/insuite), at most 64 features",
            "scaling": "x in [0, 1]; resized inside the network",
        },
        "Only with itself: other records of this suite with the same weights hash, split and N. It is not an FID.",
        weights="insuite",
        identified=True,
    ),
    Protocol(
        "fd-insuite-generation",
        1,
        ("fd_insuite_generation",),
        {
            **_UINT8,
            **_TRAINING,
            **_FRECHET,
            "network": "the suite's own self-supervised network (evaluation/insuite), at most 64 features",
            "scaling": "x in [0, 1]; resized inside the network",
            "samples": "as many as the configuration says, in a seeded shuffled order",
        },
        "Only with itself: other records of this suite with the same weights hash, training images and number of "
        "samples. It is not a gFID.",
        weights="insuite",
        identified=True,
    ),
    Protocol(
        "prc-insuite",
        1,
        ("precision_insuite", "recall_insuite"),
        {
            **_UINT8,
            **_TRAINING,
            "network": "the suite's own self-supervised network (evaluation/insuite), at most 64 features",
            "k": 3,
            "sides": "precision: samples inside the training images' manifold; recall: the reverse",
        },
        "Only with itself at the same numbers of samples and training images: a frontier of one generator's settings.",
        weights="insuite",
        identified=True,
    ),
    Protocol(
        "bits-per-token",
        1,
        ("bits_per_token", "bits_per_token_shuffled_labels", "bits_per_pixel"),
        {
            "formula": "−log2 of the model's probability of an image's tokens / tokens (or pixels), mean over images",
            "tokens": "of the evaluation split, all scales",
            "class": "the image's own; shuffled: that of another image, mean over 4 seeded permutations",
            "constrained codes": "of a factorised head: its joint over the codes alone, which samples are drawn from",
        },
        "Models of the tokens of one tokenizer on the same images. Per pixel also across tokenizers, beside their "
        "distortion.",
    ),
    Protocol(
        "bits-per-token-static",
        1,
        ("bits_per_token_static",),
        {
            "formula": "−log2 of the probability of an image's tokens / tokens, mean over images",
            "prior": _PRIORS["static"] + "; all extracted views",
            "tokens": "of the evaluation split, all scales",
        },
        "bits-per-token of the same tokenizer on the same images.",
    ),
    Protocol(
        "frequency-ratio",
        1,
        ("frequency_ratio_samples", "frequency_ratio_data"),
        {
            "formula": "count of the most used code / count of the least used of the used codes",
            "tokens": "of all samples; of the data: as many of the training split, the first view of evenly spread images",
        },
        "At the same number of tokens of the same codebook (after Figure 4 of arXiv:2512.14697).",
    ),
    Protocol(
        "fd-dinov2",
        1,
        ("fd_dinov2",),
        {
            **_UINT8,
            **_PAIRS,
            **_FRECHET,
            "network": "DINOv2 ViT-L/14 without registers, class token after the last norm, 1024",
            "resize": "224 x 224, PIL bicubic on uint8 (dgm-eval)",
            "scaling": "ImageNet mean and standard deviation",
            "positions": "37 x 37 to 16 x 16, bicubic, DINOv2's offset of 0.1",
        },
        "Stein et al. 2023 (FD-DINOv2) at equal N.",
        weights="dinov2",
    ),
    Protocol(
        "is",
        1,
        ("inception_score",),
        {
            **_UINT8,
            **_INCEPTION,
            **_TF1,
            "features": "logits without the bias, 1008",
            "order": "seeded shuffle (2020), then 10 consecutive splits, their mean (torch-fidelity)",
        },
        "Inception scores of torch-fidelity. Those of ADM's evaluator are is-adm-v1.",
        weights="inception",
    ),
    Protocol(
        "is-adm",
        1,
        ("is_adm",),
        {
            **_UINT8,
            **_INCEPTION,
            **_TF1,
            "features": "logits without the bias, softmax over 1008",
            "order": "as stored, consecutive splits of 5,000 (the last may be shorter), their mean",
            "samples": "50,000 in a seeded shuffled order",
        },
        "Inception scores of ADM's evaluator on samples stored in a shuffled order; in class order they are far lower.",
        weights="inception",
    ),
    Protocol(
        "prc-adm",
        1,
        ("precision_adm", "recall_adm"),
        {
            **_UINT8,
            **_INCEPTION,
            **_TF1,
            "reference": "the images of ADM's VIRTUAL batch, 10,000",
            "k": 3,
            "distance": "squared, half precision, float32 where that overflows; inside includes the rim",
            "sides": "precision: samples inside the reference's manifold; recall: the reverse",
            "samples": "50,000",
        },
        "Precision and recall of ADM's evaluator (guided-diffusion), which most generation papers use.",
        weights="inception",
    ),
    Protocol(
        "prc",
        1,
        ("precision", "recall"),
        {
            **_UINT8,
            **_INCEPTION,
            **_TF1,
            "k": 3,
            "sides": "precision: judged images inside the reference's manifold; recall: the reverse",
            "samples": "all images of both sides, whose numbers the record states",
        },
        "Kynkäänniemi et al. 2019 with Inception features, as torch-fidelity computes it; at equal N on both sides. "
        "Those of ADM's evaluator are prc-adm-v1.",
        weights="inception",
    ),
    Protocol(
        "kid",
        1,
        ("kid",),
        {
            **_UINT8,
            **_INCEPTION,
            **_TF1,
            "kernel": "(x·y/d + 1)^3, unbiased estimate",
            "subsets": "100 of 1000 images, seed 2020, their mean (torch-fidelity)",
        },
        "torch-fidelity's KID with its defaults; other libraries' where they draw subsets of 1000.",
        weights="inception",
    ),
    Protocol(
        "usage",
        1,
        (
            "codebook_size",
            "tokens",
            "codes_used",
            "usage",
            "expected_usage",
            "relative_usage",
            "perplexity",
            "entropy_bits",
            "max_frequency",
            "min_frequency",
        ),
        {
            "tokens": "every token of the whole evaluation split, their number stated",
            "entropy": "plug-in, bits",
            "expected": "1 − (1 − 1/K)^tokens",
            "frequencies": "of the used codes only",
        },
        "Usage at the same number of tokens only: a queue of the last 65,536 tokens cannot show more than 33% of "
        "196,560 codes.",
    ),
    Protocol(
        "latents",
        1,
        ("latent_error", "latent_error_best_length", "learned_delta_min"),
        {
            "latents": "of 64 images spread over the evaluation split, as the quantizer is given them",
            "length": "latents brought to unit length where the method does it",
            "distance": "all pairs of at most 2^16 codes; of learned codebooks only",
        },
        "One codebook with its own latents: every tokenizer's latents are other ones.",
    ),
    Protocol(
        "geometry",
        1,
        (
            "dim",
            "bits",
            "delta_min",
            "delta_angle",
            "delta_bound",
            "mse_unit",
            "mse_best_radius",
            "mse_bound",
            "mse_gap_db",
            "covering_angle",
            "use_entropy_bits",
        ),
        {
            "source": "directions uniform on the sphere; times √d where the method doesn't normalise",
            "length": "code vectors brought to unit length where all have one length",
            "entropy": "plug-in plus Miller–Madow, bits, at 4 K directions or more",
            "covering": "lower bound: ascent from the farthest directions",
        },
        "Other tables of smallest distances at unit length (arXiv:2512.14697, Table 4).",
    ),
    Protocol(
        "ceil-bpp",
        1,
        ("ceil_bpp",),
        {"formula": "tokens x ceil(log2 K) / pixels"},
        "Papers that count whole bits a token.",
    ),
    Protocol(
        "nominal-bpp",
        1,
        ("nominal_bpp",),
        {"formula": "tokens x log2 K / pixels"},
        "Papers that state log2 K bits a token.",
    ),
    Protocol(
        "entropy-bpp",
        1,
        ("entropy_bpp",),
        {"formula": "tokens x empirical entropy / pixels", "entropy": "plug-in over the whole evaluation split"},
        "A bound for a static coder that knows the split's own frequencies; nobody's coded bytes.",
    ),
    Protocol(
        "prior-bpp",
        1,
        ("prior_bpp",),
        {"formula": "−log2 of the prior's probability of the tokens / pixels"},
        "Cross-entropies of priors trained on the same data.",
    ),
    Protocol(
        "bpp",
        1,
        ("bpp",),
        {"formula": "8 x bytes of the coded file, headers included / pixels", "aggregate": "mean over images"},
        "Codecs whose files were written and read back.",
    ),
    *(
        Protocol(
            f"bpp-{kind}",
            1,
            (f"bpp_{kind}",),
            {**_CODED, "prior": prior},
            "Codecs whose files were written and read back, headers included.",
        )
        for kind, prior in _PRIORS.items()
    ),
    *(
        Protocol(
            f"prior-bpp-{kind}",
            1,
            (f"prior_bpp_{kind}",),
            {
                "formula": "−log2 of the probability of the image's tokens / its pixels, mean over images",
                "prior": prior,
            },
            "Cross-entropies of priors of the same kind.",
        )
        for kind, prior in _PRIORS.items()
    ),
    *(
        Protocol(
            f"verified-{kind}",
            1,
            (f"verified_{kind}",),
            {
                "formula": "files whose tokens a fresh process decodes from file, tokenizer and prior alone",
                "prior": prior,
            },
            "Equal to the number of coded files, or the stage fails.",
        )
        for kind, prior in _PRIORS.items()
    ),
    Protocol(
        "cost",
        1,
        (
            "parameters",
            "flops_encode",
            "flops_decode",
            "encode_images_per_second",
            "decode_images_per_second",
            "peak_memory_bytes",
            "training_seconds",
        ),
        {
            "parameters": "every learnable parameter of the tokenizer, the codebook included",
            "flops": "matrix products and attention of one image; a multiplication and an addition are two",
            "rates": "best of the timed batches after a warm-up batch, data already in memory",
            "memory": "the whole process's peak resident memory; the device's peak on a GPU",
        },
        "Only with records of the same machine, for everything that is timed.",
    ),
)

PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _ALL}
_OF_METRIC: dict[str, Protocol] = {metric: protocol for protocol in _ALL for metric in protocol.metrics}


def add(protocol: Protocol) -> None:
    """A protocol of an extension. Raises BadInput where the name is taken."""
    if protocol.name in PROTOCOLS:
        raise BadInput(f"there is a protocol {protocol.name!r} already; another definition needs another name")
    PROTOCOLS[protocol.name] = protocol
    _OF_METRIC.update(dict.fromkeys(protocol.metrics, protocol))


def of_metric(metric: str) -> Protocol:
    """The protocol under which the judge measures a metric. Raises KeyError on an unknown one."""
    return _OF_METRIC[metric]


def protocol_id(metric: str, weights_sha256: str | None = None) -> str:
    """The identity that a record's value carries, e.g. psnr-v1; fd-insuite-v1-1a2b3c4d with the weights' hash."""
    protocol = of_metric(metric)
    if not protocol.identified:
        return protocol.id
    return f"{protocol.id}-{weights_sha256[:8]}" if weights_sha256 else protocol.id


def by_id(identity: str) -> Protocol:
    """The protocol of a record's value. Raises BadInput that lists the known ones."""
    for protocol in PROTOCOLS.values():
        if identity == protocol.id or (protocol.identified and identity.startswith(protocol.id + "-")):
            return protocol
    raise BadInput(f"unknown protocol {identity!r}; known: {', '.join(p.id for p in PROTOCOLS.values())}")


def check_column(metric: str, protocols: Iterable[str]) -> str | None:
    """The one protocol of a table's column, None for an empty one. Raises BadInput naming two that differ."""
    different = sorted(set(protocols))
    if len(different) > 1:
        raise BadInput(
            f"column {metric}: {different[0]} and {different[1]} are two protocols and do not share a column; "
            "give each its own column or judge both sides under one"
        )
    return different[0] if different else None


def document() -> str:
    """docs/protocols.md: every protocol with its choices and whom it is comparable with."""
    parts = [
        "# Protocols\n\nA number is comparable with another only under the same protocol: a name, a version and every "
        "choice that moves the value. The table builder refuses to put two protocols in one column. This page is "
        "written by `latticebench protocols --write docs/protocols.md`.\n"
    ]
    for protocol in _ALL:
        titles = ", ".join(f"{METRICS[key].title} (`{key}`)" for key in protocol.metrics)
        parts.append(f"## {protocol.id}\n\nMeasures: {titles}.\n\n{protocol.comparable}\n")
        parts.append("| choice | value |\n|---|---|")
        parts.extend(f"| {key} | {value} |" for key, value in protocol.choices.items())
        parts.append("")
    return "\n".join(parts)
