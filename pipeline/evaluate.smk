# Reads its own method's table, not that of all: a method is scored as soon as it is made.
rule evaluate_method:
    input:
        **{**reads("evaluate"), "generate": at("data/generate/{method}/index.csv")},
        stamp=stamp("evaluate"),
    output:
        at("reports/evaluate/{method}.csv"),
    log:
        log_of("evaluate", "{method}"),
    benchmark:
        benchmark_of("evaluate", "{method}")
    threads: 1
    shell:
        "python -m pipeline.evaluate method --method {wildcards.method} --generated {input.generate} --stamp {input.stamp} --root {ROOT}"
        " --threads {threads} --out {output} 2>&1 | tee {log}"


rule evaluate:
    input:
        **reads("evaluate"),
        stamp=stamp("evaluate"),
        tables=expand(at("reports/evaluate/{method}.csv"), method=METHODS),
    output:
        out("evaluate"),
        at("reports/evaluate/checks.json"),
    log:
        log_of("evaluate"),
    threads: 1
    shell:
        "python -m pipeline.evaluate merge --stamp {input.stamp} --root {ROOT} --from {input.tables} --out {output[0]} 2>&1 | tee {log}"
