// The lineage of versions as a tree with the reward that each reached. One click shows what a version changed, a second version compares the two.

const VERSIONS_STYLE = `
.agl-versions { container-type: inline-size; } .agl-hint { color: var(--dim); margin: 0; flex: 1 1 220px; } .agl-hinted { display: flex; flex-wrap: wrap; gap: 2px 12px; margin: 0 0 4px; } .agl-tree { position: relative; max-height: 340px; overflow: auto; border-top: 1px solid var(--line); border-bottom: 1px solid var(--line); margin-bottom: 10px; scrollbar-width: thin; }
.agl-tree > svg { position: absolute; left: 0; top: 0; pointer-events: none; } .agl-version { display: grid; grid-template-columns: var(--lanes) 42px 150px 62px minmax(0, 1fr) auto; gap: 0 10px; align-items: center; height: 28px; cursor: pointer; font-variant-numeric: tabular-nums; padding-right: 6px; }
.agl-version:hover { background: color-mix(in srgb, var(--accent) 9%, transparent); } .agl-version[aria-selected=true] { background: color-mix(in srgb, var(--accent) 16%, transparent); } .agl-version:focus { outline: 1px solid var(--accent); outline-offset: -1px; }
.agl-version > span { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; } .agl-nr { font-weight: 600; } .agl-said { color: var(--dim); } .agl-reached { color: var(--dim); text-align: right; }
.agl-chip { font-size: 11px; border: 1px solid var(--line); border-radius: 8px; padding: 0 7px; color: var(--dim); } .agl-chip[data-is=best] { border-color: var(--good); color: var(--good); } .agl-chip[data-is=picked] { background: var(--accent); border-color: var(--accent); color: #fff; }
.agl-level-bar { position: relative; height: 10px; background: color-mix(in srgb, var(--line) 55%, transparent); border-radius: 2px; overflow: visible; } .agl-level-bar i { position: absolute; left: 0; top: 0; bottom: 0; background: var(--c); border-radius: 2px; } .agl-level-bar u { position: absolute; top: 4.5px; height: 1px; background: var(--fg); opacity: 0.65; }
@container (max-width: 600px) { .agl-version { grid-template-columns: var(--lanes) 34px 70px 46px minmax(0, 1fr) auto; gap: 0 6px; } }`;
const ROW = 28, LANE = 14, MOST_ROWS = 400;

function tree_lanes(versions) { // which lane each version stands in: a first child goes on in its parent's, the others branch off
  const row = Object.fromEntries(versions.map((v, i) => [v.resources_id, i])), last = versions.map(() => -1), lanes = [], found = [];
  versions.forEach((v, i) => v.parents.forEach((p) => { if (row[p] !== undefined) last[row[p]] = Math.max(last[row[p]], i); }));
  versions.forEach((v, i) => {
    const parents = v.parents.map((p) => row[p]).filter((p) => p !== undefined), from = parents.length ? Math.min(...parents) : i;
    let lane = lanes.findIndex((tip) => parents.includes(tip));
    if (lane < 0) lane = lanes.findIndex((tip) => Math.max(tip, last[tip]) <= from && tip !== from);
    if (lane < 0) lane = lanes.length;
    lanes[lane] = i;
    found.push(lane);
  });
  return found;
}

function tree_drawing(versions, lanes, worth_of) {
  const row = Object.fromEntries(versions.map((v, i) => [v.resources_id, i])), wide = 1 + Math.max(...lanes), x = (i) => 12 + LANE * lanes[i], y = (i) => ROW * i + ROW / 2;
  const root = svg("svg", { width: 16 + LANE * wide, height: ROW * versions.length, "aria-hidden": "true" });
  versions.forEach((v, i) => v.parents.forEach((parent, nth) => {
    const p = row[parent];
    if (p === undefined) return;
    const branch = lanes[p] === lanes[i] || nth === 0, bend = branch ? y(p) + ROW * 0.9 : y(i) - ROW * 0.9; // a merge leaves its second parent's lane late
    const path = branch ? `M${x(p)},${y(p)} C${x(p)},${bend} ${x(i)},${y(p) + 4} ${x(i)},${Math.min(bend, y(i))} L${x(i)},${y(i)}` : `M${x(p)},${y(p)} L${x(p)},${Math.max(bend, y(p))} C${x(p)},${y(i) - 4} ${x(i)},${bend} ${x(i)},${y(i)}`;
    root.append(svg("path", { d: path, fill: "none", stroke: nth ? "var(--warn)" : "var(--dim)", "stroke-width": 1.4, opacity: 0.75 }));
  }));
  versions.forEach((v, i) => root.append(svg("circle", { cx: x(i), cy: y(i), r: 4.5, fill: worth_of(v) === null ? "var(--bg)" : "var(--accent)", "fill-opacity": worth_of(v) === null ? 1 : 0.2 + 0.8 * worth_of(v), stroke: "var(--accent)", "stroke-width": 1.4 })));
  return root;
}

