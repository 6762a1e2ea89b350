# Tokens are extracted once a tokenizer and seed, a model is trained on them, sampled and judged. A changed
# setting of sampling trains nothing again: trainings have names of their own.
from latticebench import generator_entries
from latticebench.configuration import parse_seeds

GENERATORS = (
    CONFIG.suite(str(config["suite"])).generators
    if "suite" in config
    else CONFIG.generators()
)
EVERY_GENERATOR = {generator.id: generator for generator in CONFIG.generators()}
EVERY_TRAINING = {
    training.id: training
    for training in map(generator_entries.training_of, EVERY_GENERATOR.values())
}
TOKENS = {
    generator_entries.tokens_of(training).id: generator_entries.tokenizer_of(training)
    for training in EVERY_TRAINING.values()
}


wildcard_constraints:
    tokens="[a-z0-9-]+",
    training="[a-z0-9-]+",
    generator="[a-z0-9-]+",
    seed=r"\d+",


def tokenizer_manifest(tokenizer, seed):
    """The manifest of the job that trains one seed of a tokenizer."""
    group = next(
        group
        for group in CONFIG.seed_groups(tokenizer)
        if int(seed) in parse_seeds(group)
    )
    return f"{ROOT}/tokenizers/{tokenizer.id}/made-{group}.json"


def tokens_manifest(wildcards):
    """The manifest of the tokens that one seed of a training reads."""
    training = EVERY_TRAINING[wildcards.training]
    seed = generator_entries.tokenizer_seed(training, int(wildcards.seed))
    return f"{ROOT}/tokens/{generator_entries.tokens_of(training).id}/made-{seed}.json"


def generated():
    """The manifests of the chosen generators' records, and of the validation images' judged beside them."""
    own = [
        f"{ROOT}/records/{generator.id}/made-generation-{seed}.json"
        for generator in GENERATORS
        for seed in generator.seeds
    ]
    data = {
        generator_entries.tokenizer_of(generator).data_hash for generator in GENERATORS
    }
    return own + [f"{ROOT}/records/oracle-{each}/made.json" for each in sorted(data)]


rule tokens:
    input:
        data=lambda wildcards: f"{ROOT}/data/{TOKENS[wildcards.tokens].data_hash}/manifest.json",
        tokenizer=lambda wildcards: tokenizer_manifest(
            TOKENS[wildcards.tokens], wildcards.seed
        ),
    output:
        f"{ROOT}/tokens/{{tokens}}/made-{{seed}}.json",
    log:
        f"{ROOT}/logs/tokens/{{tokens}}-{{seed}}.log",
    priority: 50
    threads: JOBS["threads"]
    resources:
        gpu=min(JOBS["gpus"], 1),
        mem_mb=JOBS["mem_mb"],
        runtime=JOBS["runtime"],
    params:
        data=lambda wildcards: f"{ROOT}/data/{TOKENS[wildcards.tokens].data_hash}",
    message:
        "Tokens of {wildcards.tokens}, seed {wildcards.seed}"
    shell:
        "{RUN} latticebench.generators.extract --config {CONFIG_FILE} --tokens {wildcards.tokens}"
        " --seed {wildcards.seed} --data {params.data} --out {ROOT} > {log} 2>&1"


rule generator:
    input:
        tokens_manifest,
    output:
        f"{ROOT}/generators/{{training}}/made-{{seed}}.json",
    log:
        f"{ROOT}/logs/generators/{{training}}-{{seed}}.log",
    priority: 50
    threads: JOBS["threads"] * max(JOBS["gpus"], 1)
    resources:
        **launch.resources(JOBS),
        mem_mb=JOBS["mem_mb"],
        runtime=JOBS["runtime"],
    message:
        "Generator {wildcards.training}, seed {wildcards.seed}"
    shell:
        "{RUN} {LAUNCH}latticebench.generators.train --config {CONFIG_FILE} --generator {wildcards.training}"
        " --seed {wildcards.seed} --out {ROOT} > {log} 2>&1"


rule samples:
    input:
        lambda wildcards: f"{ROOT}/generators/{generator_entries.training_of(EVERY_GENERATOR[wildcards.generator]).id}/made-{wildcards.seed}.json",
    output:
        f"{ROOT}/samples/{{generator}}/made-{{seed}}.json",
    log:
        f"{ROOT}/logs/samples/{{generator}}-{{seed}}.log",
    priority: 50
    threads: JOBS["threads"]
    resources:
        gpu=min(JOBS["gpus"], 1),
        mem_mb=JOBS["mem_mb"],
        runtime=JOBS["runtime"],
    message:
        "Samples of {wildcards.generator}, seed {wildcards.seed}"
    shell:
        "{RUN} latticebench.generators.sample --config {CONFIG_FILE} --generator {wildcards.generator}"
        " --seed {wildcards.seed} --out {ROOT} > {log} 2>&1"


rule judge_generator:
    input:
        f"{ROOT}/samples/{{generator}}/made-{{seed}}.json",
    output:
        f"{ROOT}/records/{{generator}}/made-generation-{{seed}}.json",
    log:
        f"{ROOT}/logs/generation/{{generator}}-{{seed}}.log",
    priority: 50
    threads: JOBS["threads"]
    resources:
        gpu=min(JOBS["gpus"], 1),
        mem_mb=JOBS["mem_mb"],
        runtime=240,
    params:
        data=lambda wildcards: f"{ROOT}/data/{generator_entries.tokenizer_of(EVERY_GENERATOR[wildcards.generator]).data_hash}",
        evaluation=CONFIG.section("evaluation"),
    message:
        "Judging {wildcards.generator}, seed {wildcards.seed}"
    shell:
        "{RUN} evaluation.generation --config {CONFIG_FILE} --generator {wildcards.generator}"
        " --seed {wildcards.seed} --data {params.data} --root {ROOT} > {log} 2>&1"


rule oracle:
    input:
        f"{ROOT}/data/{{data}}/manifest.json",
    output:
        f"{ROOT}/records/oracle-{{data}}/made.json",
    log:
        f"{ROOT}/logs/generation/oracle-{{data}}.log",
    priority: 10  # longer than most judgements, so not left to a run's last moments
    threads: JOBS["threads"]
    resources:
        gpu=min(JOBS["gpus"], 1),
        mem_mb=JOBS["mem_mb"],
        runtime=240,
    params:
        evaluation=CONFIG.section("evaluation"),
    message:
        "Judging the validation images as if they were samples"
    shell:
        "{RUN} evaluation.generation --config {CONFIG_FILE} --oracle"
        " --data {ROOT}/data/{wildcards.data} --root {ROOT} > {log} 2>&1"
