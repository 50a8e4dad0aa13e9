"""Markup of the page (Jinja2, autoescaped). A Python string, not a loose file, so that the step's code hash covers it."""

TEMPLATE = """<!DOCTYPE html>
<html lang="en" data-theme="light">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>FlowVQTalker pipeline: report of {{ name }}</title>
<link rel="icon" href="data:,">
<style>{{ style | safe }}</style>
</head>
<body>
<header class="top">
<strong>FlowVQTalker pipeline</strong>
<a href="#results">Results</a><a href="#checks">Checks</a><a href="#gallery">Gallery</a><a href="#training">Training</a>
<a href="#figures">Figures</a><a href="#judges">Judges</a><a href="#reading">How to read</a><a href="#settings">Settings</a>
<button id="theme" type="button" aria-label="Switch between light and dark">Light / dark</button>
</header>
<main>
<h1>Report of the run &ldquo;{{ name }}&rdquo;</h1>
<p class="soft">Portrait, speech and an emotion label in, talking face out. Every number on this page was measured by this run on its own test clips,
except the marked block of published numbers. All generated faces are synthetic.</p>
<div class="tiles">
{% for tile in tiles %}<div class="tile"><b>{{ tile.value }}</b><span>{{ tile.label }}</span></div>
{% endfor %}</div>
<p class="note">Configuration <code>{{ name }}</code>, seed <code>{{ seed }}</code>{% if data_sha256 %}, data <code>{{ data_sha256[:16] }}</code>{% endif %}.</p>

<section id="results">
<h2>Results on the test identities</h2>
<p>{{ reading }}</p>
<p class="controls"><label><input type="checkbox" id="intervals" checked> show intervals</label>
<span class="note"><i class="key" style="background:var(--soft)"></i>real video and ceilings
<i class="key" style="background:var(--accent)"></i>generated <i class="key" style="background:var(--val)"></i>controls</span></p>
{% for kind, table in tables %}{% if kind == "further" %}<h3>Further metrics</h3>
{% endif %}<div class="scroll"><table class="sortable results">
<thead><tr><th scope="col"><button type="button">Method</button></th>
{% for column in table.columns %}<th scope="col" title="{{ column.meaning }}"><button type="button">{{ column.label }}{% if column.direction.arrow %} <span class="soft">{{ column.direction.arrow }}</span>{% endif %}</button></th>
{% endfor %}</tr></thead>
<tbody>
{% for row in table.rows %}<tr data-group="{{ row.method.group.value }}"><td data-v="{{ loop.index }}" title="{{ row.method.meaning }}"><code>{{ row.method.name }}</code></td>
{% for cell in row.cells %}<td data-v="{{ cell.text }}">{% if cell.best %}<b>{{ cell.text }}</b>{% else %}{{ cell.text }}{% endif %}{% if cell.note %}<sup><a href="#note-{{ cell.note }}" title="{{ notes[cell.note - 1] }}">{{ cell.note }}</a></sup>{% endif %}{% if cell.interval %}<small>{{ cell.interval }}</small>{% endif %}</td>
{% endfor %}</tr>
{% endfor %}</tbody></table></div>
{% endfor %}{% for note in judge_notes %}<p class="note">{{ note }}</p>
{% endfor %}{% if notes %}<ol class="notes">{% for note in notes %}<li id="note-{{ loop.index }}">{{ note }}</li>{% endfor %}</ol>{% endif %}
{% for block in blocks %}<h3 id="{{ block.label }}">{{ block.title }}</h3>
<p class="note">{{ block.note }}</p>
<div class="scroll"><table class="block">
<thead><tr>{% for name in block.head %}<th scope="col">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in block.rows %}<tr>{% for text in row %}<td>{% if loop.first and block.code %}<code>{{ text }}</code>{% else %}{{ text }}{% endif %}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
{% endfor %}</section>

<section id="checks">
<h2>Checks</h2>
{% if checks %}<p>Targets that this implementation sets itself, and what was measured.</p>
<div class="scroll"><table class="sortable text">
<thead><tr><th scope="col"><button type="button">Check</button></th><th scope="col"><button type="button">Measured</button></th><th scope="col">95 % interval</th>
<th scope="col"><button type="button">n</button></th><th scope="col">Target</th><th scope="col"><button type="button">Result</button></th></tr></thead>
<tbody>{% for check in checks %}<tr><td>{{ check.name }}{% if check.reason %}<br><span class="note">{{ check.reason }}</span>{% endif %}</td><td class="num" data-v="{{ check.value }}">{{ check.value }}</td><td class="num">{{ check.ci }}</td><td class="num" data-v="{{ check.n }}">{{ check.n }}</td><td>{{ check.target }}</td><td><span class="pill {{ check.kind }}">{{ check.word }}</span></td></tr>
{% endfor %}</tbody></table></div>
{% else %}<p class="soft">This run wrote no checks.</p>{% endif %}
</section>

<section id="gallery">
<h2>Gallery</h2>
{% if gallery %}<p>Test identities, real beside generated, in step and with the real sound; a click plays and stops. Each video runs left to right as its captions say.
A free sample need not repeat the real head motion or blinks; the lips should follow the sound.</p>
{% for emotion, clips in gallery %}<h3>{{ emotion or "unlabelled" }}</h3>
<div class="clips">
{% for clip in clips %}<figure class="clip"><div class="stage"><video controls preload="none" playsinline poster="data:image/jpeg;base64,{{ clip.poster }}" aria-label="{{ clip.clip }}: {{ clip.methods | join(", ") }}" src="data:video/mp4;base64,{{ clip.data }}"></video></div><div class="bar"></div>
<div class="names">{% for method in clip.methods %}<span{% if method == "ground_truth" %} class="real"{% endif %}>{{ method.replace("_", " ") }}</span>{% endfor %}</div>
<figcaption><code>{{ clip.clip }}</code> <span class="soft">identity {{ clip.identity }}{% if clip.level %}, level {{ clip.level }}{% endif %}{% if not clip.has_sound %}, without sound{% endif %}</span></figcaption></figure>
{% endfor %}</div>
{% endfor %}{% if left_out %}<p class="note">{{ left_out }} clips were left out to keep the page within its size limit.</p>{% endif %}
{% else %}<p class="soft">This run generated no videos to show.</p>{% endif %}
</section>

<section id="training">
<h2>Training</h2>
{% if trainings %}<p>Horizontal: optimiser steps. <span style="color:var(--train)">Blue</span>: training, <span style="color:var(--val)">orange</span>: validation.
Training curves are means of neighbouring steps.</p>
{% for training in trainings %}<h3>{{ training.name }}</h3>
{% if training.charts %}<div class="charts">{% for chart in training.charts %}{{ chart | safe }}{% endfor %}</div>{% endif %}
{% if training.metrics %}<details><summary>Final numbers</summary><dl class="numbers">{% for name, value in training.metrics %}<div><dt>{{ name }}</dt><dd>{{ value }}</dd></div>{% endfor %}</dl></details>{% endif %}
<div class="pictures">{% for picture in training.grids %}<figure><img loading="lazy" alt="Sample grid of {{ training.name }}" src="data:{{ picture.mime }};base64,{{ picture.data }}"><figcaption>{{ picture.caption }}</figcaption></figure>{% endfor %}</div>
{% endfor %}{% else %}<p class="soft">No training histories were found.</p>{% endif %}
</section>

<section id="figures">
<h2>Figures</h2>
<div class="pictures">
{% for picture in figures %}<figure><img loading="lazy" alt="{{ picture.caption }}" src="data:image/png;base64,{{ picture.data }}"><figcaption>{{ picture.caption }}</figcaption></figure>
{% else %}<p class="soft">There were no coefficients or per-clip tables to draw.</p>
{% endfor %}</div>
</section>

<section id="judges">
<h2>Judges and floors</h2>
<p>A judge's own accuracy on real clips bounds what its score of generated clips can mean. Floors: what chance, another real take, or a still picture reaches.</p>
{% for title, groups in facts %}<h3>{{ title }}</h3>
{% for group, entries in groups %}<p class="note">{{ group }}</p><dl class="numbers">{% for name, value in entries %}<div><dt>{{ name }}</dt><dd>{{ value }}</dd></div>{% endfor %}</dl>
{% else %}<p class="soft">None in this run.</p>
{% endfor %}{% endfor %}
</section>

<section id="reading">
<h2>How to read the table</h2>
<p>Compare a generated row with the rows above it, not with a perfect score: <code>codebook_ceiling</code> is what the decoder can show at all,
<code>vqig_on_fitted</code> what the generator shows when the coefficients are right, and <code>other_take</code> what a second real recording of the same sentence scores against the first.
Where <code>copy_source</code> or <code>shuffled_audio</code> comes close to a generated row, that metric says little about talking. Pixel metrics punish every sampled head pose and blink,
so <code>flowvqtalker_free</code> is to be judged by synchrony, emotion, blink and diversity columns.</p>
<h3>Rows</h3>
<div class="scroll"><table class="text"><tbody>{% for method in methods %}<tr><td><code>{{ method.name }}</code></td><td>{{ method.meaning }}</td></tr>{% endfor %}</tbody></table></div>
<h3>Columns</h3>
<p class="note">Definitions, sources and pitfalls: <code>docs/metrics.md</code> in the repository.</p>
<div class="scroll"><table class="text"><tbody>{% for column in columns %}<tr><td><code>{{ column.name }}</code></td><td>{{ column.meaning }}</td><td>{{ column.direction.value }}</td></tr>{% endfor %}</tbody></table></div>
</section>

<section id="settings">
<h2>Settings</h2>
<p>The sections of <code>params.yaml</code> that this step is tied to; the others stand in the repository and in the run's <code>.stamps/</code>.</p>
{% for section, entries in settings %}<details><summary>{{ section }}</summary><dl class="numbers">{% for name, value in entries %}<div><dt>{{ name }}</dt><dd>{{ value }}</dd></div>{% endfor %}</dl></details>
{% endfor %}
</section>
</main>
<script>{{ script | safe }}</script>
</body>
</html>
"""
