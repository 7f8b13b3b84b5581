// The table of rollouts: search, filters, sorting; the next page is read when the end comes into view. Arrow keys move, Enter opens, / goes to the search.

const ROLLOUTS_STYLE = `
.agl-filters { display: flex; flex-wrap: wrap; gap: 4px 8px; align-items: center; margin-bottom: 6px; }
.agl-filters select, .agl-filters input { font: inherit; color: var(--fg); background: var(--bg); border: 1px solid var(--line); border-radius: 3px; padding: 1px 4px; }
.agl-scroll { max-height: 520px; overflow: auto; } .agl .agl-list { margin: 0; color: inherit; } .agl-list thead th { position: sticky; top: 0; background: var(--bg); z-index: 1; }
.agl-filters input { width: 100px; } .agl-filters .agl-words { width: 190px; } .agl-filters input[type=number] { width: 64px; } .agl-filters label { color: var(--dim); font-size: 11px; display: inline-flex; gap: 4px; align-items: center; }
.agl-list { width: 100%; font: inherit; border-collapse: collapse; font-variant-numeric: tabular-nums; table-layout: fixed; }
.agl-list th { font-weight: 400; font-size: 11px; color: var(--dim); text-align: left; padding: 0 10px 2px 0; border-bottom: 1px solid var(--line); }
.agl-list td { padding: 2px 10px 2px 0; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.agl-list .agl-num { text-align: right; } .agl-list tbody tr { cursor: pointer; }
.agl-list tbody tr:hover, .agl-list tbody tr:focus { background: color-mix(in srgb, var(--accent) 12%, transparent); outline: none; }
.agl-list tr[data-is=failed] td { color: var(--bad); } .agl-pages { display: flex; gap: 8px; align-items: center; margin-top: 6px; color: var(--dim); }
.agl-rollouts { container-type: inline-size; }
@container (max-width: 520px) { .agl-list th:nth-child(n+5), .agl-list td:nth-child(n+5), .agl-list col:nth-child(n+5) { display: none; } }`;
const LIST_COLUMNS = [["step", 72], ["asked", 0], ["reward", 70], ["status", 104], ["attempts", 66], ["took", 70]];
const LIST_STATUSES = ["", "queuing", "preparing", "running", "succeeded", "failed", "requeuing", "cancelled"];

