METHODS = CONFIG["generate"]["methods"]


rule generate_method:
    input:
        **reads("generate"),
        stamp=stamp("generate"),
    output:
        at("data/generate/{method}/index.csv"),
    log:
        log_of("generate", "{method}"),
    benchmark:
        benchmark_of("generate", "{method}")
    priority: 1  # before the scoring of what is made already
    threads: 1
    shell:
        "python -m pipeline.generate method --method {wildcards.method} --stamp {input.stamp} --root {ROOT}"
        " --threads {threads} --out {output} 2>&1 | tee {log}"


rule generate_long:
    input:
        **reads("generate"),
        stamp=stamp("generate"),
    output:
        at("data/generate/long/flowvqtalker_free.npz"),
    log:
        log_of("generate", "long"),
    benchmark:
        benchmark_of("generate", "long")
    threads: 1
    shell:
        "python -m pipeline.generate long --stamp {input.stamp} --root {ROOT} --threads {threads} --out {output} 2>&1 | tee {log}"


rule generate:
    input:
        **reads("generate"),
        stamp=stamp("generate"),
        tables=expand(at("data/generate/{method}/index.csv"), method=METHODS),
        long=at("data/generate/long/flowvqtalker_free.npz"),
    output:
        out("generate"),
    log:
        log_of("generate"),
    threads: 1
    shell:
        "python -m pipeline.generate merge --stamp {input.stamp} --root {ROOT} --from {input.tables} --out {output} 2>&1 | tee {log}"
