rule experts:
    input:
        **reads("experts"),
        stamp=stamp("experts"),
    output:
        out("experts"),
    log:
        log_of("experts"),
    benchmark:
        benchmark_of("experts")
    priority: 2  # nothing but evaluate waits for them
    threads: 1
    resources:
        gpu=1,
    shell:
        "python -m pipeline.experts --stamp {input.stamp} --root {ROOT} --threads {threads} --out {output} 2>&1 | tee {log}"
