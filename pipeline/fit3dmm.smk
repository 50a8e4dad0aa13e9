rule fit3dmm_shard:
    input:
        **reads("fit3dmm"),
        stamp=stamp("fit3dmm"),
    output:
        temp(at(".shards/fit3dmm/{shard}.csv")),
    log:
        log_of("fit3dmm", "{shard}"),
    benchmark:
        benchmark_of("fit3dmm", "{shard}")
    threads: 1
    params:
        shards=len(SHARDS),
    shell:
        "python -m pipeline.fit3dmm shard --stamp {input.stamp} --root {ROOT} --shard {wildcards.shard} --shards {params.shards}"
        " --threads {threads} --out {output} 2>&1 | tee {log}"


rule fit3dmm:
    input:
        **reads("fit3dmm"),
        stamp=stamp("fit3dmm"),
        tables=shard_tables("fit3dmm"),
    output:
        out("fit3dmm"),
    log:
        log_of("fit3dmm"),
    threads: 1
    shell:
        "python -m pipeline.clipstage --stamp {input.stamp} --root {ROOT} --from {input.tables} --out {output} 2>&1 | tee {log}"
