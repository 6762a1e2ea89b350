rule geometry:
    output:
        f"{ROOT}/records/geometry/made.json",
    log:
        f"{ROOT}/logs/geometry.log",
    threads: 1
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        geometry=CONFIG.values["geometry"],
    message:
        "Measuring the geometry of the fixed codebooks"
    shell:
        "{RUN} evaluation.geometry --config {CONFIG_FILE} --out {ROOT}/records/geometry > {log} 2>&1"
