rule corpus_shard:
    input:
        **reads("corpus"),
        stamp=stamp("corpus"),
    output:
        temp(at(".shards/corpus/{shard}.csv")),
    log:
        log_of("corpus", "{shard}"),
    benchmark:
        benchmark_of("corpus", "{shard}")
    threads: 1
    params:
        shards=len(SHARDS),
    shell:
        "python -m pipeline.corpus shard --stamp {input.stamp} --root {ROOT} --shard {wildcards.shard} --shards {params.shards}"
        " --threads {threads} --out {output} 2>&1 | tee {log}"


rule corpus:
    input:
        **reads("corpus"),
        stamp=stamp("corpus"),
        tables=shard_tables("corpus"),
    output:
        out("corpus"),
    log:
        log_of("corpus"),
    threads: 1
    shell:
        "python -m pipeline.clipstage --stamp {input.stamp} --root {ROOT} --from {input.tables} --out {output} 2>&1 | tee {log}"
