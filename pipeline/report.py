"""Write the tables, the figures and the self-contained page of a run.

Reads: reports/evaluate/{metrics.json, checks.json, <method>.csv}, the indices of generate, crop and fit3dmm, the folders of the trainings.
Writes: reports/tables/quantitative.{csv,md,tex}, reports/tables/differences.csv, reports/summary.json, reports/figures/*.png, reports/index.html (last).
Parameters: `report`. Seconds for a hundred clips: about twenty, most of it encoding the gallery.
"""

from __future__ import annotations

from dataclasses import replace

from pipeline.context import Context, main
from pipeline.io import write_json, write_text
from pipeline.reporting.blocks import differences_csv
from pipeline.reporting.differences import paired_differences
from pipeline.reporting.figures import make_figures, save_figures
from pipeline.reporting.gallery import make_gallery
from pipeline.reporting.page import render_page
from pipeline.reporting.results import Results, read_results
from pipeline.reporting.summary import headline_numbers
from pipeline.reporting.tables import quantitative_csv, quantitative_md, quantitative_tex


def with_differences(ctx: Context, results: Results) -> Results:
    """The results with the paired differences, drawn with the evaluation's resamples and coverage where the step is tied to them."""
    settings = ctx.params.get("evaluate")
    level = getattr(settings, "interval", results.interval)
    found = paired_differences(results, seed=ctx.seed, resamples=getattr(settings, "bootstrap_resamples", 1000), level=level)
    return replace(results, differences=found, interval=level)


def run(ctx: Context) -> None:
    """Make the report of a run."""
    results = with_differences(ctx, read_results(ctx.reads))
    folder = ctx.out.parent
    for suffix, text in (("csv", quantitative_csv(results)), ("md", quantitative_md(results)), ("tex", quantitative_tex(results))):
        write_text(folder / "tables" / f"quantitative.{suffix}", text)
    write_text(folder / "tables" / "differences.csv", differences_csv(results))
    ctx.log.info("tables written to %s", folder / "tables")
    write_json(folder / "summary.json", headline_numbers(results, getattr(ctx.params.get("generate"), "flow_variant", "")))
    blinks = {name: value for name in ("blink_on", "blink_off") if (value := getattr(ctx.params.get("evaluate"), name, None)) is not None}
    figures = save_figures(make_figures(results, ctx.cfg.curve_points, **blinks), folder / "figures")
    ctx.log.info("%d figures written to %s", len(figures), folder / "figures")

    def page(gallery: list, left_out: int) -> str:
        return render_page(
            results,
            name=ctx.stamp["name"],
            seed=ctx.seed,
            gallery=gallery,
            left_out=left_out,
            figures=figures,
            settings={name: section.model_dump() for name, section in sorted(ctx.params.items())},
            curve_points=ctx.cfg.curve_points,
        )

    free = ctx.cfg.page_limit_mb * 1e6 - len(page([], 0).encode())
    gallery, left_out = make_gallery(results, ctx.cfg, limit_bytes=int(free))
    if left_out:
        ctx.log.warning("%d gallery clips left out: report.page_limit_mb is %g", left_out, ctx.cfg.page_limit_mb)
    write_text(ctx.out, page(gallery, left_out))
    ctx.log.info("page with %d clips written to %s", len(gallery), ctx.out)


if __name__ == "__main__":
    main(run)
