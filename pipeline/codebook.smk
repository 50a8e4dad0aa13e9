rule codebook:
    input:
        **reads("codebook"),
        stamp=stamp("codebook"),
    output:
        out("codebook"),
    log:
        log_of("codebook"),
    benchmark:
        benchmark_of("codebook")
    priority: 5  # the longest chain: codebook, imagegen, generate
    threads: 1
    resources:
        gpu=1,
    shell:
        "python -m pipeline.codebook --stamp {input.stamp} --root {ROOT} --threads {threads} --out {output} 2>&1 | tee {log}"
