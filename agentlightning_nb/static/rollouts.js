// The table of rollouts: filters, sorting, a page at a time. Arrow keys move, Enter opens, / goes to the search.

const ROLLOUTS_STYLE = `
.agl-filters { display: flex; flex-wrap: wrap; gap: 4px 8px; align-items: center; margin-bottom: 6px; }
.agl-filters select, .agl-filters input { font: inherit; color: var(--fg); background: var(--bg); border: 1px solid var(--line); border-radius: 3px; padding: 1px 4px; }
.agl-filters input { width: 130px; } .agl-filters input[type=number] { width: 64px; } .agl-filters label { color: var(--dim); font-size: 11px; display: inline-flex; gap: 4px; align-items: center; }
.agl-list { width: 100%; font: inherit; border-collapse: collapse; font-variant-numeric: tabular-nums; table-layout: fixed; }
.agl-list th { font-weight: 400; font-size: 11px; color: var(--dim); text-align: left; padding: 0 10px 2px 0; border-bottom: 1px solid var(--line); }
.agl-list td { padding: 2px 10px 2px 0; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.agl-list .agl-num { text-align: right; } .agl-list tbody tr { cursor: pointer; }
.agl-list tbody tr:hover, .agl-list tbody tr:focus { background: color-mix(in srgb, var(--accent) 12%, transparent); outline: none; }
.agl-list tr[data-is=failed] td { color: var(--bad); } .agl-pages { display: flex; gap: 8px; align-items: center; margin-top: 6px; color: var(--dim); }
.agl-rollouts { container-type: inline-size; }
@container (max-width: 520px) { .agl-list th:nth-child(n+5), .agl-list td:nth-child(n+5) { display: none; } }`;
const LIST_COLUMNS = [["step", 72], ["asked", 0], ["reward", 70], ["status", 104], ["attempts", 66], ["took", 70]];
const LIST_STATUSES = ["", "queuing", "preparing", "running", "succeeded", "failed", "requeuing", "cancelled"];

function list_row(r, open) {
  const row = html("tr"), took = r.seconds === null ? "" : `${r.seconds.toFixed(2)} s`;
  const texts = [r.step === null ? "" : `${r.mode === "val" || r.mode === "test" ? `${r.mode} ` : ""}${r.step}`, r.error || r.asked, r.reward === null ? "none" : String(Number(r.reward.toPrecision(4))), r.status, String(r.attempts), took];
  texts.forEach((text, i) => {
    const td = html("td", i === 2 || i > 3 ? "agl-num" : "", text);
    td.title = i === 1 && r.error ? `${r.asked}\n${r.error}` : text;
    row.append(td);
  });
  row.tabIndex = -1;
  row.dataset.id = r.rollout_id;
  row.dataset.is = r.status;
  row.onclick = () => open(r.rollout_id);
  return row;
}

function list_field(label, field) {
  const whole = html("label", "", label);
  whole.append(field);
  return whole;
}

function list_choice(values, value) {
  const field = html("select");
  for (const v of values) {
    const option = html("option", "", v || "all");
    option.value = v;
    option.selected = v === value;
    field.append(option);
  }
  return field;
}

function draw_rollouts(model, el, params) {
  const given = { ...(params || model.get("params")?.filters || {}) };
  const root = html("div", "agl agl-rollouts"), filters = html("div", "agl-filters"), said = html("div", "agl-dim"), place = html("div"), pages = html("div", "agl-pages");
  const status = list_choice(LIST_STATUSES, given.status || ""), mode = list_choice(["", "train", "val", "test"], given.mode || ""), sort = list_choice(["newest", "oldest", "best", "worst"], given.sort || "newest");
  const step = html("input"), search = html("input"), back = html("button", "", "previous"), on = html("button", "", "next"), count = html("span"), limit = given.limit || 50;
  let start = given.start || 0, turn = 0, over = false, total = 0, timer = 0;
  step.type = "number"; step.min = "0"; step.value = given.step ?? "";
  search.type = "search"; search.placeholder = "part of an id"; search.value = given.id_contains || "";
  count.setAttribute("role", "status");
  filters.append(list_field("status", status), list_field("mode", mode), list_field("step", step), list_field("sort", sort), list_field("find", search));
  pages.append(back, on, count);
  root.append(html("style", "", STYLE + ROLLOUTS_STYLE), filters, said, place, pages);
  el.append(root);

  const open = (rollout_id) => { if (!go(root, "rollout", { rollout_id })) said.textContent = `Nothing here shows rollouts. In a cell: store.get_rollout_by_id("${rollout_id}")`; };
  const wanted = () => {
    const filter = { ...given, status: status.value, mode: mode.value, sort: sort.value, id_contains: search.value, start, limit };
    if (step.value !== "") filter.step = Number(step.value); else delete filter.step;
    return Object.fromEntries(Object.entries(filter).filter(([, v]) => v !== "" && v !== null && v !== undefined));
  };

  async function load(focus) {
    const mine = (turn += 1);
    try {
      const told = await ask(model, "rollouts", wanted());
      if (over || mine !== turn) return;
      total = told.total;
      said.textContent = "";
      draw(told.rollouts, focus);
    } catch (e) { if (!over && mine === turn) said.textContent = String(e.message || e); }
  }

  function draw(rows, focus) {
    const table = html("table", "agl-list"), head = html("thead"), body = html("tbody"), names = html("tr"), columns = html("colgroup");
    for (const [i, [name, width]] of LIST_COLUMNS.entries()) {
      const column = html("col");
      if (width) column.style.width = `${width}px`;
      columns.append(column);
      names.append(html("th", i === 2 || i > 3 ? "agl-num" : "", name));
    }
    head.append(names);
    body.append(...rows.map((r) => list_row(r, open)));
    if (body.firstChild) body.firstChild.tabIndex = 0;
    body.onkeydown = (e) => {
      const row = e.target.closest("tr"), to = { ArrowDown: row.nextSibling, ArrowUp: row.previousSibling, Home: body.firstChild, End: body.lastChild }[e.key];
      if (e.key === "Enter") open(row.dataset.id);
      else if (e.key === "PageDown") turn_page(1);
      else if (e.key === "PageUp") turn_page(-1);
      else if (to) to.focus();
      if (["Enter", "PageDown", "PageUp", "Home", "End", "ArrowDown", "ArrowUp"].includes(e.key)) { e.preventDefault(); e.stopPropagation(); }
    };
    table.append(columns, head, body);
    place.replaceChildren(rows.length ? table : html("p", "agl-dim", "No rollout fits. Rollouts stand here as soon as they are queued."));
    count.textContent = total ? `${(start + 1).toLocaleString("en-US")} to ${(start + rows.length).toLocaleString("en-US")} of ${total.toLocaleString("en-US")}` : "";
    back.disabled = start === 0;
    on.disabled = start + limit >= total;
    if (focus) body.firstChild?.focus();
  }

  function turn_page(by) {
    const to = start + by * limit;
    if (to < 0 || to >= total) return;
    start = to;
    load(true);
  }

  back.onclick = () => turn_page(-1);
  on.onclick = () => turn_page(1);
  for (const field of [status, mode, sort]) field.onchange = () => { start = 0; load(); };
  for (const field of [step, search]) field.oninput = () => { clearTimeout(timer); timer = setTimeout(() => { start = 0; load(); }, 200); };
  root.addEventListener("keydown", (e) => { if (e.key === "/" && !["INPUT", "SELECT"].includes(e.target.tagName)) { e.preventDefault(); search.focus(); } });
  load();
  return () => { over = true; clearTimeout(timer); };
}
