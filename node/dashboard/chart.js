// Traffic: up what came in, down what went out, with phones and with other mailboxes.

import { byId, s, say } from "./dom.js";
import { clockTime, count, dayTime, number } from "./words.js";

const BARS = { hour: 60, week: 56 }; // a minute, and three hours
const WIDTH = 1000;
const HEIGHT = 220;
const LEFT = 46;
const BOTTOM = 24;

/** Sums the samples into bars that end now. */
function bars(ring, number_of_bars, now) {
  const each = ring.span_s / number_of_bars;
  const end = Math.ceil(now / each) * each;
  const sums = Array.from({ length: number_of_bars }, (_, at) => ({ from: end - (number_of_bars - at) * each, stored: 0, served: 0, synced_in: 0, synced_out: 0 }));
  ring.time_s.forEach((time, sample) => {
    const at = Math.floor((time - (end - ring.span_s)) / each);
    const bar = sums[at];
    if (!bar) return;
    for (const name of ["stored", "served", "synced_in", "synced_out"]) bar[name] += ring[name][sample];
  });
  return { each, sums };
}

/** A round number not below `value`: 10, 15, 20, 30, 40, 60, 80, 100 … */
function round_up(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, value)));
  return [1, 1.5, 2, 3, 4, 6, 8, 10].map((step) => Math.ceil(step * power)).find((step) => step >= value);
}

export function showChart(history, span) {
  const ring = history[span];
  const now = Date.now() / 1000;
  const { each, sums } = bars(ring, BARS[span], now);
  const most_in = round_up(Math.max(1, ...sums.map((bar) => bar.stored + bar.synced_in)));
  const most_out = round_up(Math.max(1, ...sums.map((bar) => bar.served + bar.synced_out)));
  // Each half has a scale of its own: phones fetch far more than they leave, and that would press the rest flat.
  const half = (HEIGHT - BOTTOM - 8) / 2;
  const zero = 8 + half;
  const place = (value) => zero - (value > 0 ? (value * half) / most_in : (value * half) / most_out);
  const step = (WIDTH - LEFT) / sums.length;
  const parts = [];
  for (const y of [zero - half, zero + half]) {
    parts.push(s("line", { class: "grid", x1: LEFT, x2: WIDTH, y1: y, y2: y }));
  }
  sums.forEach((bar, at) => {
    const x = LEFT + at * step + step * 0.14;
    const width = step * 0.72;
    const rect = (name, from, to) => {
      const height = Math.abs(place(to) - place(from));
      if (height > 0) parts.push(s("rect", { class: name, x, width, y: Math.min(place(from), place(to)), height: Math.max(1.5, height) }));
    };
    rect("phones", 0, bar.stored);
    rect("mailboxes", bar.stored, bar.stored + bar.synced_in);
    rect("phones", 0, -bar.served);
    rect("mailboxes", -bar.served, -bar.served - bar.synced_out);
    const when = span === "hour" ? clockTime(bar.from) : `${dayTime(bar.from)} – ${clockTime(bar.from + each)}`;
    parts.push(s("rect", { class: "hover", x: LEFT + at * step, width: step, y: 0, height: HEIGHT - BOTTOM },
      s("title", {}, `${when}: ${number(bar.stored)} from phones, ${number(bar.synced_in)} from mailboxes; ${number(bar.served)} to phones, ${number(bar.synced_out)} to mailboxes`)));
  });
  parts.push(s("line", { class: "zero", x1: LEFT, x2: WIDTH, y1: zero, y2: zero }));
  const svg = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, ...parts);
  const words = totals(ring, span);
  const chart = byId("chart");
  chart.replaceChildren(svg, ...labels(most_in, most_out, zero, half, sums, span));
  say(byId("chart-words"), words);
}

/** The texts stand beside the picture, which is stretched. */
function labels(most_in, most_out, zero, half, sums, span) {
  const at = (class_name, text, left, top) => {
    const label = document.createElement("span");
    label.className = class_name;
    label.textContent = text;
    label.style.left = left;
    label.style.top = top;
    label.setAttribute("aria-hidden", "true");
    return label;
  };
  const percent = (value, whole) => `${((100 * value) / whole).toFixed(2)}%`;
  const axis = [
    at("y", number(most_in), "0", percent(zero - half, HEIGHT)),
    at("y", "in", "0", percent(zero - half / 2, HEIGHT)),
    at("y", "out", "0", percent(zero + half / 2, HEIGHT)),
    at("y", number(most_out), "0", percent(zero + half, HEIGHT)),
  ];
  const ticks = span === "hour" ? 4 : 7;
  for (let tick = 0; tick < ticks; tick += 1) {
    const bar = sums[Math.round((tick * sums.length) / ticks)];
    const text = span === "hour" ? clockTime(bar.from) : new Date(bar.from * 1000).toLocaleDateString("en-GB", { weekday: "short", day: "numeric" });
    axis.push(at("x", text, percent(LEFT + (tick / ticks) * (WIDTH - LEFT), WIDTH), percent(HEIGHT - BOTTOM + 6, HEIGHT)));
  }
  return axis;
}

function totals(ring, span) {
  const total = (name) => ring[name].reduce((all, value) => all + value, 0);
  const words = span === "hour" ? "In the last hour" : "In the last week";
  return `${words}: ${count(total("stored"), "message")} left by phones and ${number(total("served"))} fetched, ${number(total("synced_in"))} received from other mailboxes and ${number(total("synced_out"))} sent. Counted while the mailbox runs.`;
}
