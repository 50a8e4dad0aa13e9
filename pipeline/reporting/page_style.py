"""Style sheet of the page. A Python string, not a loose file, so that the step's code hash covers it."""

STYLE = """
:root { color-scheme: light; --bg: #f7f7f5; --card: #ffffff; --ink: #1d2329; --soft: #5b6570; --line: #dfe2e5; --accent: #0f766e;
  --accent-soft: #d9efec; --train: #2563eb; --val: #c2410c; --good: #15803d; --bad: #b91c1c; --warn: #a16207; --mark: #eef6f5; }
:root[data-theme="dark"] { color-scheme: dark; --bg: #14171a; --card: #1c2126; --ink: #e6e8ea; --soft: #a0a9b2; --line: #333a41;
  --accent: #4fd1c5; --accent-soft: #17403d; --train: #7ba7ff; --val: #fb923c; --good: #4ade80; --bad: #f87171; --warn: #facc15; --mark: #18312f; }
* { box-sizing: border-box; }
html { scroll-padding-top: 4rem; }
body { margin: 0; background: var(--bg); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", sans-serif; }
header.top { position: sticky; top: 0; z-index: 5; display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; align-items: center; padding: .55rem 1.5rem;
  background: var(--card); border-bottom: 1px solid var(--line); }
header.top strong { margin-right: auto; }
header.top a { color: var(--soft); text-decoration: none; font-size: .92rem; }
header.top a:hover, header.top a:focus-visible { color: var(--accent); }
main { max-width: 1280px; margin: 0 auto; padding: 1.2rem 1.5rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 1rem 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p, ul, dl { max-width: 78ch; }
.soft, .note { color: var(--soft); }
.note { font-size: .88rem; }
code, .num { font-family: ui-monospace, "SF Mono", "DejaVu Sans Mono", Menlo, monospace; font-size: .88em; }
button { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .2rem .6rem; cursor: pointer; }
button:hover { border-color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(12rem, 1fr)); gap: .8rem; margin: 1.2rem 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem; }
.tile b { display: block; font-size: 1.5rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: .88rem; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
.scroll > table { min-width: 100%; }
th, td { padding: .38rem .65rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; vertical-align: top; }
tbody tr:last-child > * { border-bottom: 0; }
th:first-child, td:first-child, .text th, .text td { text-align: left; }
.text td { white-space: normal; }
.text td.num { white-space: nowrap; }
thead th { font-weight: 600; vertical-align: bottom; color: var(--soft); white-space: normal; min-width: 4.6rem; }
thead th button { border: 0; background: none; padding: 0; color: inherit; font-weight: 600; text-align: inherit; }
thead th button::after { content: "\\25BE"; opacity: 0; padding-left: .25em; }
thead th button:hover::after { opacity: .5; }
thead th[aria-sort="ascending"] button::after { content: "\\25B4"; opacity: 1; color: var(--accent); }
thead th[aria-sort="descending"] button::after { content: "\\25BE"; opacity: 1; color: var(--accent); }
.results th:first-child, .results td:first-child { position: sticky; left: 0; background: var(--card); z-index: 1; border-left: 4px solid transparent; }
.results tr[data-group="generated"] td:first-child { border-left-color: var(--accent); }
.results tr[data-group="controls"] td:first-child { border-left-color: var(--val); }
.results tr[data-group="real video and ceilings"] td:first-child { border-left-color: var(--soft); }
.results td b { color: var(--accent); }
.results small { display: block; color: var(--soft); font-size: .74rem; }
.results.plain small { display: none; }
.results sup a { color: var(--soft); text-decoration: none; }
.key { display: inline-block; width: .75rem; height: .75rem; border-radius: 2px; margin: 0 .3rem 0 .9rem; vertical-align: -1px; }
.pill { display: inline-block; border-radius: 99px; padding: 0 .55rem; font-size: .8rem; font-weight: 600; border: 1px solid currentColor; }
.pass { color: var(--good); } .fail { color: var(--bad); } .open { color: var(--warn); }
.clips { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 36rem), 1fr)); gap: 1rem; }
.clip { background: var(--card); border: 1px solid var(--line); border-radius: 8px; overflow: hidden; margin: 0; }
.clip .stage { position: relative; }
.clip video { display: block; width: 100%; background: #000; cursor: pointer; }
.clip .play { position: absolute; right: .5rem; bottom: .5rem; border-color: transparent; background: rgb(0 0 0 / .6); color: #fff; font-size: .82rem; }
.clip .bar { height: 3px; background: var(--accent); width: 0; }
.clip .names { display: grid; grid-auto-flow: column; grid-auto-columns: 1fr; font-size: .74rem; text-align: center; color: var(--soft); padding: .3rem 0 0; }
.clip .names span { overflow-wrap: anywhere; padding: 0 .2rem; line-height: 1.25; }
.clip .names .real { color: var(--ink); font-weight: 600; }
.clip figcaption { padding: .3rem .7rem .55rem; font-size: .82rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); gap: .8rem; }
.chart { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .5rem .6rem .1rem; }
.chart figcaption { font-size: .82rem; display: flex; justify-content: space-between; gap: .6rem; min-height: 1.4em; }
.chart output { color: var(--soft); font-variant-numeric: tabular-nums; text-align: right; }
.chart svg { display: block; width: 100%; height: auto; }
.chart polyline { fill: none; stroke-width: 1.4; }
.chart polyline.train { stroke: var(--train); } .chart polyline.val { stroke: var(--val); }
.chart circle.val { fill: var(--val); }
.chart .grid { stroke: var(--line); stroke-width: .7; } .chart .cursor { stroke: var(--soft); stroke-width: .7; stroke-dasharray: 2 2; }
.chart .tick { fill: var(--soft); font-size: 9px; font-family: inherit; }
.pictures figure { margin: 0 0 1rem; }
.pictures img { display: block; max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line); border-radius: 8px; }
.pictures figcaption { font-size: .85rem; color: var(--soft); padding-top: .3rem; }
.numbers { columns: 17rem auto; font-size: .84rem; margin: .5rem 0; max-width: none; }
.numbers div { display: flex; justify-content: space-between; gap: 1rem; break-inside: avoid; border-bottom: 1px dotted var(--line); }
.numbers dd { margin: 0; font-variant-numeric: tabular-nums; }
details { margin: .6rem 0; } summary { cursor: pointer; color: var(--accent); }
ol.notes { font-size: .84rem; color: var(--soft); }
@media (max-width: 700px) { main { padding: 1rem; } header.top { position: static; padding: .5rem 1rem; } }
@media print { header.top, .controls { display: none; } }
"""
