rule crop_shard:
    input:
        **reads("crop"),
        stamp=stamp("crop"),
    output:
        temp(at(".shards/crop/{shard}.csv")),
    log:
        log_of("crop", "{shard}"),
    benchmark:
        benchmark_of("crop", "{shard}")
    threads: 1
    params:
        shards=len(SHARDS),
    shell:
        "python -m pipeline.crop shard --stamp {input.stamp} --root {ROOT} --shard {wildcards.shard} --shards {params.shards}"
        " --threads {threads} --out {output} 2>&1 | tee {log}"


rule crop:
    input:
        **reads("crop"),
        stamp=stamp("crop"),
        tables=shard_tables("crop"),
    output:
        out("crop"),
    log:
        log_of("crop"),
    threads: 1
    shell:
        "python -m pipeline.clipstage --stamp {input.stamp} --root {ROOT} --from {input.tables} --out {output} 2>&1 | tee {log}"
