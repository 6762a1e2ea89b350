def trained_first(wildcards):
    """The training whose moving average this subject is, or nothing."""
    subject = CONFIG.subject(wildcards.subject)
    own = subject.trained.id == subject.id
    return (
        []
        if own
        else f"{ROOT}/tokenizers/{subject.trained.id}/made-{wildcards.seeds}.json"
    )


# A job's declared output is the manifest of the checkpoints it made: Snakemake deletes declared
# outputs of interrupted jobs, and a finished seed must survive the failure of the next one.
rule tokenizer:
    input:
        lambda wildcards: f"{data_of(wildcards)}/manifest.json",
        trained_first,
    output:
        f"{ROOT}/tokenizers/{{subject}}/made-{{seeds}}.json",
    log:
        f"{ROOT}/logs/tokenizers/{{subject}}-{{seeds}}.log",
    priority: priority("training")
    threads: JOBS["threads"] * max(JOBS["gpus"], 1)
    resources:
        **launch.resources(JOBS),
        mem_mb=JOBS["mem_mb"],
        runtime=JOBS["runtime"],
    params:
        data=data_of,
        # Released weights are fetched and converted where others are trained.
        job=lambda wildcards: (
            "latticebench.published.make"
            if "released" in CONFIG.subject(wildcards.subject).spec
            else "latticebench.tokenizers.train"
        ),
    message:
        "Tokenizer {wildcards.subject}, seeds {wildcards.seeds}"
    shell:
        "{RUN} {LAUNCH}{params.job} --config {CONFIG_FILE} --subject {wildcards.subject}"
        " --seeds {wildcards.seeds} --data {params.data} --out {ROOT} > {log} 2>&1"
