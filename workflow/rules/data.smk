rule data:
    output:
        manifest=f"{DATA}/manifest.json",
        train=f"{DATA}/train.npy",
        eval=f"{DATA}/eval.npy",
    log:
        f"{ROOT}/logs/data.log",
    threads: 1
    resources:
        mem_mb=2000,
        runtime=120,
    message:
        "Preparing the images"
    shell:
        "{RUN} latticebench.data.prepare --config {CONFIG_FILE} --out {DATA} > {log} 2>&1"
