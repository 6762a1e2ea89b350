include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/tokenizers.smk"
include: "workflow/rules/reconstruction.smk"
include: "workflow/rules/codebooks.smk"
include: "workflow/rules/compression.smk"
include: "workflow/rules/generation.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        f"{ROOT}/report/index.html",
