rule compression:
    input:
        data=f"{DATA}/manifest.json",
        tokenizers=f"{ROOT}/tokenizers/{{subject}}/made-{{seeds}}.json",
    output:
        f"{ROOT}/records/{{subject}}/made-compression-{{seeds}}.json",
    params:
        compression=CONFIG.values["compression"],
    log:
        f"{ROOT}/logs/compression/{{subject}}-{{seeds}}.log",
    message:
        "Coding and decoding with {wildcards.subject}, seeds {wildcards.seeds}"
    threads: JOBS["threads"]
    resources:
        gpu=JOBS["gpus"],
        mem_mb=JOBS["mem_mb"],
        runtime=240,
    shell:
        "{RUN} evaluation.compression --config {CONFIG_FILE} --subject {wildcards.subject}"
        " --seeds {wildcards.seeds} --data {DATA} --root {ROOT} > {log} 2>&1"


rule codecs:
    input:
        f"{DATA}/manifest.json",
    output:
        f"{ROOT}/records/codecs/made.json",
    params:
        compression=CONFIG.section("compression"),
    log:
        f"{ROOT}/logs/codecs.log",
    message:
        "Coding with the classical codecs"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=240,
    shell:
        "{RUN} evaluation.compression.codecs --config {CONFIG_FILE} --data {DATA}"
        " --out {ROOT}/records/codecs > {log} 2>&1"
