// What changed from one version of the resources to another, and what that did to the same tasks.

const DIFF_STYLE = `
.agl-diff { container-type: inline-size; } .agl-from { display: flex; flex-wrap: wrap; align-items: baseline; gap: 2px 10px; margin: 0 0 6px; font-size: 14px; } .agl-from b { font-weight: 600; } .agl-from small { color: var(--dim); font-size: 12px; max-width: 46ch; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.agl-resource { border: 1px solid var(--line); border-radius: 4px; margin: 8px 0; } .agl-resource > header { display: flex; gap: 8px; align-items: baseline; padding: 4px 10px; border-bottom: 1px solid var(--line); } .agl-resource > header b { font-weight: 600; }
.agl-resource > header span { color: var(--dim); font-size: 12px; } .agl-resource > header em { margin-left: auto; font-style: normal; font-size: 11px; color: var(--c, var(--dim)); } .agl-resource > div { padding: 6px 10px 8px; }
.agl-text-diff { font: 12.5px/1.6 var(--mono); white-space: pre-wrap; overflow-wrap: anywhere; max-height: 420px; overflow: auto; } .agl ins, .agl del { border-radius: 2px; padding: 0 1px; color: inherit; }
.agl ins { background: color-mix(in srgb, var(--good) 26%, transparent); text-decoration: none; } .agl del { background: color-mix(in srgb, var(--bad) 20%, transparent); text-decoration: line-through; text-decoration-thickness: 1px; text-decoration-color: color-mix(in srgb, var(--bad) 70%, transparent); }
.agl-fold { color: var(--dim); font-style: normal; font-size: 11px; border: 1px dashed var(--line); border-radius: 8px; padding: 0 7px; margin: 0 3px; white-space: nowrap; }
.agl-changes { width: 100%; border-collapse: collapse; font: 12px/1.5 var(--mono); table-layout: fixed; } .agl-changes td { padding: 2px 10px 2px 0; vertical-align: top; overflow-wrap: anywhere; white-space: pre-wrap; } .agl-changes td:first-child { width: 28%; color: var(--dim); }
.agl-heat { border-collapse: separate; border-spacing: 2px; font-size: 11px; font-variant-numeric: tabular-nums; } .agl-heat th { font-weight: 400; color: var(--dim); padding: 0 4px; text-align: center; white-space: nowrap; } .agl-heat th[scope=row] { text-align: right; padding-right: 8px; }
.agl-heat td { height: 18px; min-width: 26px; padding: 0; border-radius: 2px; background: color-mix(in srgb, var(--accent) var(--h), color-mix(in srgb, var(--line) 30%, transparent)); } .agl-heat td:hover, .agl-heat td:focus { outline: 1px solid var(--fg); } .agl-heated { overflow-x: auto; }
.agl-tensors { display: grid; grid-template-columns: minmax(90px, auto) 1fr 60px; gap: 2px 10px; align-items: center; font-size: 12px; margin-top: 6px; font-variant-numeric: tabular-nums; } .agl-tensors span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; } .agl-tensors i { height: 8px; background: var(--accent); border-radius: 1px; min-width: 1px; }
.agl-tensors span:nth-child(3n) { text-align: right; } .agl-readout { color: var(--dim); font-size: 12px; min-height: 1.4em; margin-top: 4px; font-variant-numeric: tabular-nums; }
.agl-effect { margin: 14px 0 4px; font-size: 14px; } .agl-effect b { font-weight: 600; color: var(--c); } .agl-pairs { width: 100%; border-collapse: collapse; table-layout: fixed; font-variant-numeric: tabular-nums; }
.agl-pairs th { font-weight: 400; font-size: 11px; color: var(--dim); text-align: left; padding: 0 10px 2px 0; border-bottom: 1px solid var(--line); } .agl-pairs td { padding: 3px 10px 3px 0; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; } .agl-pairs .agl-num { text-align: right; }
.agl-pairs tbody tr { cursor: pointer; } .agl-pairs tbody tr:hover, .agl-pairs tbody tr:focus { background: color-mix(in srgb, var(--accent) 12%, transparent); outline: none; } .agl-pairs svg { display: block; width: 100%; height: 16px; }
.agl-pairs th:nth-child(2) { width: 30%; } .agl-pairs th:nth-child(3), .agl-pairs th:nth-child(4) { width: 56px; } .agl-pairs th:nth-child(5) { width: 64px; } .agl-pairs td:nth-child(5) { color: var(--c); }
@container (max-width: 520px) { .agl-pairs th:nth-child(3), .agl-pairs td:nth-child(3), .agl-pairs th:nth-child(4), .agl-pairs td:nth-child(4) { display: none; } .agl-changes td:first-child { width: 34%; } .agl-from small { max-width: 100%; } }`;

