"""Every column that a record may hold: its title, unit, direction and a one-line definition, said once."""

from typing import Literal, NamedTuple


class Metric(NamedTuple):
    """A column. `better` is None where neither direction is better. `decimals` is how tables round it."""

    key: str
    title: str
    unit: str
    better: Literal["higher", "lower"] | None
    definition: str
    decimals: int = 3


_ALL = (
    # Pixels
    Metric(
        "psnr", "PSNR", "dB", "higher", "Peak signal-to-noise ratio of each image on rounded uint8, then the mean.", 2
    ),
    Metric("psnr_gain", "Gain over mean colour", "dB", "higher", "PSNR minus that of each image's own mean colour.", 2),
    Metric("ssim", "SSIM", "", "higher", "Structural similarity, Gaussian window 11, sigma 1.5, mean of the channels."),
    Metric("ms_ssim", "MS-SSIM", "", "higher", "Structural similarity over five scales; sides must exceed 160 px."),
    Metric("lpips_alex", "LPIPS (AlexNet)", "", "lower", "Learned perceptual distance, AlexNet trunk, version 0.1."),
    Metric("lpips_vgg", "LPIPS (VGG)", "", "lower", "Learned perceptual distance, VGG-16 trunk, version 0.1."),
    # Distances between sets of images
    Metric(
        "rfid", "rFID", "", "lower", "Fréchet distance of FID Inception features, reconstructions against originals."
    ),
    Metric(
        "rfid_float", "rFID (floats)", "", "lower", "rFID of un-rounded reconstructions, as the BSQ and Λ24 tables."
    ),
    Metric(
        "rfid_adm",
        "rFID (ADM)",
        "",
        "lower",
        "Fréchet distance of reconstructions against training moments, TF1 resize.",
    ),
    Metric("gfid", "gFID", "", "lower", "Fréchet distance of generated images against ADM's training moments.", 2),
    Metric(
        "sfid", "sFID", "", "lower", "Fréchet distance of spatial Inception features, generated against training.", 2
    ),
    Metric(
        "fd_insuite", "FD (in-suite)", "", "lower", "Fréchet distance of the features of the suite's own small network."
    ),
    Metric(
        "fd_insuite_infinite",
        "FD∞ (in-suite)",
        "",
        "lower",
        "FD (in-suite) extrapolated to infinitely many images by a line in 1/N.",
    ),
    Metric("fd_dinov2", "FD (DINOv2)", "", "lower", "Fréchet distance of DINOv2 ViT-L/14 features.", 2),
    Metric(
        "inception_score", "IS", "", "higher", "Inception score over splits of samples in a seeded shuffled order.", 1
    ),
    Metric(
        "is_adm", "IS (ADM)", "", "higher", "Inception score over consecutive splits of 5,000 samples as stored.", 1
    ),
    Metric(
        "precision_adm", "Precision (ADM)", "", "higher", "Share of samples inside the manifold of ADM's 10,000 images."
    ),
    Metric("recall_adm", "Recall (ADM)", "", "higher", "Share of ADM's 10,000 images inside the samples' manifold."),
    Metric(
        "kid", "KID", "", "lower", "Kernel distance of Inception features, cubic polynomial kernel, mean of subsets.", 5
    ),
    Metric(
        "precision", "Precision", "", "higher", "Share of judged images inside the reference's 3-neighbour manifold."
    ),
    Metric(
        "recall", "Recall", "", "higher", "Share of reference images inside the judged images' 3-neighbour manifold."
    ),
    # Generation with the suite's own network, and likelihood
    Metric(
        "fd_insuite_generation",
        "FD (in-suite), generation",
        "",
        "lower",
        "Fréchet distance of the suite's own features, samples against training images.",
    ),
    Metric(
        "precision_insuite",
        "Precision (in-suite)",
        "",
        "higher",
        "Share of samples inside the 3-neighbour manifold of training images, the suite's own features.",
    ),
    Metric(
        "recall_insuite",
        "Recall (in-suite)",
        "",
        "higher",
        "Share of training images inside the samples' 3-neighbour manifold, the suite's own features.",
    ),
    Metric(
        "bits_per_token",
        "Bits per token",
        "bits",
        "lower",
        "Cross-entropy of held-out tokens under the model, told the image's class.",
    ),
    Metric(
        "bits_per_token_static",
        "Bits per token, static",
        "bits",
        "lower",
        "Cross-entropy of the same tokens under the frequencies of the training tokens.",
    ),
    Metric(
        "bits_per_token_shuffled_labels",
        "Bits per token, shuffled classes",
        "bits",
        None,
        "Cross-entropy under the model, told the class of another image.",
    ),
    Metric(
        "bits_per_pixel",
        "Bits per pixel",
        "bpp",
        "lower",
        "Bits of an image's tokens under the model, over its pixels.",
        4,
    ),
    Metric(
        "frequency_ratio_samples",
        "Max. / min. frequency, samples",
        "",
        "lower",
        "Frequency of the most used code over that of the least used of the used codes, tokens of the samples.",
        0,
    ),
    Metric(
        "frequency_ratio_data",
        "Max. / min. frequency, data",
        "",
        "lower",
        "The same in as many tokens of the training images.",
        0,
    ),
    # Use of the codebook
    Metric("codebook_size", "K", "", None, "Number of codes.", 0),
    Metric("tokens", "Tokens", "", None, "Number of tokens of the whole evaluation split.", 0),
    Metric("codes_used", "Codes used", "", "higher", "Distinct codes among all tokens of the evaluation split.", 0),
    Metric("usage", "Usage", "", "higher", "Codes used divided by K."),
    Metric("expected_usage", "Uniform usage", "", None, "Expected usage of a uniform source with as many tokens."),
    Metric(
        "relative_usage", "Usage / uniform", "", "higher", "Usage divided by the expected usage of a uniform source."
    ),
    Metric("perplexity", "Perplexity", "codes", "higher", "2 to the power of the empirical entropy in bits.", 1),
    Metric(
        "entropy_bits", "Entropy", "bits", "higher", "Empirical entropy of the code distribution (plug-in estimate).", 2
    ),
    Metric("max_frequency", "Max. frequency", "", "lower", "Share of tokens that carry the most used code.", 5),
    Metric(
        "min_frequency", "Min. frequency", "", None, "Share of tokens that carry the least used of the used codes.", 7
    ),
    # Codebooks on their own latents
    Metric(
        "latent_error",
        "Latent error",
        "",
        "lower",
        "Mean squared error of quantizing the tokenizer's own latents, over their mean square.",
        4,
    ),
    Metric(
        "latent_error_best_length",
        "Latent error, best length",
        "",
        "lower",
        "The same with all code vectors times the one best factor.",
        4,
    ),
    Metric(
        "learned_delta_min",
        "δ_min, learned",
        "",
        "higher",
        "Smallest distance between two learned code vectors, over their root mean square length.",
        4,
    ),
    # Codebooks as sets of points
    Metric("dim", "d", "", None, "Dimension of the code vectors.", 0),
    Metric("bits", "Bits", "bits", None, "log2 K.", 2),
    Metric("delta_min", "δ_min", "", "higher", "Smallest distance between two code vectors at unit length."),
    Metric("delta_angle", "Angle", "degrees", "higher", "The angle of δ_min.", 2),
    Metric("delta_bound", "δ_min bound", "", None, "No K unit vectors are farther apart: K disjoint caps fit.", 3),
    Metric("mse_unit", "MSE", "", "lower", "Mean squared error on uniform directions, code vectors of unit length.", 4),
    Metric(
        "mse_best_radius", "MSE, best radius", "", "lower", "The same with all code vectors at the best one length.", 4
    ),
    Metric("mse_bound", "MSE bound", "", None, "No K unit vectors have less: every cell a spherical cap.", 4),
    Metric("mse_gap_db", "Gap to bound", "dB", "lower", "MSE above the spherical-cap bound.", 3),
    Metric(
        "covering_angle",
        "Covering ≥",
        "degrees",
        "lower",
        "Largest angle found from a direction to its code vector.",
        2,
    ),
    Metric(
        "use_entropy_bits", "Use", "bits", "higher", "Entropy of the codes of uniform directions (Miller–Madow).", 3
    ),
    # Rates
    Metric("ceil_bpp", "⌈bpp⌉", "bpp", "lower", "Tokens times ceil(log2 K), divided by pixels.", 4),
    Metric("nominal_bpp", "Nominal bpp", "bpp", "lower", "Tokens times log2 K, divided by pixels.", 4),
    Metric(
        "entropy_bpp",
        "Entropy bpp",
        "bpp",
        "lower",
        "Tokens times their empirical entropy in bits, divided by pixels.",
        4,
    ),
    Metric(
        "prior_bpp",
        "Prior bpp",
        "bpp",
        "lower",
        "Cross-entropy of the tokens under the trained prior, divided by pixels.",
        4,
    ),
    Metric("bpp", "bpp", "bpp", "lower", "Coded bytes times 8, headers included, divided by pixels.", 4),
    Metric(
        "bpp_uniform",
        "bpp (uniform)",
        "bpp",
        "lower",
        "Coded bytes times 8, headers included; prior: all codes equally likely.",
        4,
    ),
    Metric("prior_bpp_uniform", "Prior bpp (uniform)", "bpp", "lower", "Cross-entropy under the uniform prior.", 4),
    Metric("verified_uniform", "Verified (uniform)", "", None, "Files decoded to the same tokens in a new process.", 0),
    Metric(
        "bpp_static",
        "bpp (static)",
        "bpp",
        "lower",
        "Coded bytes times 8, headers included; prior: frequencies of the training tokens.",
        4,
    ),
    Metric("prior_bpp_static", "Prior bpp (static)", "bpp", "lower", "Cross-entropy under the static prior.", 4),
    Metric("verified_static", "Verified (static)", "", None, "Files decoded to the same tokens in a new process.", 0),
    Metric(
        "bpp_network",
        "bpp (network)",
        "bpp",
        "lower",
        "Coded bytes times 8, headers included; prior: a raster transformer trained on the training tokens.",
        4,
    ),
    Metric("prior_bpp_network", "Prior bpp (network)", "bpp", "lower", "Cross-entropy under the network prior.", 4),
    Metric("verified_network", "Verified (network)", "", None, "Files decoded to the same tokens in a new process.", 0),
    # Cost
    Metric("parameters", "Parameters", "", "lower", "Learnable parameters of encoder, quantizer and decoder.", 0),
    Metric("flops_encode", "Encode FLOPs", "FLOP", "lower", "Floating-point operations to encode one image.", 0),
    Metric("flops_decode", "Decode FLOPs", "FLOP", "lower", "Floating-point operations to decode one image.", 0),
    Metric("encode_images_per_second", "Encode rate", "images/s", "higher", "Images encoded per second.", 0),
    Metric("decode_images_per_second", "Decode rate", "images/s", "higher", "Images decoded per second.", 0),
    Metric(
        "peak_memory_bytes", "Peak memory", "bytes", "lower", "Peak memory of the process (device memory on a GPU).", 0
    ),
    Metric("training_seconds", "Training time", "s", "lower", "Wall time of the tokenizer's training.", 0),
)

METRICS: dict[str, Metric] = {metric.key: metric for metric in _ALL}
