// The groups of a step, those that differ most within first: each a task with its rewards as dots. Arrow keys move, Enter opens, PageUp and PageDown change the step.

const GROUPS_STYLE = `
.agl-groups { container-type: inline-size; } .agl-steps { display: flex; flex-wrap: wrap; gap: 4px 10px; align-items: center; margin-bottom: 6px; } .agl-steps b { font-weight: 600; min-width: 74px; text-align: center; font-variant-numeric: tabular-nums; }
.agl-steps span { color: var(--dim); font-variant-numeric: tabular-nums; } .agl-steps input { flex: 1 1 120px; max-width: 260px; accent-color: var(--accent); }
.agl-of { width: 100%; border-collapse: collapse; table-layout: fixed; font: inherit; font-variant-numeric: tabular-nums; } .agl-of th { font-weight: 400; font-size: 11px; color: var(--dim); text-align: left; padding: 0 10px 2px 0; border-bottom: 1px solid var(--line); }
.agl-of td { padding: 3px 10px 3px 0; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; } .agl-of .agl-num { text-align: right; } .agl-of tbody tr { cursor: pointer; } .agl-of tbody tr:hover, .agl-of tbody tr:focus { background: color-mix(in srgb, var(--accent) 12%, transparent); outline: none; }
.agl-of svg { display: block; width: 100%; height: 16px; overflow: visible; } .agl-of tr[data-flat=true] td { color: var(--dim); }
.agl-of th:nth-child(2) { width: 34%; } .agl-of th:nth-child(3) { width: 58px; } .agl-of th:nth-child(4) { width: 58px; } .agl-of th:nth-child(5) { width: 46px; }
@container (max-width: 520px) { .agl-of th:nth-child(4), .agl-of td:nth-child(4), .agl-of th:nth-child(5), .agl-of td:nth-child(5) { display: none; } }`;

function group_dots(rollouts, mean, lo, hi) { // one dot for each reward, a taller mark at the mean; equal rewards stand above each other
  const root = svg("svg", { viewBox: "0 0 200 16", preserveAspectRatio: "none", "aria-hidden": "true" }), x = (v) => 4 + (192 * (v - lo)) / (hi - lo || 1), seen = {};
  root.append(svg("line", { x1: 0, x2: 200, y1: 13.5, y2: 13.5, stroke: "var(--line)" }));
  for (const [, reward] of rollouts) {
    if (reward === null) continue;
    const high = (seen[reward] = (seen[reward] || 0) + 1);
    root.append(svg("rect", { x: x(reward) - 2, y: Math.max(0, 13 - 1.6 * high), width: 4, height: 1.3, fill: tone(mean === null ? 0 : reward - mean) }));
  }
  if (mean !== null && rollouts.length > 1) root.append(svg("line", { x1: x(mean), x2: x(mean), y1: 1, y2: 16, stroke: "var(--fg)", "stroke-width": 1, opacity: 0.6 }));
  return root;
}