function diff_words(pieces) {
  const box = html("div", "agl-text-diff");
  for (const { op, text, hidden } of pieces) {
    if (op === "fold") box.append(html("em", "agl-fold", `${hidden.toLocaleString("en-US")} characters unchanged`));
    else box.append(html({ "-": "del", "+": "ins" }[op] || "span", "", text));
  }
  return box;
}

function diff_value(value) { return value === undefined || value === null ? "none" : typeof value === "string" ? value : JSON.stringify(value); }

function diff_changes(changes) { // path, and before → after
  const table = html("table", "agl-changes"), body = html("tbody");
  for (const c of changes) {
    const row = html("tr"), what = html("td");
    if (c.text) what.append(diff_words(c.text));
    else {
      if (c.op !== "added") what.append(html("del", "", diff_value(c.before)));
      if (c.op === "changed") what.append(" → ");
      if (c.op !== "removed") what.append(html("ins", "", diff_value(c.after)));
    }
    row.append(html("td", "", c.path || "all of it"), what);
    body.append(row);
  }
  table.append(body);
  return table;
}

const LAYER_NAMES = [["self_attn.", ""], ["attention.", ""], ["mlp.", ""], ["_proj", ""], ["input_layernorm", "norm in"], ["post_attention_layernorm", "norm post"], ["layernorm", "norm"]];

function diff_layers(layers) { // a square for each tensor of a layer, darker the more it changed; the others as bars
  const rows = new Map(), columns = new Map(), others = [], most = Math.max(1e-12, ...layers.map((l) => l.change ?? 0)), root = html("div"), readout = html("div", "agl-readout");
  for (const l of layers) {
    const found = /(?:^|\.)(?:layers|h|blocks)\.(\d+)\.(.+?)(\.weight)?$/.exec(l.name);
    if (!found) { others.push(l); continue; }
    const name = LAYER_NAMES.reduce((text, [from, to]) => text.replace(from, to), found[2]);
    columns.set(name, true);
    if (!rows.has(found[1])) rows.set(found[1], {});
    rows.get(found[1])[name] = l;
  }
  const told = (l) => (l.change === null ? `${l.name}: only on one side, or of another shape` : `${l.name} (${l.shape.join(" × ")}) moved by ${(100 * l.change).toFixed(2)} % of its norm; largest ${l.largest.toExponential(1)}`);
  if (rows.size) {
    const table = html("table", "agl-heat"), names = html("tr"), place = html("div", "agl-heated");
    names.append(html("th"), ...[...columns.keys()].map((name) => html("th", "", name)));
    table.append(names);
    for (const [layer, cells] of rows) {
      const row = html("tr"), name = html("th", "", `layer ${layer}`);
      name.scope = "row";
      row.append(name);
      for (const column of columns.keys()) {
        const l = cells[column], cell = html("td");
        cell.style.setProperty("--h", `${l && l.change !== null ? Math.round((100 * l.change) / most) : 0}%`);
        if (l) { cell.title = told(l); cell.tabIndex = -1; cell.onpointerenter = cell.onfocus = () => { readout.textContent = told(l); }; }
        row.append(cell);
      }
      table.append(row);
    }
    table.querySelector("td[tabindex]").tabIndex = 0;
    table.onkeydown = (e) => {
      const row = e.target.parentNode, i = [...row.children].indexOf(e.target);
      const to = { ArrowRight: row.children[i + 1], ArrowLeft: i > 1 ? row.children[i - 1] : null, ArrowDown: row.nextSibling?.children[i], ArrowUp: row.previousSibling?.children[i] }[e.key];
      if (!e.key.startsWith("Arrow")) return;
      e.preventDefault();
      e.stopPropagation();
      if (to?.tagName === "TD") to.focus();
    };
    place.append(table);
    root.append(place);
  }
  const bars = html("div", "agl-tensors");
  for (const l of others) {
    const bar = html("i"), lane = html("span"), name = html("span", "", l.name);
    bar.style.cssText = `display: block; width: ${(100 * (l.change ?? 0)) / most}%`;
    name.title = lane.title = told(l);
    lane.append(bar);
    bars.append(name, lane, html("span", "", l.change === null ? "–" : `${(100 * l.change).toFixed(2)} %`));
  }
  readout.textContent = `Darkest: ${(100 * most).toFixed(2)} % of the tensor's norm.`;
  root.append(...(others.length ? [bars] : []), ...(rows.size ? [readout] : []));
  return root;
}

