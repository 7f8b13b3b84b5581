// A reward curve that grows while it is looked at. Reads `points`, `progress` and `title` of its model; asks for nothing else.
// points: [step, mode, mean, spread, n, failed]; progress: {status, text, share, commands}

const MODES = { train: "#3b8fd6", val: "#e0782a", test: "#2fa37c" };
const STYLE = `
.agl { --fg: var(--jp-ui-font-color1, var(--vscode-foreground, #222)); --dim: var(--jp-ui-font-color2, #667);
  --line: var(--jp-border-color2, #ccd); --accent: #3b8fd6; --bg: var(--jp-layout-color0, var(--vscode-editor-background, #fff));
  color: var(--fg); background: var(--bg); font: 13px/1.4 var(--jp-ui-font-family, system-ui, sans-serif); padding: 8px 4px; }
@media (prefers-color-scheme: dark) { .agl-page .agl { --fg: #ddd; --dim: #99a; --line: #445; --bg: #16181d; } }
.agl-head { display: flex; flex-wrap: wrap; gap: 4px 14px; align-items: center; }
.agl-title { font-weight: 600; } .agl-text { color: var(--dim); flex: 1; min-height: 1.9em; line-height: 1.9em; }
.agl-key::before { content: ""; display: inline-block; width: 14px; height: 3px; margin-right: 5px; vertical-align: middle; background: var(--c); }
.agl-bar { height: 4px; margin: 6px 0 2px; border-radius: 2px; background: var(--line); overflow: hidden; }
.agl-bar div { height: 100%; background: var(--accent); transition: width 0.3s; }
.agl svg { display: block; width: 100%; touch-action: pan-y; margin: 4px 0; }
.agl svg:focus { outline: none; } .agl svg:focus-visible { outline: 1px solid var(--accent); border-radius: 3px; } .agl svg text { fill: var(--dim); font-size: 11px; }
.agl button { font: inherit; color: var(--fg); background: transparent; border: 1px solid var(--line); border-radius: 4px; padding: 1px 10px; cursor: pointer; }
.agl button:hover { border-color: var(--accent); }
.agl-at { color: var(--dim); min-height: 1.4em; font-variant-numeric: tabular-nums; }`;

function html(tag, name, text) {
  const el = document.createElement(tag);
  if (name) el.className = name;
  if (text !== undefined) el.textContent = text; // never markup
  return el;
}

function svg(tag, attributes, text) {
  const el = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [k, v] of Object.entries(attributes)) el.setAttribute(k, v);
  if (text !== undefined) el.textContent = text;
  return el;
}

function ticks(lo, hi, most) { // round numbers from lo to hi
  const raw = (hi - lo) / most || 1, size = 10 ** Math.floor(Math.log10(raw));
  const gap = [1, 2, 5, 10].map((k) => k * size).find((g) => g >= raw - 1e-12);
  const found = [];
  for (let v = Math.ceil(lo / gap - 1e-9) * gap; v <= hi + gap * 1e-6; v += gap) found.push(+v.toPrecision(10));
  return found;
}

function frame(points, width, height) { // data to pixels
  const means = points.map((p) => p[2]);
  const lo = Math.min(0, ...means), hi = Math.max(1, ...means), last = Math.max(1, ...points.map((p) => p[0]));
  const box = { left: 38, right: width - 12, top: 8, bottom: height - 24 };
  const x = (s) => box.left + (s / last) * (box.right - box.left);
  const y = (v) => box.bottom - ((v - lo) / (hi - lo)) * (box.bottom - box.top);
  return { box, lo, hi, last, x, y, step: (px) => ((px - box.left) / (box.right - box.left)) * last };
}

function axes(root, f) {
  for (const v of ticks(f.lo, f.hi, 5)) {
    root.append(svg("line", { x1: f.box.left, x2: f.box.right, y1: f.y(v), y2: f.y(v), stroke: "var(--line)", "stroke-width": 0.6 }));
    root.append(svg("text", { x: f.box.left - 6, y: f.y(v) + 4, "text-anchor": "end" }, String(v)));
  }
  for (const s of ticks(0, f.last, Math.max(2, Math.min(10, (f.box.right - f.box.left) / 70))))
    if (Number.isInteger(s)) root.append(svg("text", { x: f.x(s), y: f.box.bottom + 16, "text-anchor": "middle" }, String(s)));
}

