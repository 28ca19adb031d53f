"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const recordings = JSON.parse(document.getElementById("data").textContent).recordings;
  root.classList.add("js");
  all("[hidden]:not(.tip)").forEach((element) => { element.hidden = false; });

  /* As words.py writes them. */
  const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const duration = (span) => {
    if (span < 0.9995) return span <= 0 ? "0\u202fs" : `${Number((span * 1000).toPrecision(3))}\u202fms`;
    if (span < 9.95) return `${Number(span.toPrecision(2))}\u202fs`;
    const rest = Math.round(span);
    const index = UNITS.findIndex(([unit]) => rest >= unit);
    const whole = Math.floor(rest / UNITS[index][0]);
    if (index === 3) return `${whole}\u202fs`;
    const more = Math.floor((rest % UNITS[index][0]) / UNITS[index + 1][0]);
    return `${whole}\u202f${UNITS[index][1]}` + (more ? `\u00a0${more}\u202f${UNITS[index + 1][1]}` : "");
  };
  const count = (value) => value.toLocaleString("en-US");
  const percent = (share) => {
    if (share >= 1) return "100\u202f%";
    if (share <= 0) return "0\u202f%";
    return `${Math.min(99.9, Math.max(0.1, 100 * share)).toFixed(share >= 0.1 && share < 0.985 ? 0 : 1)}\u202f%`;
  };
  const rate = (value) => {
    let prefix = 0;
    while (value >= 999.5 && prefix < 3) { value /= 1000; prefix += 1; }
    return `${Number(value.toPrecision(value >= 99.5 ? 3 : 2))}\u202f${["", "k", "M", "G"][prefix]}B/s`;
  };

  /* Words about what is pointed at or focused. */
  const tip = document.getElementById("tip");
  const showTip = (element) => {
    const text = element.dataset.tip || element.getAttribute("aria-label");
    const cut = text.indexOf(": ");
    const head = document.createElement("b");
    head.textContent = cut < 0 ? text : text.slice(0, cut);
    tip.replaceChildren(head, cut < 0 ? "" : text.slice(cut + 2));
    tip.hidden = false;
    const place = element.getBoundingClientRect();
    const left = Math.min(Math.max(12, place.left + place.width / 2 - tip.offsetWidth / 2), innerWidth - tip.offsetWidth - 12);
    const above = place.top - tip.offsetHeight - 10;
    tip.style.left = `${left}px`;
    tip.style.top = `${above < 8 ? place.bottom + 10 : above}px`;
  };
  const hideTip = () => { tip.hidden = true; };
  const TIPPED = ".mark, .pin, [data-tip]";
  document.addEventListener("pointerover", (event) => {
    const element = event.target.closest(TIPPED);
    if (element) showTip(element); else hideTip();
  });
  document.addEventListener("focusin", (event) => { if (event.target.matches(TIPPED)) showTip(event.target); });
  document.addEventListener("focusout", hideTip);
  document.addEventListener("scroll", hideTip, { passive: true, capture: true });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });

  /* In a lane of faults only one mark is a stop of the tab key; arrows lead to the others and to other lanes. */
  for (const timeline of all(".timeline")) {
    const lanes = all(".lane", timeline).map((lane) => all(".mark", lane));
    const go = (mark) => {
      lanes.flat().forEach((other) => { other.tabIndex = other === mark ? 0 : -1; });
      mark.focus();
    };
    lanes.flat().forEach((mark, index) => { mark.tabIndex = index ? -1 : 0; });
    timeline.addEventListener("keydown", (event) => {
      const row = lanes.findIndex((lane) => lane.includes(event.target));
      if (row < 0) return;
      const at = lanes[row].indexOf(event.target);
      const left = parseFloat(event.target.style.left);
      const nearest = (lane) => lane && lane.reduce((best, mark) =>
        Math.abs(parseFloat(mark.style.left) - left) < Math.abs(parseFloat(best.style.left) - left) ? mark : best);
      const target = {
        ArrowLeft: lanes[row][at - 1], ArrowRight: lanes[row][at + 1], Home: lanes[row][0], End: lanes[row].at(-1),
        ArrowUp: nearest(lanes[row - 1]), ArrowDown: nearest(lanes[row + 1]),
      }[event.key];
      if (target) { event.preventDefault(); go(target); }
    });
  }

  /* A line across all charts that reads them. */
  all(".run").forEach((run, number) => {
    const timeline = run.querySelector(".timeline");
    const cursor = timeline.querySelector(".cursor");
    if (!cursor) return;
    const data = recordings[number];
    const length = Number(timeline.dataset.length);
    const overlay = cursor.parentElement;
    const shown = all("[data-series]", timeline);
    const atRest = shown.map((element) => element.textContent);
    const text = {
      held_share: percent, groups: count, up: count, messages: count,
      traffic_bytes: (size, index) => {
        const least = 0.5 * length / data.sampled_s.length;
        return rate(size / Math.max(least, data.sampled_s[index] - (data.sampled_s[index - 1] || 0)));
      },
    };
    let index = data.sampled_s.length - 1;
    const read = (to) => {
      index = Math.min(data.sampled_s.length - 1, Math.max(0, to));
      const at = data.sampled_s[index];
      cursor.style.left = `${100 * at / length}%`;
      cursor.firstChild.textContent = duration(at);
      const said = shown.map((element) => {
        const key = element.dataset.series;
        const value = data[key][index];
        if (value !== undefined && value !== null) element.textContent = text[key](value, index);
        return `${element.previousElementSibling.textContent} ${element.textContent}`;
      });
      cursor.setAttribute("aria-valuenow", at);
      cursor.setAttribute("aria-valuetext", `${duration(at)}: ${said.join(", ")}`);
      timeline.classList.add("reading");
    };
    const rest = () => {
      if (document.activeElement === cursor) return;
      timeline.classList.remove("reading");
      shown.forEach((element, which) => { element.textContent = atRest[which]; });
    };
    const find = (at) => {
      let low = 0, high = data.sampled_s.length - 1;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (data.sampled_s[middle] < at) low = middle + 1; else high = middle;
      }
      return low > 0 && at - data.sampled_s[low - 1] < data.sampled_s[low] - at ? low - 1 : low;
    };
    timeline.addEventListener("pointermove", (event) => {
      const place = overlay.getBoundingClientRect();
      const part = (event.clientX - place.left) / place.width;
      if (part < 0 || part > 1 || event.target.closest(".lane, .pins")) rest(); else read(find(part * length));
    });
    timeline.addEventListener("pointerleave", rest);
    cursor.addEventListener("focus", () => read(index));
    cursor.addEventListener("blur", rest);
    cursor.addEventListener("keydown", (event) => {
      const stride = Math.max(1, Math.round(data.sampled_s.length / 12));
      const to = {
        ArrowLeft: index - 1, ArrowDown: index - 1, ArrowRight: index + 1, ArrowUp: index + 1,
        PageDown: index - stride, PageUp: index + stride, Home: 0, End: data.sampled_s.length - 1,
      }[event.key];
      if (to !== undefined) { event.preventDefault(); read(to); }
    });
  });

  /* Pins that would cover each other stand beside each other. */
  const spread = (track) => {
    const pins = all(".pin", track);
    if (!pins.length) return;
    const gap = 100 * (pins[0].offsetWidth + 2) / track.clientWidth;
    const places = pins.map((pin) => Number(pin.dataset.place));
    for (let index = 1; index < pins.length; index += 1) places[index] = Math.max(places[index], places[index - 1] + gap);
    for (let limit = 100, index = pins.length - 1; index >= 0; index -= 1) {
      places[index] = Math.min(places[index], limit);
      limit = places[index] - gap;
      pins[index].style.left = `${places[index]}%`;
    }
  };
  const tracks = new ResizeObserver((entries) => entries.forEach((entry) => spread(entry.target)));
  all(".pins .track").forEach((track) => tracks.observe(track));

  /* One moment of the network at a time. */
  for (const run of all(".run")) {
    const moments = all(".moment", run);
    if (!moments.length) continue;
    const previous = run.querySelector(".previous"), next = run.querySelector(".next");
    const steps = run.querySelector(".steps");
    let current = 0;
    const show = (to) => {
      current = Math.min(moments.length - 1, Math.max(0, to));
      for (const element of all("[data-moment]", run)) {
        const isCurrent = Number(element.dataset.moment) === current;
        element.classList.toggle("current", isCurrent);
        if (element.matches("a")) element.toggleAttribute("aria-current", isCurrent);
        if (isCurrent && element.matches(".step")) {
          steps.scrollTo({ left: element.offsetLeft - steps.offsetLeft - (steps.clientWidth - element.offsetWidth) / 2 });
        }
      }
      if (previous) { previous.disabled = current === 0; next.disabled = current === moments.length - 1; }
    };
    run.addEventListener("click", (event) => {
      const link = event.target.closest("a[data-moment]");
      if (!link) return;
      event.preventDefault();
      show(Number(link.dataset.moment));
      if (link.matches(".pin")) run.querySelector(".network").scrollIntoView({ block: "nearest" });
    });
    if (previous) {
      previous.addEventListener("click", () => show(current - 1));
      next.addEventListener("click", () => show(current + 1));
      run.querySelector(".stepper").addEventListener("keydown", (event) => {
        const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (by) {
          event.preventDefault();
          show(current + by);
          if (event.target.matches(".step")) steps.children[current].focus();
        }
      });
    }
    show(0);
  }

  /* Tables are sorted by any column; long ones are folded. */
  for (const table of all("table.mailboxes")) {
    const body = table.tBodies[0];
    const head = table.closest(".scroll");
    const unfold = head.nextElementSibling?.matches(".unfold") ? head.nextElementSibling : null;
    const value = (row, column) => {
      const cell = row.cells[column];
      return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
    };
    const names = new Intl.Collator("en", { numeric: true });
    all("thead th", table).forEach((cell, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = cell.textContent;
      cell.replaceChildren(button);
      button.addEventListener("click", () => {
        const isNumber = cell.dataset.sort === "number";
        const before = cell.getAttribute("aria-sort");
        const isUp = before ? before === "descending" : !isNumber;
        all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
        cell.setAttribute("aria-sort", isUp ? "ascending" : "descending");
        const rows = [...body.rows].sort((a, b) => {
          const one = value(a, column), other = value(b, column);
          return (isUp ? 1 : -1) * (isNumber ? one - other : names.compare(one, other));
        });
        const unfolded = all("tr:not(.rest)", body).length;
        rows.forEach((row, place) => row.classList.toggle("rest", place >= unfolded));
        body.append(...rows);
      });
    });
    if (unfold) {
      const all_rows = unfold.textContent;
      const fold = (isFolded) => {
        table.classList.toggle("folded", isFolded);
        unfold.textContent = isFolded ? all_rows : "Show fewer";
        unfold.setAttribute("aria-expanded", String(!isFolded));
      };
      unfold.addEventListener("click", () => fold(!table.classList.contains("folded")));
      fold(true);
    }
  }

  /* One recording at a time. */
  const runs = all(".run"), tabs = all(".runs a");
  const choose = (to) => {
    runs.forEach((run, index) => { run.hidden = index !== to; });
    tabs.forEach((tab, index) => tab.toggleAttribute("aria-current", index === to));
  };
  tabs.forEach((tab, index) => tab.addEventListener("click", (event) => { event.preventDefault(); choose(index); }));
  if (tabs.length) choose(0);

  /* Copying and downloading. */
  for (const button of all(".copy")) {
    button.addEventListener("click", async () => {
      const line = button.parentElement.querySelector(".command");
      try {
        await navigator.clipboard.writeText(line.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(line);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }
  all(".download").forEach((button) => button.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([document.getElementById("data").textContent], { type: "application/json" }));
    link.download = `${recordings[0].scenario.replace(/[^\w-]+/g, "-") || "recording"}-${recordings[0].seed}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }));
})();
