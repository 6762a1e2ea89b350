report: "../report/workflow.rst"


rule report:
    input:
        made("made"),
        made("made-compression"),
        generated(),
        codecs(),
        f"{ROOT}/records/geometry/made.json",
    output:
        site=f"{ROOT}/report/index.html",
        figures=report(
            directory(f"{ROOT}/figures"),
            patterns=["{figure}.png"],
            caption="../report/figures.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        tables=report(
            directory(f"{ROOT}/tables"),
            patterns=["{table}.csv"],
            caption="../report/tables.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
    log:
        f"{ROOT}/logs/report.log",
    threads: 2
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        report=CONFIG.values["report"],
    message:
        "Writing tables, figures and the report"
    shell:
        "{RUN} evaluation.report --config {CONFIG_FILE} --root {ROOT} --processes {threads} > {log} 2>&1"
