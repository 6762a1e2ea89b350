"""The classical codecs on Kodak at the rates of the points in print, and why ours lie where they do.

`tests/compression/test_kodak.py` sets the codecs to the options named here and holds them to 0.3 dB of print.
"""

from typing import Any

from evaluation.compression import bjontegaard
from evaluation.report import compression, tables
from evaluation.report.results import Results

_WHY = {
    "jpeg420": (
        "jpeg-420",
        "ours optimises the Huffman tables of each image; with the standard tables it is within 0.3 dB of print",
    ),
    "webp": ("webp", "a newer encoder at method 4; at method 2 it is within 0.3 dB of print"),
    "j2k-opj": (
        "jpeg2000",
        "ours has the irreversible 9/7 wavelet; with the reversible 5/3, OpenJPEG's default, it is within 0.3 dB of print",
    ),
    "j2k-kdu": (
        "jpeg2000",
        "another encoder: in print its MS-SSIM is above and its PSNR below that of OpenJPEG",
    ),
}
"""Printed method -> our codec, and why the two differ."""


def table(results: Results) -> tables.Table:
    """A row a printed point of a codec that ours has, ours interpolated at its rate; no rows where nothing fits."""
    ours = {curve.method: curve for curve in compression.codec_curves(results)}
    rows = []
    for method, _, rate, printed in compression.published_points(results):
        codec, why = _WHY.get(method, ("", ""))
        if codec not in ours:
            continue
        curve = ours[codec]
        fields: dict[str, Any] = {"ours": curve.name, "rate": rate, "why": why}
        for key in ("psnr", "ms_ssim"):
            fields[f"printed_{key}"] = printed.get(key)
            fields[key] = _at(curve, key, rate)
        both = fields["psnr"] is not None and fields["printed_psnr"] is not None
        fields["difference"] = fields["psnr"] - fields["printed_psnr"] if both else None
        origins = dict.fromkeys(("psnr", "ms_ssim", "difference"), curve.sources)
        rows.append(tables.Row(f"{method} at {rate:.3f}", None, "", fields, {}, origins=origins))
    columns = (
        tables.Field("ours", "Our codec", "The curve that is read at the printed rate."),
        tables.Field("rate", "bpp", "Of the printed point.", True),
        tables.Field("printed_psnr", "PSNR in print (dB)", "Mean over the 24 images.", True),
        tables.Field("psnr", "PSNR (dB)", "Ours at that rate, PCHIP through the means over images.", True),
        tables.Field("difference", "Difference (dB)", "Ours less the number in print.", True),
        tables.Field("printed_ms_ssim", "MS-SSIM in print", "Mean over the 24 images.", True),
        tables.Field("ms_ssim", "MS-SSIM", "Ours at that rate, likewise.", True),
        tables.Field("why", "Why they differ", "What the tests have found."),
    )
    caption = "Classical codecs on Kodak at the rates of tensorflow/compression's printed points."
    return tables.Table("kodak_codecs", "Codecs in print", caption, columns, (), tuple(rows), "point")


def _at(curve: compression.Curve, key: str, rate: float) -> float | None:
    try:
        return bjontegaard.at_rate(curve.rate, curve.qualities[key], rate) if key in curve.qualities else None
    except bjontegaard.NoOverlap:
        return None
