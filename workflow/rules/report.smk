from latticebench import warm


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
        # The threads are processes that draw, each with as many of its own as any job: so it is forked like one.
        environment=" ".join(
            f"{name}={value}"
            for name, value in warm.thread_variables(JOBS["threads"]).items()
        ),
    message:
        "Writing tables, figures and the report"
    shell:
        "{params.environment} {RUN} evaluation.report --config {CONFIG_FILE} --root {ROOT} --processes {threads} > {log} 2>&1"