function reward_scale(versions) { // a reward as a share of the range; a version is told by what it reached on val, or else in training
  const told = (v) => ["val", "train", "test"].filter((mode) => v.rewards[mode]).map((mode) => ({ mode, ...v.rewards[mode] }))[0] || null;
  const means = versions.map(told).filter(Boolean).map((r) => r.mean), lo = Math.min(0, ...means), hi = Math.max(1e-9, ...means, lo === 0 && Math.max(...means) <= 1 ? 1 : 0);
  return { told, share: (value) => (value - lo) / (hi - lo), modes: ["val", "train", "test"].filter((mode) => versions.some((v) => told(v)?.mode === mode)) };
}

function reward_bar(reached, scale) {
  const box = html("span", "agl-level-bar");
  if (!reached) return box;
  const bar = html("i"), inside = (v) => 100 * Math.max(0, Math.min(1, v)), left = inside(scale.share(reached.mean - reached.within)), right = inside(scale.share(reached.mean + reached.within));
  bar.style.width = `${inside(scale.share(reached.mean))}%`;
  bar.style.setProperty("--c", `color-mix(in srgb, ${SERIES[reached.mode]} 75%, transparent)`);
  box.append(bar);
  if (reached.n > 1) {
    const whisker = html("u");
    whisker.style.left = `${left}%`;
    whisker.style.width = `${right - left}%`;
    box.append(whisker);
  }
  box.title = `${reached.mode}: ${reached.mean.toFixed(3)} ± ${reached.within.toFixed(3)} (95 %), ${reached.n} rollouts`;
  return box;
}

function version_row(v, lanes_px, scale, best, choose) {
  const row = html("div", "agl-version"), chips = html("span"), reached = scale.told(v), other = reached?.mode === "val" ? v.rewards.train : null;
  row.style.setProperty("--lanes", `${lanes_px}px`);
  const note = html("span", "agl-said", v.note || Object.keys(v.resources).join(", "));
  note.title = [v.note, Object.entries(v.resources).map(([name, kind]) => `${name}: ${kind.replaceAll("_", " ")}`).join(", "), other ? `train ${other.mean.toFixed(3)}, ${other.n} rollouts` : ""].filter(Boolean).join("\n");
  if (best) { const chip = html("em", "agl-chip", "best"); chip.dataset.is = "best"; chip.style.fontStyle = "normal"; chips.append(chip); }
  row.append(html("span"), html("span", "agl-nr", `v${v.version}`), reward_bar(reached, scale), html("span", "agl-reached", reached ? reached.mean.toFixed(3) : "–"), note, chips);
  row.setAttribute("role", "option");
  row.setAttribute("aria-label", `version ${v.version}${reached ? `, ${reached.mode} reward ${reached.mean.toFixed(3)}` : ""}${best ? ", the best" : ""}, from ${v.parents.length} parent${v.parents.length === 1 ? "" : "s"}: ${v.note}`);
  row.dataset.id = v.resources_id;
  row.tabIndex = -1;
  row.onclick = () => choose(v.resources_id);
  return row;
}

