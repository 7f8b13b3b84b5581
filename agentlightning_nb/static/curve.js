// A chart of series by step, and the reward curve alone. Drawn from points [step, series, value, spread, n, failed].

const SERIES = { train: "#3b8fd6", val: "#e0782a", test: "#2fa37c" };
const CURVE_STYLE = `
.agl-chart svg { display: block; width: 100%; touch-action: pan-y; margin: 4px 0 0; cursor: crosshair; }
.agl-chart svg:focus { outline: none; } .agl-chart svg:focus-visible { outline: 1px solid var(--accent); }
.agl-chart svg text { fill: var(--dim); font-size: 11px; font-variant-numeric: tabular-nums; }
.agl-at { color: var(--dim); min-height: 1.4em; font-variant-numeric: tabular-nums; }
.agl-head { display: flex; flex-wrap: wrap; gap: 4px 14px; align-items: center; }
.agl-title { font-weight: 600; } .agl-text { color: var(--dim); flex: 1 1 200px; min-height: 1.9em; line-height: 1.9em; font-variant-numeric: tabular-nums; }
.agl-key::before { content: ""; display: inline-block; width: 14px; height: 3px; margin-right: 5px; vertical-align: middle; background: var(--c); }
.agl-bar { height: 3px; margin: 5px 0; background: var(--line); overflow: hidden; }
.agl-bar div { height: 100%; background: var(--accent); transition: width 0.3s; }
@media (prefers-reduced-motion: reduce) { .agl-bar div { transition: none; } }`;

function ticks(lo, hi, most) { // round numbers from lo to hi
  const raw = (hi - lo) / most || 1, size = 10 ** Math.floor(Math.log10(raw));
  const gap = [1, 2, 5, 10].map((k) => k * size).find((g) => g >= raw - 1e-12 * size);
  const found = [];
  for (let v = Math.ceil(lo / gap - 1e-9) * gap; v <= hi + gap * 1e-6; v += gap) found.push(+v.toPrecision(10));
  return found;
}

function chart_frame(points, width, height, unit) { // data to pixels; unit: the values are rewards, so 0 to 1 is always in sight
  const values = points.map((p) => p[2]).filter((v) => v !== null);
  let lo = Math.min(unit ? 0 : Infinity, ...values), hi = Math.max(unit ? 1 : -Infinity, ...values);
  if (!isFinite(lo)) [lo, hi] = [0, 1];
  if (!unit) {
    if (lo > 0 && lo < 0.5 * hi) lo = 0;
    const pad = (hi - lo) * 0.06 || Math.abs(hi) * 0.1 || 1;
    [lo, hi] = [lo === 0 ? 0 : lo - pad, hi + pad];
  }
  const steps = points.map((p) => p[0]), first = Math.min(0, ...steps), last = Math.max(first + 1, ...steps);
  const box = { left: 48, right: width - 14, top: 8, bottom: height - 22 };
  const x = (s) => box.left + ((s - first) / (last - first)) * (box.right - box.left);
  const y = (v) => box.bottom - ((Math.min(hi, Math.max(lo, v)) - lo) / (hi - lo)) * (box.bottom - box.top);
  return { box, lo, hi, first, last, x, y, step: (px) => first + ((px - box.left) / (box.right - box.left)) * (last - first) };
}

function chart_axes(root, f) {
  for (const v of ticks(f.lo, f.hi, 4)) {
    root.append(svg("line", { x1: f.box.left, x2: f.box.right, y1: f.y(v), y2: f.y(v), stroke: "var(--line)", "stroke-width": 0.6 }));
    const text = v !== 0 && (Math.abs(v) < 1e-3 || Math.abs(v) >= 1e5) ? v.toExponential(0) : String(v);
    root.append(svg("text", { x: f.box.left - 6, y: f.y(v) + 4, "text-anchor": "end" }, text));
  }
  for (const s of ticks(f.first, f.last, Math.max(2, Math.min(10, (f.box.right - f.box.left) / 70))))
    if (Number.isInteger(s) || f.between) root.append(svg("text", { x: f.x(s), y: f.box.bottom + 15, "text-anchor": "middle" }, f.x_text ? f.x_text(s).replace(/^step | rollouts$/, "") : String(s)));
}

function pieces(points) { // runs of points that have a value
  const found = [[]];
  for (const p of points) {
    if (p[2] !== null) found[found.length - 1].push(p);
    else if (found[found.length - 1].length) found.push([]);
  }
  return found.filter((some) => some.length);
}

function chart_line(root, f, points, name) {
  const colour = f.colours?.[name] || SERIES[name] || "var(--accent)", at = (v, p) => `${f.x(p[0]).toFixed(1)},${f.y(v).toFixed(1)}`;
  for (const some of pieces(points)) {
    if (some.length > 1 && some.some((p) => p[3]) && name !== "val" && name !== "test") {
      const edge = [...some.map((p) => at(p[2] + p[3], p)), ...[...some].reverse().map((p) => at(p[2] - p[3], p))];
      root.append(svg("polygon", { points: edge.join(" "), fill: colour, opacity: 0.14, class: "agl-spread" }));
    }
    root.append(svg("polyline", { points: some.map((p) => at(p[2], p)).join(" "), fill: "none", stroke: colour, "stroke-width": 1.8,
      "stroke-linejoin": "round", class: `agl-line agl-${name}` }));
    if (name === "val" || name === "test" || some.length === 1)
      for (const p of some) root.append(svg("circle", { cx: f.x(p[0]), cy: f.y(p[2]), r: 2.8, fill: colour }));
  }
  for (const p of points.filter((q) => q[2] === null)) // NaN or infinite
    root.append(svg("text", { x: f.x(p[0]), y: f.box.top + 10, "text-anchor": "middle", class: "agl-nan" }, "×"));
}

