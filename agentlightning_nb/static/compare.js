// Runs against each other: curves over steps, rollouts or time, and a table with intervals.

const COMPARE_STYLE = `
.agl-compare { container-type: inline-size; } .agl-picks { display: flex; flex-wrap: wrap; gap: 4px 8px; align-items: center; margin-bottom: 4px; } .agl-picks label { color: var(--dim); font-size: 11px; display: inline-flex; gap: 4px; align-items: center; }
.agl-picks select { font: inherit; font-size: 13px; color: var(--fg); background: var(--bg); border: 1px solid var(--line); border-radius: 3px; padding: 1px 4px; max-width: 220px; } .agl-picks > span { flex: 1; }
.agl-against { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; margin-top: 10px; } .agl-against th { font-weight: 400; font-size: 11px; color: var(--dim); text-align: left; padding: 0 12px 2px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
.agl-against td { padding: 4px 12px 4px 0; border-bottom: 1px solid color-mix(in srgb, var(--line) 50%, transparent); white-space: nowrap; } .agl-against .agl-num { text-align: right; } .agl-against td small { color: var(--dim); } .agl-against tbody tr:hover { background: color-mix(in srgb, var(--accent) 9%, transparent); }
.agl .agl-against button.agl-run-name { border: 0; padding: 0; text-align: left; } .agl .agl-against button.agl-run-name:hover { color: var(--accent); } .agl .agl-against button.agl-run-name { max-width: 190px; overflow: hidden; text-overflow: ellipsis; } .agl-scrolls { overflow-x: auto; }
.agl-run-name i { display: inline-block; width: 12px; height: 12px; border-radius: 3px; background: var(--c); margin-right: 8px; vertical-align: -1px; } .agl-run-name small { display: block; margin-left: 20px; font: 11px var(--mono); }
.agl-interval svg { display: block; width: 100%; height: 18px; } .agl-interval { width: 24%; } .agl .agl-tiny { font-size: 11px; padding: 0 7px; }
@container (max-width: 640px) { .agl-against th:nth-child(n+4), .agl-against td:nth-child(n+4) { display: none; } .agl-against th:last-child, .agl-against td:last-child { display: table-cell; } .agl-interval { width: 30%; } .agl-against .agl-tiny:not(:last-child) { display: none; } .agl .agl-against button.agl-run-name { max-width: 120px; } }`;
const RUN_COLOURS = ["#3b8fd6", "#e0782a", "#2fa37c", "#b565c9", "#c9a227", "#d6517a", "#5f7f9e", "#8a6d3b"];
const ACROSS = { step: (p) => p.step, rollouts: (p) => p.rollouts, time: (p) => p.seconds };

function compare_across(name, value) { return name === "step" ? `step ${value}` : name === "rollouts" ? `${Math.round(value).toLocaleString("en-US")} rollouts` : lasting(value); }

function compare_interval(end, colour, lo, hi) { // a mean with its 95 % interval
  const root = svg("svg", { viewBox: "0 0 200 18", preserveAspectRatio: "none", "aria-hidden": "true" }), x = (v) => 4 + (192 * (Math.max(lo, Math.min(hi, v)) - lo)) / (hi - lo || 1);
  root.append(svg("line", { x1: 4, x2: 196, y1: 9, y2: 9, stroke: "var(--line)" }));
  root.append(svg("rect", { x: x(end.mean - end.within), y: 7, width: Math.max(1, x(end.mean + end.within) - x(end.mean - end.within)), height: 4, rx: 2, fill: colour, opacity: 0.45 }), svg("rect", { x: x(end.mean) - 2, y: 3, width: 4, height: 12, rx: 1.5, fill: colour }));
  return root;
}

function compare_row(run, mode, colour, range, act) {
  const row = html("tr"), name = html("button", "agl-run-name"), dot = html("i"), ends = run.ends[mode], took = (run.end_time ?? Date.now() / 1000) - run.start_time, last = html("td"), where = html("td", "agl-interval");
  const figures = (end) => (end ? [end.mean.toFixed(3), html("small", "", ` ± ${end.within.toFixed(3)}`)] : ["–"]);
  dot.style.setProperty("--c", colour);
  name.append(dot, html("span", "", run.algorithm || "run"), html("small", "", run.run_id));
  name.title = "open the run";
  name.onclick = () => act.open(run.run_id);
  if (ends) where.append(compare_interval(ends.final, colour, ...range));
  const cells = [[name], figures(ends?.final), null, ends ? [ends.best.mean.toFixed(3), html("small", "", ` at step ${ends.best.step}`)] : ["–"], figures(ends?.first), [run.status], [run.rollouts.toLocaleString("en-US")], [lasting(took)]];
  cells.forEach((what, i) => {
    if (what === null) { row.append(where); return; }
    const cell = html("td", i > 5 ? "agl-num" : "");
    cell.append(...what);
    row.append(cell);
  });
  for (const [label, does] of [["tasks", act.matrix], ["versions", act.versions], ["×", act.remove]]) {
    const b = html("button", "agl-tiny", label);
    b.title = { tasks: "its tasks under each version", versions: "its versions", "×": "leave it out" }[label];
    b.style.marginRight = "4px";
    b.onclick = () => does(run.run_id);
    last.append(b);
  }
  row.append(last);
  return row;
}