function draw_versions(model, el, params) {
  const asked = params || model.get("params") || {}, root = html("div", "agl agl-versions"), said = html("p", "agl-none", "Reading the versions …"), top = html("div", "agl-hinted"), hint = html("p", "agl-hint"), keys = html("span"), place = html("div"), below = html("div");
  let told = null, before = "", picked = [asked.a, asked.b].filter(Boolean), shown = "", over = false, fresh = null, leave = () => {};
  said.setAttribute("role", "status");
  keys.style.cssText = "display: inline-flex; gap: 12px";
  top.append(hint, keys);
  root.append(html("style", "", STYLE + CURVE_STYLE + VERSIONS_STYLE + DIFF_STYLE), said, top, place, below);
  el.append(root);

  async function load() {
    try {
      const found = await ask(model, "versions", asked.run_id ? { run_id: asked.run_id } : {});
      if (over) return;
      said.textContent = "";
      const key = JSON.stringify(found);
      if (key !== before) { told = found; draw(); }
      before = key;
    } catch (e) { if (!over) said.textContent = String(e.message || e); }
  }

  function ends() { // which two are compared: the picked ones, or one with what it comes from, or the first with the best
    const known = Object.fromEntries(told.versions.map((v) => [v.resources_id, v])), some = picked.filter((id) => known[id]);
    if (some.length === 2) return some.sort((a, b) => known[a].version - known[b].version);
    const one = known[some[0] || told.best || told.versions[told.versions.length - 1]?.resources_id];
    if (!one) return [];
    if (some.length) return one.parents.find((p) => known[p]) ? [one.parents.find((p) => known[p]), one.resources_id] : [one.resources_id, one.resources_id];
    let first = one, at = one; // the first that was tried, of those that it comes from
    while (at.parents.some((p) => known[p])) {
      at = known[at.parents.find((p) => known[p])];
      if (Object.keys(at.rewards).length || first === one) first = at;
    }
    return [first.resources_id, one.resources_id];
  }

  function choose(id) {
    picked = picked.length === 1 && picked[0] !== id ? [picked[0], id] : [id];
    keep(root, { ...(asked.run_id ? { run_id: asked.run_id } : {}), a: picked[0], b: picked[1] ?? null });
    mark();
  }

  function mark() {
    const [a, b] = ends();
    for (const row of place.querySelectorAll(".agl-version")) {
      const is = row.dataset.id === a || row.dataset.id === b, chips = row.lastChild;
      row.setAttribute("aria-selected", String(is));
      chips.querySelector("[data-is=picked]")?.remove();
      if (!is || a === b) continue;
      const chip = html("em", "agl-chip", row.dataset.id === a ? "from" : "to");
      chip.dataset.is = "picked";
      chip.style.cssText = "font-style: normal; margin-left: 4px";
      chips.append(chip);
    }
    hint.textContent = picked.length === 1 ? "Now a second version compares the two." : "A click shows what a version changed; a second one compares the two.";
    if (`${a} ${b}` === shown) return;
    shown = `${a} ${b}`;
    leave();
    leave = () => {};
    below.replaceChildren();
    if (a && b && a !== b) leave = draw_diff(model, below, { a, b, ...(asked.run_id ? { run_id: asked.run_id } : {}) });
    else below.append(html("p", "agl-none", a ? "It comes from no other version." : ""));
  }

  function draw() {
    const all = told.versions, versions = all.slice(-MOST_ROWS), held = place.querySelector(".agl-version:focus")?.dataset.id, was = place.querySelector(".agl-tree")?.scrollTop;
    if (!all.length) { place.replaceChildren(html("p", "agl-none", "No versions yet. fit(..., resources={...}) publishes the first one.")); hint.textContent = ""; return; }
    const scale = reward_scale(versions), lanes = tree_lanes(versions), tree = html("div", "agl-tree"), wide = 20 + LANE * (1 + Math.max(...lanes));
    const rows = versions.map((v) => version_row(v, wide, scale, v.resources_id === told.best, choose));
    tree.setAttribute("role", "listbox");
    tree.setAttribute("aria-label", "versions, oldest first");
    tree.append(tree_drawing(versions, lanes, (v) => (scale.told(v) ? scale.share(scale.told(v).mean) : null)), ...rows);
    tree.onkeydown = (e) => {
      const i = rows.indexOf(e.target), to = { ArrowDown: rows[i + 1], ArrowUp: rows[i - 1], Home: rows[0], End: rows[rows.length - 1] }[e.key];
      if (e.key === "Enter" || e.key === " ") choose(e.target.dataset.id);
      else if (to) { rows.forEach((r) => { r.tabIndex = -1; }); to.tabIndex = 0; to.focus(); }
      if (["Enter", " ", "Home", "End", "ArrowDown", "ArrowUp"].includes(e.key)) { e.preventDefault(); e.stopPropagation(); }
    };
    place.replaceChildren(...(all.length > versions.length ? [html("p", "agl-none", `${all.length - versions.length} older versions are not shown.`)] : []), tree);
    keys.replaceChildren(...scale.modes.map((mode) => { const key = html("span", "agl-key", mode); key.style.setProperty("--c", SERIES[mode]); return key; }));
    mark();
    const at = rows.find((r) => r.dataset.id === (held || ends()[1])) || rows[0];
    at.tabIndex = 0;
    if (held) at.focus();
    tree.scrollTop = was ?? Math.max(0, at.offsetTop - tree.clientHeight / 2);
  }

  fresh = refreshed(model, root, load, 4000, (e) => e.kind === "resources" || e.kind === "metric");
  return () => { over = true; fresh.stop(); leave(); };
}
