rule evaluate_method:
    input:
        **reads("evaluate"),
        stamp=stamp("evaluate"),
    output:
        at("reports/evaluate/{method}.csv"),
    log:
        log_of("evaluate", "{method}"),
    benchmark:
        benchmark_of("evaluate", "{method}")
    threads: 1
    shell:
        "python -m pipeline.evaluate method --method {wildcards.method} --stamp {input.stamp} --root {ROOT}"
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