function line(root, f, points, mode) {
  const colour = MODES[mode] || "#888", at = (v, p) => `${f.x(p[0]).toFixed(1)},${f.y(Math.min(f.hi, Math.max(f.lo, v))).toFixed(1)}`;
  if (mode === "train" && points.length > 1) {
    const edge = [...points.map((p) => at(p[2] + p[3], p)), ...[...points].reverse().map((p) => at(p[2] - p[3], p))];
    root.append(svg("polygon", { points: edge.join(" "), fill: colour, opacity: 0.16, class: "agl-spread" }));
  }
  root.append(svg("polyline", { points: points.map((p) => at(p[2], p)).join(" "), fill: "none", stroke: colour, "stroke-width": 2,
    "stroke-linejoin": "round", class: `agl-line agl-${mode}` }));
  if (mode !== "train" || points.length === 1)
    for (const p of points) root.append(svg("circle", { cx: f.x(p[0]), cy: f.y(p[2]), r: 3.2, fill: colour }));
}

function sentence(points, step) { // what the curve says at a step
  const here = points.filter((p) => p[0] === step);
  const said = here.map(([, mode, mean, spread, n, failed]) =>
    `${mode} ${mean.toFixed(3)} ± ${spread.toFixed(2)} (${n} rollouts${failed ? `, ${failed} failed` : ""})`);
  return here.length ? `step ${step}: ${said.join(" · ")}` : "";
}

function render({ model, el }) {
  const root = html("div", "agl"), head = html("div", "agl-head"), bar = html("div", "agl-bar"), fill = html("div");
  const plot = svg("svg", { height: 240, tabindex: 0, role: "img", "aria-label": "reward by step" }), at = html("div", "agl-at");
  at.setAttribute("aria-live", "polite");
  bar.append(fill);
  root.append(html("style", "", STYLE), head, bar, plot, at);
  el.append(root);
  let f, cursor = null, pending = 0;

  function drawHead() {
    const p = model.get("progress") || {}, modes = new Set(model.get("points").map((q) => q[1]));
    head.replaceChildren(html("span", "agl-title", model.get("title") || "Reward"), html("span", "agl-text", p.text || ""));
    for (const mode of modes) {
      const key = html("span", "agl-key", mode);
      key.style.setProperty("--c", MODES[mode] || "#888");
      head.append(key);
    }
    for (const name of p.commands || []) {
      const button = html("button", "", name);
      button.onclick = () => model.send({ command: name });
      head.append(button);
    }
    bar.hidden = p.share === undefined || p.share === null;
    fill.style.width = `${Math.round(100 * (p.share || 0))}%`;
  }

  function drawPlot() {
    const points = model.get("points"), width = Math.max(240, root.clientWidth - 8 || 640);
    plot.setAttribute("viewBox", `0 0 ${width} 240`);
    plot.replaceChildren();
    f = frame(points, width, 240);
    axes(plot, f);
    for (const mode of Object.keys(MODES)) {
      const some = points.filter((p) => p[1] === mode);
      if (some.length) line(plot, f, some, mode);
    }
    if (cursor !== null) plot.append(svg("line", { x1: f.x(cursor), x2: f.x(cursor), y1: f.box.top, y2: f.box.bottom, stroke: "var(--dim)", "stroke-dasharray": "3 3" }));
    const steps = points.map((p) => p[0]);
    at.textContent = points.length ? sentence(points, cursor === null ? steps[steps.length - 1] : cursor) : "No rewards yet.";
  }

  function draw() { // many changes, one drawing
    if (pending) return;
    pending = requestAnimationFrame(() => { pending = 0; drawHead(); drawPlot(); });
  }

  function move(to) {
    const steps = [...new Set(model.get("points").map((p) => p[0]))];
    if (!steps.length) return;
    cursor = to === null ? null : steps.reduce((a, b) => (Math.abs(b - to) < Math.abs(a - to) ? b : a));
    drawPlot();
  }

  plot.onpointermove = (e) => move(f.step(e.clientX - plot.getBoundingClientRect().left));
  plot.onpointerleave = () => move(null);
  plot.onkeydown = (e) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
    const steps = [...new Set(model.get("points").map((p) => p[0]))].sort((a, b) => a - b);
    if (!by || !steps.length) return;
    e.preventDefault();
    e.stopPropagation();
    const here = cursor === null ? steps.length - (by < 0 ? 0 : 1) : steps.indexOf(cursor);
    move(steps[Math.min(steps.length - 1, Math.max(0, here + by))]);
  };
  const watch = new ResizeObserver(draw);
  watch.observe(root);
  for (const name of ["points", "progress", "title"]) model.on(`change:${name}`, draw);
  drawHead();
  drawPlot();
  return () => watch.disconnect();
}

export default { render };
