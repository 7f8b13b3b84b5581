// Tasks by versions: a square for each, darker the higher its mean reward, and the tasks that moved most. Arrow keys move, Enter shows the rollouts of a task.

const MATRIX_STYLE = `
.agl-matrix { container-type: inline-size; } .agl-grid { border-collapse: separate; border-spacing: 2px; font-variant-numeric: tabular-nums; table-layout: fixed; width: 100%; } .agl-grid th { font-weight: 400; font-size: 11px; color: var(--dim); padding: 0; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.agl-grid th[scope=row] { text-align: left; font-size: 13px; color: var(--fg); padding-right: 10px; } .agl-grid td { height: 20px; border-radius: 2px; padding: 0; text-align: center; font-size: 11px; cursor: pointer; color: var(--ink); background: color-mix(in srgb, #3b8fd6 var(--h), color-mix(in srgb, var(--line) 26%, transparent)); }
.agl-grid td[data-none=true] { background: transparent; box-shadow: inset 0 0 0 1px color-mix(in srgb, var(--line) 60%, transparent); cursor: default; } .agl-grid td:hover, .agl-grid td:focus { outline: 2px solid var(--fg); outline-offset: -1px; } .agl-grid col:first-child { width: 34%; }
.agl-movers { display: grid; grid-template-columns: 1fr 1fr; gap: 0 28px; margin-bottom: 12px; } .agl-movers h4 { font-size: 13px; font-weight: 600; margin: 4px 0; } .agl-mover { display: grid; grid-template-columns: minmax(0, 1fr) 90px 52px; gap: 10px; align-items: center; width: 100%; text-align: left; font-variant-numeric: tabular-nums; }
.agl .agl-mover { border: 0; border-radius: 0; padding: 2px 0; } .agl .agl-mover:hover, .agl .agl-mover:focus { background: color-mix(in srgb, var(--accent) 12%, transparent); } .agl-mover span { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; } .agl-mover span:last-child { text-align: right; color: var(--c); } .agl-mover svg { width: 100%; height: 14px; }
.agl-matrix .agl-about { display: flex; flex-wrap: wrap; gap: 4px 12px; align-items: baseline; } .agl-ramp { display: inline-block; width: 90px; height: 8px; border-radius: 2px; background: linear-gradient(90deg, color-mix(in srgb, var(--line) 26%, transparent), #3b8fd6); margin: 0 6px; }
@container (max-width: 560px) { .agl-movers { grid-template-columns: 1fr; } .agl-grid td { font-size: 0; } }`;

function matrix_movers(title, movers, none, act) {
  const box = html("div"), values = movers.flatMap((m) => [m.before, m.after]), lo = Math.min(0, ...values), hi = Math.max(1, ...values);
  box.append(html("h4", "", title));
  for (const m of movers.slice(0, 5)) {
    const row = html("button", "agl-mover"), ends = html("span");
    ends.append(diff_ends({ a: m.before, b: m.after, change: m.change }, lo, hi));
    row.append(html("span", "", m.asked), ends, html("span", "", moved_by(m.change)));
    row.style.setProperty("--c", tone(m.change));
    row.title = `${m.asked}\n${m.before.toFixed(3)} → ${m.after.toFixed(3)}`;
    row.onclick = () => act(m.rollouts.flat());
    box.append(row);
  }
  if (!movers.length) box.append(html("p", "agl-none", none));
  return box;
}