function diff_resource(name, r, more) {
  const box = html("section", "agl-resource"), head = html("header"), body = html("div"), mark = html("em", "", r.status);
  mark.style.setProperty("--c", { added: "var(--good)", removed: "var(--bad)" }[r.status] || "var(--dim)");
  head.append(html("b", "", name), html("span", "", r.kind.replaceAll("_", " ")), mark);
  if (r.text) body.append(diff_words(r.text));
  const left = (r.changes || []).filter((c) => !(r.text && c.path === "template"));
  if (left.length) body.append(diff_changes(left));
  if (r.layers) body.append(diff_layers(r.layers));
  if (r.why) body.append(html("p", "agl-none", r.why));
  if (r.large) {
    const b = html("button", "", "compare them");
    b.onclick = () => { b.disabled = true; b.textContent = "reading …"; more(); };
    body.append(b);
  }
  for (const side of ["before", "after"]) if (r[side] !== undefined && r[side] !== null) body.append(diff_changes(Object.entries(r[side]).filter(([path, value]) => path !== "resource_type" && value !== null && value !== "" && JSON.stringify(value) !== "{}").map(([path, value]) => ({ path, op: side === "after" ? "added" : "removed", before: value, after: value }))));
  box.append(head, body);
  return box;
}

function diff_version(v) {
  const box = html("span"), note = html("small", "", v.note || "");
  note.title = v.note || "";
  box.append(html("b", "", `version ${v.version}`));
  return v.note ? [box, note] : [box];
}

function diff_ends(row, lo, hi) { // from one mean to the other
  const root = svg("svg", { viewBox: "0 0 200 16", "aria-hidden": "true" }), x = (v) => 8 + (184 * (v - lo)) / (hi - lo || 1), colour = tone(row.change);
  root.append(svg("line", { x1: 8, x2: 192, y1: 8, y2: 8, stroke: "var(--line)" }), svg("line", { x1: x(row.a), x2: x(row.b), y1: 8, y2: 8, stroke: colour, "stroke-width": 2 }));
  root.append(svg("circle", { cx: x(row.a), cy: 8, r: 3.5, fill: "var(--bg)", stroke: colour, "stroke-width": 1.4 }), svg("circle", { cx: x(row.b), cy: 8, r: 4, fill: colour }));
  return root;
}

function asked_text(input) { // what a task asks, on a line
  const found = input && typeof input === "object" && !Array.isArray(input) ? input.question ?? input.context ?? Object.entries(input).map(([k, v]) => `${k}: ${typeof v === "string" ? v : JSON.stringify(v)}`).join(" · ") : input;
  return typeof found === "string" ? found : JSON.stringify(found);
}

