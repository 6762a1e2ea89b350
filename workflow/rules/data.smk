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
        # A run's first job. It needs no torch, so it doesn't wait for the warm process.
        "{ALONE} latticebench.data.prepare --config {CONFIG_FILE} --data {wildcards.data}"
        " --out {ROOT}/data/{wildcards.data} > {log} 2>&1"
