rule report:
    input:
        **reads("report"),
        stamp=stamp("report"),
    output:
        out("report"),
        expand(at("reports/tables/quantitative.{suffix}"), suffix=["csv", "md", "tex"]),
        at("reports/tables/differences.csv"),
        at("reports/summary.json"),
    log:
        log_of("report"),
    benchmark:
        benchmark_of("report")
    threads: 1
    shell:
        "python -m pipeline.report --stamp {input.stamp} --root {ROOT} --threads {threads} --out {output[0]} 2>&1 | tee {log}"