function draw_matrix(model, el, params) {
  const asked = { limit: 30, ...(params || model.get("params") || {}) }, root = html("div", "agl agl-matrix"), said = html("p", "agl-none", "Reading tasks and versions …"), body = html("div");
  let told = null, over = false, turn = 0, fresh = null, before = "";
  for (const name of ["limit", "offset"]) if (asked[name] !== undefined) asked[name] = Number(asked[name]);
  said.setAttribute("role", "status");
  root.append(html("style", "", STYLE + DIFF_STYLE + GROUP_STYLE + MATRIX_STYLE), said, body);
  el.append(root);

  const beside = (rollouts) => { if (!go(root, "group", { rollouts })) said.textContent = "Nothing here shows rollouts beside each other."; };

  async function of_task(task_id) { // its last rollouts, of all versions
    try {
      const found = await ask(model, "rollouts", { run_id: asked.run_id, task_id, limit: 24, start: 0, ...(asked.mode ? { mode: asked.mode } : {}) });
      if (!over && found.rollouts.length) beside(found.rollouts.map((r) => r.rollout_id));
    } catch (e) { if (!over) said.textContent = String(e.message || e); }
  }

  async function load() {
    const mine = (turn += 1);
    try {
      const found = await ask(model, "matrix", asked);
      if (over || mine !== turn) return;
      told = found;
      said.textContent = "";
      const key = JSON.stringify(found);
      if (key !== before) draw();
      before = key;
    } catch (e) { if (!over && mine === turn) said.textContent = String(e.message || e); }
  }

  function cell_of(i, j, lo, hi) {
    const value = told.cells[i][j], cell = html("td");
    cell.tabIndex = -1;
    cell.dataset.none = String(value === null);
    if (value === null) { cell.title = `${told.asked[i]}\nnot run under version ${told.numbers[j]}`; return cell; }
    const share = (value[0] - lo) / (hi - lo || 1);
    cell.style.setProperty("--h", `${Math.round(100 * share)}%`);
    cell.style.setProperty("--ink", share > 0.55 ? "#fff" : "var(--fg)");
    cell.textContent = told.versions.length <= 12 ? String(+value[0].toFixed(2)) : "";
    cell.title = `${told.asked[i]}\nversion ${told.numbers[j]}: ${value[0].toFixed(3)}, ${value[1]} rollout${value[1] === 1 ? "" : "s"}`;
    cell.setAttribute("aria-label", cell.title.replace("\n", ", "));
    cell.onclick = () => of_task(told.tasks[i]);
    return cell;
  }

  function grid() {
    const table = html("table", "agl-grid"), columns = html("colgroup"), names = html("tr"), values = told.cells.flat().filter(Boolean).map((c) => c[0]), lo = Math.min(0, ...values), hi = Math.max(1e-9, ...values);
    columns.append(html("col"), ...told.versions.map(() => html("col")));
    names.append(html("th"), ...told.numbers.map((n) => html("th", "", `v${n ?? "?"}`)));
    table.append(columns, names);
    told.tasks.forEach((task, i) => {
      const row = html("tr"), name = html("th", "", told.asked[i]);
      name.scope = "row";
      name.title = `${told.asked[i]}\n${task}`;
      row.append(name, ...told.versions.map((_, j) => cell_of(i, j, lo, hi)));
      table.append(row);
    });
    const first = table.querySelector("td");
    if (first) first.tabIndex = 0;
    table.onkeydown = (e) => {
      const cell = e.target.closest("td");
      if (!cell) return;
      const row = cell.parentNode, i = [...row.children].indexOf(cell), to = { ArrowRight: row.children[i + 1], ArrowLeft: row.children[i - 1], ArrowDown: row.nextSibling?.children[i], ArrowUp: row.previousSibling?.children?.[i] }[e.key];
      if (e.key === "Enter") cell.click();
      else if (to?.tagName === "TD") { cell.tabIndex = -1; to.tabIndex = 0; to.focus(); }
      if (e.key === "Enter" || e.key.startsWith("Arrow")) { e.preventDefault(); e.stopPropagation(); }
    };
    return [table, lo, hi];
  }

  function draw() {
    if (!told.all_tasks) { body.replaceChildren(html("p", "agl-none", "No task of this run has ended under a version yet.")); return; }
    const movers = html("div", "agl-movers"), about = html("div", "agl-about"), pages = html("div", "agl-picks"), [table, lo, hi] = grid(), start = asked.offset || 0;
    movers.append(matrix_movers("Gained most", told.movers.best, "No task gained.", beside), matrix_movers("Lost most", told.movers.worst, "No task lost.", beside));
    const older = told.all_versions - told.versions.length, key = html("span");
    key.append(`reward ${worth(lo)}`, html("span", "agl-ramp"), worth(hi));
    about.append(html("span", "", `${told.all_tasks.toLocaleString("en-US")} tasks, worst first, under ${older ? `the last ${told.versions.length} of ${told.all_versions}` : told.versions.length} versions`), key);
    for (const [label, to] of [["previous", start - asked.limit], ["next", start + asked.limit]]) {
      const b = html("button", "", label);
      b.disabled = to < 0 || to >= told.all_tasks;
      b.onclick = () => { asked.offset = to; load(); keep(root, asked); };
      pages.append(b);
    }
    pages.append(html("span", "agl-none", `${start + 1} to ${start + told.tasks.length} of ${told.all_tasks.toLocaleString("en-US")}`));
    body.replaceChildren(movers, about, table, ...(told.all_tasks > told.tasks.length ? [pages] : []));
  }

  fresh = refreshed(model, root, () => load(), 10000, (e) => e.kind === "metric" && (!asked.run_id || e.data.run_id === asked.run_id));
  return () => { over = true; fresh.stop(); };
}