function list_row(r, open) {
  const row = html("tr"), took = r.seconds === null ? "" : brief(r.seconds);
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
  const root = html("div", "agl agl-rollouts"), filters = html("div", "agl-filters"), said = html("div", "agl-dim"), place = html("div", "agl-scroll"), count = html("div", "agl-pages");
  const status = list_choice(LIST_STATUSES, given.status || ""), mode = list_choice(["", "train", "val", "test"], given.mode || ""), sort = list_choice(["newest", "oldest", "best", "worst"], given.sort || "newest");
  const step = html("input"), words = html("input"), id = html("input"), limit = given.limit || 50;
  let turn = 0, over = false, total = 0, next = null, pending = null, timer = 0, body = null, fresh = null;
  const shown = new Map(), later = html("button", "", "show what is new"); // row and what it says, by id
  step.type = "number"; step.min = "0"; step.value = given.step ?? "";
  words.type = "search"; words.placeholder = "words said, asked or raised"; words.value = given.text || "";
  id.type = "search"; id.placeholder = "part of an id"; id.value = given.id_contains || "";
  count.setAttribute("role", "status");
  words.classList.add("agl-words");
  filters.append(list_field("search", words), list_field("status", status), list_field("mode", mode), list_field("step", step), list_field("sort", sort), list_field("id", id));
  filters.append(later);
  root.append(html("style", "", STYLE + ROLLOUTS_STYLE), filters, said, place, count);
  el.append(root);

  const open = (rollout_id) => {
    const find = words.value.trim();
    if (!go(root, "rollout", find ? { rollout_id, find } : { rollout_id })) said.textContent = `Nothing here shows rollouts. In a cell: store.get_rollout_by_id("${rollout_id}")`;
  };
  const wanted = (after) => {
    const filter = { ...given, status: status.value, mode: mode.value, sort: sort.value, id_contains: id.value, text: words.value.trim(), limit };
    delete filter.start;
    if (after) filter.after = after; else if (given.start) filter.start = given.start;
    if (step.value !== "") filter.step = Number(step.value); else delete filter.step;
    return bare(filter);
  };
  const bare = (filter) => Object.fromEntries(Object.entries(filter).filter(([, v]) => v !== "" && v !== null && v !== undefined));

  async function look() { // is there anything new? At rest it is shown; to somebody who reads, points or has scrolled, it is offered
    if (pending || !body) return;
    const mine = turn;
    try {
      const told = await ask(model, "rollouts", wanted());
      if (over || mine !== turn) return;
      const text = told.rollouts.map((r) => JSON.stringify(r)), same = told.rollouts.every((r, i) => shown.get(r.rollout_id)?.text === text[i]);
      if (same && told.total === total) return;
      const known = told.rollouts.every((r) => shown.has(r.rollout_id)); // only what it says has changed
      later.hidden = known || place.scrollTop === 0 && !body.matches(":hover");
      if (known) told.rollouts.forEach(renew);
      else if (later.hidden) replace(told);
    } catch (e) { if (!over) said.textContent = String(e.message || e); }
  }

  function renew(r) { // the row of a rollout, as it is now
    const had = shown.get(r.rollout_id), text = JSON.stringify(r);
    if (had?.text === text) return had.row;
    const row = list_row(r, open), focused = had?.row === document.activeElement;
    if (had) { row.tabIndex = had.row.tabIndex; had.row.replaceWith(row); }
    if (focused) row.focus();
    shown.set(r.rollout_id, { row, text });
    return row;
  }

  function replace(told) { // the first page anew; what has the focus keeps it
    const held = body.contains(document.activeElement) ? document.activeElement.dataset.id : null, rows = told.rollouts.map(renew), kept = new Set(rows);
    for (const [id, { row }] of [...shown]) if (!kept.has(row)) { row.remove(); shown.delete(id); }
    rows.forEach((row, i) => { if (body.children[i] !== row) body.insertBefore(row, body.children[i] || null); });
    total = told.total;
    next = told.next;
    if (!body.querySelector("[tabindex='0']") && rows.length) rows[0].tabIndex = 0;
    if (held) (shown.get(held)?.row || rows[rows.length - 1])?.focus({ preventScroll: true });
    tell_count();
  }

  async function load(after) { // the first page, or the one after a page
    const mine = after ? turn : (turn += 1);
    try {
      const told = await ask(model, "rollouts", wanted(after));
      if (over || mine !== turn) return;
      if (!after) { begin(); total = told.total; later.hidden = true; }
      next = told.next;
      said.textContent = (told.says || []).join(" ");
      add(told.rollouts);
      clearTimeout(timer);
      if (!after && /so far/.test(said.textContent)) timer = setTimeout(() => { if (!over && place.scrollTop === 0) load(); }, 1500); // the search goes on
    } catch (e) { if (!over && mine === turn) { said.textContent = String(e.message || e); if (!after) { begin(); count.textContent = ""; } } }
  }

  const more = () => (pending ??= load(next).finally(() => { pending = null; })); // one page at a time

  function begin() { // an empty table
    const table = html("table", "agl-list"), head = html("thead"), names = html("tr"), columns = html("colgroup");
    for (const [i, [name, width]] of LIST_COLUMNS.entries()) {
      const column = html("col");
      if (width) column.style.width = `${width}px`;
      columns.append(column);
      names.append(html("th", i === 2 || i > 3 ? "agl-num" : "", name));
    }
    body = html("tbody");
    shown.clear();
    head.append(names);
    table.append(columns, head, body);
    body.onkeydown = pressed;
    place.replaceChildren(table);
    place.scrollTop = 0;
  }

  function add(rows) {
    body.append(...rows.filter((r) => !shown.has(r.rollout_id)).map(renew));
    if (body.firstChild && !body.querySelector("[tabindex='0']")) body.firstChild.tabIndex = 0;
    if (!shown.size) place.replaceChildren(html("p", "agl-dim", words.value ? "No rollout has these words." : "No rollout fits. Rollouts stand here as soon as they are queued."));
    tell_count();
  }

  function tell_count() {
    const number = (n) => n.toLocaleString("en-US");
    count.textContent = shown.size ? `${number(shown.size)} of ${number(total ?? shown.size)}${next ? "; scroll for more" : ""}` : "";
  }

  async function pressed(e) {
    const row = e.target.closest("tr"), all = [...body.children], at = all.indexOf(row);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1, PageDown: at + 15, PageUp: at - 15 }[e.key];
    if (e.key !== "Enter" && to === undefined) return;
    e.preventDefault();
    e.stopPropagation();
    if (e.key === "Enter") return open(row.dataset.id);
    if (to >= all.length && next) await more();
    const found = body.children[Math.max(0, Math.min(to, body.children.length - 1))];
    row.tabIndex = -1;
    found.tabIndex = 0;
    found.focus();
  }

  place.onscroll = () => { if (next && place.scrollTop + place.clientHeight > place.scrollHeight - 400) more(); };
  const anew = () => { load(); keep(root, wanted()); };
  for (const field of [status, mode, sort]) field.onchange = anew;
  for (const field of [step, words, id]) {
    field.oninput = () => { clearTimeout(timer); timer = setTimeout(anew, 200); };
    field.onkeydown = (e) => { if (e.key !== "Escape") e.stopPropagation(); };
  }
  root.addEventListener("keydown", (e) => { if (e.key === "/" && !["INPUT", "SELECT"].includes(e.target.tagName)) { e.preventDefault(); words.focus(); } });
  later.hidden = true;
  later.onclick = () => load();
  let first = true;
  begin();
  fresh = refreshed(model, root, () => { const way = first ? load : look; first = false; return way(); }, 3000, (e) => e.kind === "rollout" && (!given.run_id || e.data.run_id === given.run_id));
  return () => { over = true; clearTimeout(timer); fresh.stop(); };
}
