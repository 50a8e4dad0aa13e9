rule imagegen:
    input:
        **reads("imagegen"),
        stamp=stamp("imagegen"),
    output:
        out("imagegen"),
    log:
        log_of("imagegen", "{variant}"),
    benchmark:
        benchmark_of("imagegen", "{variant}")
    priority: 4  # generate waits for it, and it is the longest training
    threads: 1
    resources:
        gpu=1,
    shell:
        "python -m pipeline.imagegen --stamp {input.stamp} --root {ROOT} --threads {threads} --out {output} 2>&1 | tee {log}"
