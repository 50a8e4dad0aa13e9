rule audio_shard:
    input:
        **reads("audio"),
        stamp=stamp("audio"),
    output:
        temp(at(".shards/audio/{shard}.csv")),
    log:
        log_of("audio", "{shard}"),
    benchmark:
        benchmark_of("audio", "{shard}")
    threads: 1
    params:
        shards=len(SHARDS),
    shell:
        "python -m pipeline.audio shard --stamp {input.stamp} --root {ROOT} --shard {wildcards.shard} --shards {params.shards}"
        " --threads {threads} --out {output} 2>&1 | tee {log}"


rule audio:
    input:
        **reads("audio"),
        stamp=stamp("audio"),
        tables=shard_tables("audio"),
    output:
        out("audio"),
    log:
        log_of("audio"),
    threads: 1
    shell:
        "python -m pipeline.clipstage --stamp {input.stamp} --root {ROOT} --from {input.tables} --out {output} 2>&1 | tee {log}"