function diff_effect(told, root, say) { // the same tasks under both
  if (!told.compared) return [html("p", "agl-none", told.only_one ? "No task ran under both versions, so what the change did cannot be told." : "Neither version ran a task.")];
  const line = html("div", "agl-effect"), mean = html("b", "", moved_by(told.change)), same = told.compared - told.better - told.worse;
  mean.style.setProperty("--c", tone(told.change));
  line.append(`The same ${told.compared === 1 ? "task" : `${told.compared} tasks`}: `, mean, ` on average; ${told.better} better, ${told.worse} worse${same ? `, ${same} as before` : ""}.`);
  const table = html("table", "agl-pairs"), head = html("thead"), names = html("tr"), body = html("tbody"), values = told.tasks.flatMap((t) => [t.a, t.b]), lo = Math.min(0, ...values), hi = Math.max(1, ...values);
  ["asked", "before ○ ● after", "before", "after", "change"].forEach((name, i) => names.append(html("th", i > 1 ? "agl-num" : "", name)));
  head.append(names);
  const hidden = told.tasks.length > 14 ? told.tasks.slice(12) : [];
  for (const t of told.tasks) {
    const row = html("tr"), ends = html("td"), ids = t.rollouts.flatMap((side) => side.slice(0, 8).map((r) => r[0]));
    ends.append(diff_ends(t, lo, hi));
    row.append(html("td", "", asked_text(t.input)), ends, html("td", "agl-num", t.a.toFixed(3)), html("td", "agl-num", t.b.toFixed(3)), html("td", "agl-num", t.change ? moved_by(t.change) : "0"));
    row.style.setProperty("--c", tone(t.change));
    row.tabIndex = -1;
    row.title = asked_text(t.input);
    row.setAttribute("aria-label", `${asked_text(t.input)}: ${t.a.toFixed(3)} before, ${t.b.toFixed(3)} after; Enter shows the rollouts beside each other`);
    row.hidden = hidden.includes(t);
    row.onclick = () => { if (!go(root, "group", { rollouts: ids })) say("Nothing here shows rollouts beside each other."); };
    body.append(row);
  }
  body.firstChild.tabIndex = 0;
  body.onkeydown = (e) => {
    const row = e.target.closest("tr"), to = { ArrowDown: row.nextSibling, ArrowUp: row.previousSibling, Home: body.firstChild, End: body.lastChild }[e.key];
    if (e.key === "Enter") row.click();
    else if (to) to.focus();
    if (["Enter", "Home", "End", "ArrowDown", "ArrowUp"].includes(e.key)) { e.preventDefault(); e.stopPropagation(); }
  };
  table.append(head, body);
  const more = told.compared - told.tasks.length, rest = html("button", "", `all ${told.tasks.length}`);
  rest.style.marginTop = "4px";
  rest.onclick = () => { for (const row of body.children) row.hidden = false; rest.remove(); };
  return [line, table, ...(hidden.length ? [rest] : []), ...(more > 0 ? [html("p", "agl-none", `${more} more, with smaller changes, are not shown.`)] : [])];
}

function draw_diff(model, el, params) {
  const { a, b, run_id } = params || model.get("params") || {}, root = html("div", "agl agl-diff"), said = html("p", "agl-none", "Comparing …"), what = html("div"), effect = html("div");
  let over = false;
  said.setAttribute("role", "status");
  root.append(html("style", "", STYLE + DIFF_STYLE), said, what, effect);
  el.append(root);

  function show(told) {
    const all = Object.entries(told.resources), changed = all.filter(([, r]) => r.status !== "same"), same = all.filter(([, r]) => r.status === "same").map(([name]) => name), from = html("div", "agl-from");
    from.append(...diff_version(told.a), "→", ...diff_version(told.b));
    what.replaceChildren(from, ...changed.map(([name, r]) => diff_resource(name, r, () => compare({ layers_mb: 1e9 }))));
    if (!changed.length) what.append(html("p", "agl-none", all.length ? "Nothing differs between them." : "Both are empty."));
    else if (same.length) what.append(html("p", "agl-none", `Unchanged: ${same.join(", ")}.`));
  }

  async function compare(more) {
    try {
      const told = await ask(model, "diff", { a, b, ...more });
      if (over) return;
      said.textContent = "";
      show(told);
    } catch (e) { if (!over) said.textContent = String(e.message || e); }
  }

  async function effects() {
    try {
      const told = await ask(model, "sides", run_id ? { a, b, run_id } : { a, b });
      if (!over) effect.replaceChildren(...diff_effect(told, root, (text) => { said.textContent = text; }));
    } catch (e) { if (!over && !said.textContent) effect.replaceChildren(html("p", "agl-none", String(e.message || e))); }
  }

  compare({}).then(() => (over || said.textContent ? null : effects()));
  return () => { over = true; };
}
