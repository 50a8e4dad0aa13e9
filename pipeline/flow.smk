rule flow:
    input:
        **reads("flow"),
        stamp=stamp("flow"),
    output:
        out("flow"),
    log:
        log_of("flow", "{variant}"),
    benchmark:
        benchmark_of("flow", "{variant}")
    priority: 3  # generate waits for it
    threads: 1
    resources:
        gpu=1,
    shell:
        "python -m pipeline.flow --stamp {input.stamp} --root {ROOT} --threads {threads} --out {output} 2>&1 | tee {log}"
