rule landmarker:
    input:
        **reads("landmarker"),
        stamp=stamp("landmarker"),
    output:
        out("landmarker"),
    log:
        log_of("landmarker"),
    benchmark:
        benchmark_of("landmarker")
    threads: 2
    resources:
        gpu=1,
    shell:
        "python -m pipeline.landmarker --stamp {input.stamp} --root {ROOT} --threads {threads} --out {output} 2>&1 | tee {log}"
