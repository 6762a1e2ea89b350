rule data:
    output:
        manifest=f"{ROOT}/data/{{data}}/manifest.json",
        eval=f"{ROOT}/data/{{data}}/eval.npy",
    log:
        f"{ROOT}/logs/data/{{data}}.log",
    threads: 1
    resources:
        mem_mb=2000,
        runtime=120,
    message:
        "Preparing the images"
    shell:
        "{RUN} latticebench.data.prepare --config {CONFIG_FILE} --data {wildcards.data}"
        " --out {ROOT}/data/{wildcards.data} > {log} 2>&1"