function draw_compare(model, el, params) {
  const asked = params || model.get("params") || {}, root = html("div", "agl agl-compare"), said = html("p", "agl-none", "Reading the runs …"), body = html("div"), picks = html("div", "agl-picks"), plot = chart("reward of each run", 260), place = html("div");
  const kinds = html("select"), across = html("select"), more = html("select");
  let ids = asked.runs || null, known = [], told = null, mode = asked.mode || "", over = false, fresh = null, before = "";
  const colours = {};
  said.setAttribute("role", "status");
  for (const name of Object.keys(ACROSS)) { const option = html("option", "", name); option.value = name; across.append(option); }
  const labelled = (label, field) => { const whole = html("label", "", label); whole.append(field); return whole; };
  picks.append(labelled("reward on", kinds), labelled("over", across), html("span"), labelled("add", more));
  body.append(picks, plot.root, place);
  body.hidden = true;
  root.append(html("style", "", STYLE + CURVE_STYLE + COMPARE_STYLE), said, body);
  el.append(root);

  const act = {
    open: (run_id) => { if (!go(root, "run", { run_id })) said.textContent = `Nothing here shows a run. In a cell: %lightning rewards --run ${run_id}`; },
    matrix: (run_id) => go(root, "matrix", { run_id }),
    versions: (run_id) => go(root, "versions", { run_id }),
    remove: (run_id) => { ids = ids.filter((id) => id !== run_id); fresh.now(); keeps(); },
  };

  async function load() {
    try {
      known = await ask(model, "runs", {}).catch(() => known); // a file has only some of the answers
      if (over) return;
      ids = ids || known.slice(0, 4).map((r) => r.run_id);
      const found = ids.length ? await ask(model, "compare", { runs: ids }) : { runs: [] };
      if (over) return;
      told = found;
      said.textContent = told.runs.length ? "" : "No runs yet.";
      body.hidden = false;
      const key = JSON.stringify([found, known.map((r) => r.run_id)]);
      if (key !== before) draw();
      before = key;
    } catch (e) { if (!over) said.textContent = String(e.message || e); }
  }

  function draw() {
    const modes = ["val", "train", "test"].filter((m) => told.runs.some((r) => r.points[m]?.length));
    for (const run of told.runs) colours[run.run_id] = colours[run.run_id] || RUN_COLOURS.find((c) => !Object.entries(colours).some(([id, taken]) => taken === c && ids.includes(id))) || RUN_COLOURS[0];
    mode = modes.includes(mode) ? mode : modes[0] || "train";
    kinds.replaceChildren(...modes.map((m) => { const option = html("option", "", m); option.value = m; option.selected = m === mode; return option; }));
    const others = known.filter((r) => !ids.includes(r.run_id)), none = html("option", "", others.length ? "a run …" : "no other run");
    none.value = "";
    more.replaceChildren(none, ...others.slice(0, 100).map((r) => { const option = html("option", "", `${isolated(r.algorithm || "run")} ${isolated(r.run_id)}`); option.value = r.run_id; return option; }));
    more.disabled = !others.length;
    curves();
    rows();
  }

  function curves() {
    const name = across.value, names = Object.fromEntries(told.runs.map((r) => [r.run_id, `${isolated(r.algorithm || "run")} ${isolated(r.run_id.slice(0, 8))}`]));
    const points = told.runs.flatMap((r) => (r.points[mode] || []).map((p) => [ACROSS[name](p), r.run_id, p.mean, p.within, p.n, p.failed]));
    plot.show(points, { colours, between: name !== "step", x_text: (v) => compare_across(name, v), words: (p) => `${names[p[1]]}: ${p[2].toFixed(3)} ± ${p[3].toFixed(3)}`, empty: "No rewards yet." });
  }

  function rows() {
    const table = html("table", "agl-against"), head = html("thead"), names = html("tr"), body = html("tbody"), ends = told.runs.map((r) => r.ends[mode]?.final).filter(Boolean);
    const range = [Math.min(0, ...ends.map((e) => e.mean - e.within)), Math.max(...ends.map((e) => e.mean + e.within), ends.length ? -Infinity : 1, Math.max(0, ...ends.map((e) => e.mean)) <= 1 ? 1 : -Infinity)];
    ["run", `final ${mode}`, "95 % interval", "best", "first", "status", "rollouts", "took", ""].forEach((name, i) => names.append(html("th", i === 6 || i === 7 ? "agl-num" : "", name)));
    head.append(names);
    body.append(...[...told.runs].sort((a, b) => (b.ends[mode]?.final.mean ?? -Infinity) - (a.ends[mode]?.final.mean ?? -Infinity)).map((r) => compare_row(r, mode, colours[r.run_id], range, act)));
    table.append(head, body);
    const scrolls = html("div", "agl-scrolls");
    scrolls.append(table);
    place.replaceChildren(...(told.runs.length ? [scrolls] : []));
  }

  const keeps = () => keep(root, { runs: ids, mode, over: across.value });
  if (asked.over in ACROSS) across.value = asked.over;
  kinds.onchange = () => { mode = kinds.value; draw(); keeps(); };
  across.onchange = () => { curves(); keeps(); };
  more.onchange = () => { if (more.value) { ids = [...ids, more.value]; fresh.now(); keeps(); } };
  fresh = refreshed(model, root, load, 3000, (e) => e.kind === "metric" || e.kind === "run");
  return () => { over = true; fresh.stop(); plot.stop(); };
}
