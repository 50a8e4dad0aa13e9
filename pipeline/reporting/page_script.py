"""Script of the page: theme, sortable tables, intervals on and off, values under the pointer, one video at a time.

A Python string, not a loose file, so that the step's code hash covers it. The page works without it.
"""

SCRIPT = """
"use strict";
(() => {
  const root = document.documentElement;
  const remember = (key, value) => { try { localStorage.setItem(key, value); } catch { /* storage is off: the choice lasts as long as the page */ } };
  const recall = (key) => { try { return localStorage.getItem(key); } catch { return null; } };
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const paint = () => { root.dataset.theme = recall("fvqt-theme") || (dark.matches ? "dark" : "light"); };
  paint();
  dark.addEventListener("change", paint);
  document.getElementById("theme").addEventListener("click", () => {
    const next = root.dataset.theme === "dark" ? "light" : "dark";
    remember("fvqt-theme", next);
    root.dataset.theme = next;
  });

  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    table.tHead.rows[0].querySelectorAll("th").forEach((head, index) => {
      const button = head.querySelector("button");
      if (!button) return;
      button.addEventListener("click", () => {
        const next = { none: "ascending", ascending: "descending", descending: "none" }[head.getAttribute("aria-sort") || "none"];
        table.tHead.rows[0].querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
        if (next === "none") { body.append(...original); return; }
        head.setAttribute("aria-sort", next);
        const sign = next === "ascending" ? 1 : -1;
        const key = (row) => row.cells[index].dataset.v ?? row.cells[index].textContent.trim();
        const sorted = [...original].sort((a, b) => {
          const [left, right] = [key(a), key(b)];
          if (left === "" || right === "") return (left === "") - (right === "");
          const [x, y] = [Number(left), Number(right)];
          return sign * (Number.isNaN(x) || Number.isNaN(y) ? left.localeCompare(right) : x - y);
        });
        body.append(...sorted);
      });
    });
  }

  const intervals = document.getElementById("intervals");
  if (intervals) {
    intervals.addEventListener("change", () => document.querySelectorAll(".results").forEach((table) => table.classList.toggle("plain", !intervals.checked)));
  }

  const short = (value) => Number(value.toPrecision(4)).toString();
  for (const chart of document.querySelectorAll(".chart")) {
    const curves = JSON.parse(chart.dataset.curves);
    const svg = chart.querySelector("svg");
    const output = chart.querySelector("output");
    const cursor = chart.querySelector(".cursor");
    const clear = () => { output.textContent = ""; cursor.setAttribute("x1", -9); cursor.setAttribute("x2", -9); };
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
      let text = "", step = null, at = x;
      for (const [split, points] of Object.entries(curves)) {
        const point = points.reduce((best, candidate) => Math.abs(candidate[0] - x) < Math.abs(best[0] - x) ? candidate : best);
        if (step === null) { step = point[1]; at = point[0]; }
        text += ` ${split} ${short(point[2])}`;
      }
      output.textContent = `${Math.round(step)}:${text}`;
      cursor.setAttribute("x1", at);
      cursor.setAttribute("x2", at);
    });
    svg.addEventListener("pointerleave", clear);
  }

  const videos = [...document.querySelectorAll("video")];
  for (const video of videos) {
    const bar = video.closest(".clip").querySelector(".bar");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "play";
    button.setAttribute("aria-label", `Play ${video.getAttribute("aria-label")}`);
    video.removeAttribute("controls");
    video.after(button);
    const show = () => { button.textContent = video.paused ? "\\u25B6" : "\\u275A\\u275A"; };
    const toggle = () => { if (video.paused) video.play().catch(() => { button.textContent = "cannot play here"; }); else video.pause(); };
    show();
    button.addEventListener("click", toggle);
    video.addEventListener("click", toggle);
    video.addEventListener("play", () => { videos.forEach((other) => { if (other !== video) other.pause(); }); show(); });
    video.addEventListener("pause", show);
    video.addEventListener("timeupdate", () => { bar.style.width = `${100 * video.currentTime / (video.duration || 1)}%`; });
  }
})();
"""