function draw_groups(model, el, params) {
  const asked = { ...(params || model.get("params") || {}) }, root = html("div", "agl agl-groups"), steps = html("div", "agl-steps"), said = html("p", "agl-none", "Reading the groups …"), place = html("div");
  let told = null, over = false, turn = 0, fresh = null, before = "";
  if (asked.step !== undefined && asked.step !== null) asked.step = Number(asked.step);
  said.setAttribute("role", "status");
  root.append(html("style", "", STYLE + GROUPS_STYLE), steps, said, place);
  el.append(root);

  async function load(focus) {
    const mine = (turn += 1);
    try {
      const found = await ask(model, "groups", asked);
      if (over || mine !== turn) return;
      said.textContent = "";
      told = found;
      const key = JSON.stringify(found);
      if (key !== before) draw(focus);
      before = key;
    } catch (e) { if (!over && mine === turn) said.textContent = String(e.message || e); }
  }

  function turn_to(i) {
    if (i < 0 || i >= told.steps.length) return;
    asked.step = told.steps[i];
    load(true);
    keep(root, asked);
  }

  const open = (row) => { if (!go(root, "group", { rollout_id: row.dataset.id })) said.textContent = "Nothing here shows a group."; };

  function draw_steps() {
    const here = told.steps.indexOf(told.step), back = html("button", "", "◂"), on = html("button", "", "▸"), slide = html("input"), held = steps.contains(document.activeElement) && document.activeElement.tagName === "INPUT";
    back.title = "the step before"; on.title = "the next step";
    back.disabled = here <= 0; on.disabled = here < 0 || here >= told.steps.length - 1;
    back.onclick = () => turn_to(here - 1); on.onclick = () => turn_to(here + 1);
    slide.type = "range"; slide.min = 0; slide.max = Math.max(0, told.steps.length - 1); slide.value = Math.max(0, here); slide.setAttribute("aria-label", "step");
    slide.onchange = () => turn_to(Number(slide.value));
    const flat = told.flat ? `, ${told.flat} of them with one reward only: nothing to learn from` : "";
    steps.replaceChildren(back, html("b", "", `step ${told.step}`), on, ...(told.steps.length > 2 ? [slide] : []), html("span", "", `${told.all_groups} group${told.all_groups === 1 ? "" : "s"}${flat}`));
    if (held) steps.querySelector("input")?.focus();
  }

  function draw(focus) {
    const table = html("table", "agl-of"), head = html("thead"), names = html("tr"), body = html("tbody"), at = place.querySelector("tr:focus")?.dataset.id;
    const all = told.groups.flatMap((g) => g.rollouts.map((r) => r[1]).filter((v) => v !== null)), lo = Math.min(0, ...all), hi = Math.max(1, ...all);
    draw_steps();
    if (!told.groups.length) { place.replaceChildren(html("p", "agl-none", "No rollouts in this step.")); return; }
    ["asked", "rewards", "mean", "spread", "n"].forEach((name, i) => names.append(html("th", i > 1 ? "agl-num" : "", name)));
    head.append(names);
    for (const g of told.groups) {
      const row = html("tr"), dots = html("td"), mode = g.mode && g.mode !== "train" ? `${g.mode} · ` : "";
      dots.append(group_dots(g.rollouts, g.mean, lo, hi));
      row.append(html("td", "", mode + g.asked), dots, html("td", "agl-num", g.mean === null ? "–" : g.mean.toFixed(3)), html("td", "agl-num", g.spread === null ? "–" : g.spread.toFixed(3)), html("td", "agl-num", String(g.n)));
      row.tabIndex = -1;
      row.title = g.asked;
      row.dataset.id = g.rollouts[0][0];
      row.dataset.flat = String(g.n > 1 && g.spread === 0);
      row.setAttribute("aria-label", `group of ${g.n}: ${g.asked}, mean reward ${worth(g.mean)}; Enter opens it`);
      row.onclick = () => open(row);
      body.append(row);
    }
    body.firstChild.tabIndex = 0;
    body.onkeydown = (e) => {
      const row = e.target.closest("tr"), to = { ArrowDown: row.nextSibling, ArrowUp: row.previousSibling, Home: body.firstChild, End: body.lastChild }[e.key], here = told.steps.indexOf(told.step);
      if (e.key === "Enter") open(row);
      else if (e.key === "PageDown") turn_to(here + 1);
      else if (e.key === "PageUp") turn_to(here - 1);
      else if (to) to.focus();
      if (["Enter", "PageDown", "PageUp", "Home", "End", "ArrowDown", "ArrowUp"].includes(e.key)) { e.preventDefault(); e.stopPropagation(); }
    };
    table.append(head, body);
    const more = told.all_groups - told.groups.length;
    place.replaceChildren(table, ...(more > 0 ? [html("p", "agl-none", `${more} more groups are not shown.`)] : []));
    if (at || focus) (place.querySelector(`tr[data-id="${CSS.escape(at || "")}"]`) || body.firstChild).focus();
  }

  fresh = refreshed(model, root, () => load(), 5000, (e) => e.kind === "rollout" && (!asked.run_id || e.data.run_id === asked.run_id));
  return () => { over = true; fresh.stop(); };
}
