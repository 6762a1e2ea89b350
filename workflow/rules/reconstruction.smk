rule judge:
    input:
        data=lambda wildcards: f"{data_of(wildcards)}/manifest.json",
        tokenizers=f"{ROOT}/tokenizers/{{subject}}/made-{{seeds}}.json",
    output:
        f"{ROOT}/records/{{subject}}/made-{{seeds}}.json",
    log:
        f"{ROOT}/logs/judge/{{subject}}-{{seeds}}.log",
    priority: priority("judging")
    threads: JOBS["threads"]
    resources:
        gpu=min(JOBS["gpus"], 1),
        mem_mb=JOBS["mem_mb"],
        runtime=240,
    params:
        data=data_of,
        evaluation=CONFIG.section("evaluation"),
    message:
        "Judging {wildcards.subject}, seeds {wildcards.seeds}"
    shell:
        "{RUN} evaluation.judge --config {CONFIG_FILE} --subject {wildcards.subject}"
        " --seeds {wildcards.seeds} --data {params.data} --root {ROOT} > {log} 2>&1"