function figure(v) { // four digits, as one reads them
  if (v === null || v === undefined) return "not finite";
  if (Number.isInteger(v)) return v.toLocaleString("en-US");
  const size = Math.abs(v);
  if (v !== 0 && (size < 1e-3 || size >= 1e6)) return v.toExponential(2);
  return size >= 1000 ? Math.round(v).toLocaleString("en-US") : size >= 100 ? v.toFixed(1) : v.toFixed(3);
}

function newest(points) { // the last point of each series
  return [...new Map(points.map((p) => [p[1], p])).values()];
}

function reward_words([, mode, mean, spread, n, failed]) {
  return `${mode} ${mean.toFixed(3)} ± ${spread.toFixed(2)} (${n} rollouts${failed ? `, ${failed} failed` : ""})`;
}

function sentence_at(points, step, words, x_text) { // what the curves say at a step; without one, where they are now
  if (x_text) return newest(step === null ? points : points.filter((p) => p[0] <= step)).map((p) => `${words(p)} at ${x_text(p[0])}`).join(" · ");
  if (step === null) return newest(points).map((p) => `${words(p)} at step ${p[0]}`).join(" · ");
  return `step ${step}: ${points.filter((p) => p[0] === step).map(words).join(" · ")}`;
}

function chart(label, height) { // a plot with a cursor, and a sentence beneath
  const root = html("div", "agl-chart"), at = html("div", "agl-at");
  const plot = svg("svg", { height, tabindex: 0, role: "img", "aria-label": `${label} by step; arrow keys move along the steps` });
  let points = [], options = {}, f = null, cursor = null, pending = 0;
  at.setAttribute("aria-live", "polite");
  root.append(plot, at);
  const steps = () => [...new Set(points.map((p) => p[0]))].sort((a, b) => a - b);

  function draw() {
    pending = 0;
    const width = Math.max(220, root.clientWidth || 640), all = steps();
    plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
    plot.replaceChildren();
    f = { ...chart_frame(points, width, height, options.unit), colours: options.colours, x_text: options.x_text, between: options.between };
    chart_axes(plot, f);
    for (const name of [...new Set(points.map((p) => p[1]))].sort((a, b) => Object.keys(SERIES).indexOf(a) - Object.keys(SERIES).indexOf(b)))
      chart_line(plot, f, points.filter((p) => p[1] === name), name);
    if (cursor !== null) plot.append(svg("line", { x1: f.x(cursor), x2: f.x(cursor), y1: f.box.top, y2: f.box.bottom, stroke: "var(--dim)", "stroke-dasharray": "3 3" }));
    at.textContent = all.length ? sentence_at(points, cursor, options.words, options.x_text) : options.empty;
  }

  function later() { if (!pending) pending = requestAnimationFrame(draw); } // many changes, one drawing

  function move(to) {
    const all = steps();
    cursor = to === null || !all.length ? null : all.reduce((a, b) => (Math.abs(b - to) < Math.abs(a - to) ? b : a));
    draw();
  }

  plot.onpointermove = (e) => f && move(f.step((e.clientX - plot.getBoundingClientRect().left)));
  plot.onpointerleave = () => move(null);
  plot.onkeydown = (e) => {
    const all = steps(), last = all.length - 1, here = cursor === null ? last : all.indexOf(cursor);
    const to = { ArrowLeft: cursor === null ? last : here - 1, ArrowRight: here + 1, Home: 0, End: last }[e.key];
    if (to === undefined || last < 0) return;
    e.preventDefault();
    e.stopPropagation();
    move(all[Math.min(last, Math.max(0, to))]);
  };
  const watch = new ResizeObserver(later);
  watch.observe(root);
  return {
    root,
    show(some, how) { [points, options] = [some, { empty: "No rewards yet.", words: reward_words, unit: true, ...how }]; later(); },
    stop() { watch.disconnect(); cancelAnimationFrame(pending); },
  };
}

function keys_of(points) { // which colour is which
  return Object.keys(SERIES).filter((mode) => points.some((p) => p[1] === mode)).map((mode) => {
    const key = html("span", "agl-key", mode);
    key.style.setProperty("--c", SERIES[mode]);
    return key;
  });
}

function draw_curve(model, el) { // `points`, `progress` {text, share}, `title`
  const root = html("div", "agl"), head = html("div", "agl-head"), bar = html("div", "agl-bar"), fill = html("div");
  const plot = chart("reward", 240);
  bar.append(fill);
  root.append(html("style", "", STYLE + CURVE_STYLE), head, bar, plot.root);
  el.append(root);
  function draw() {
    const p = model.get("progress") || {}, points = model.get("points") || [];
    head.replaceChildren(html("span", "agl-title", model.get("title") || "Reward"), html("span", "agl-text", p.text || ""), ...keys_of(points));
    bar.hidden = p.share === undefined || p.share === null;
    fill.style.width = `${Math.round(100 * (p.share || 0))}%`;
    plot.show(points, {});
  }
  const names = ["points", "progress", "title"].map((name) => `change:${name}`);
  for (const name of names) model.on(name, draw);
  draw();
  return () => { plot.stop(); for (const name of names) model.off?.(name, draw); };
}
