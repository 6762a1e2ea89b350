rule compression:
    input:
        data=lambda wildcards: f"{data_of(wildcards)}/manifest.json",
        tokenizers=f"{ROOT}/tokenizers/{{subject}}/made-{{seeds}}.json",
    output:
        f"{ROOT}/records/{{subject}}/made-compression-{{seeds}}.json",
    log:
        f"{ROOT}/logs/compression/{{subject}}-{{seeds}}.log",
    priority: priority("coding")
    threads: JOBS["threads"]
    resources:
        gpu=min(JOBS["gpus"], 1),
        mem_mb=JOBS["mem_mb"],
        runtime=240,
    params:
        data=data_of,
        compression=CONFIG.values["compression"],
    message:
        "Coding and decoding with {wildcards.subject}, seeds {wildcards.seeds}"
    shell:
        "{RUN} evaluation.compression --config {CONFIG_FILE} --subject {wildcards.subject}"
        " --seeds {wildcards.seeds} --data {params.data} --root {ROOT} > {log} 2>&1"


rule codecs:
    input:
        f"{DATA}/manifest.json",
    output:
        f"{ROOT}/records/codecs/made.json",
    log:
        f"{ROOT}/logs/codecs.log",
    priority: 20
    threads: 1
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        compression=CONFIG.section("compression"),
    message:
        "Coding with the classical codecs"
    shell:
        "{RUN} evaluation.compression.codecs --config {CONFIG_FILE} --data {DATA}"
        " --out {ROOT}/records/codecs > {log} 2>&1"
