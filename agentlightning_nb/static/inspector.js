// One rollout opened: conversation, spans in time, tokens, attempts, notes, and the exact record of each span. Every tab asks when it is first opened.

const INSPECTOR_STYLE = `
.agl-top { display: flex; flex-wrap: wrap; gap: 4px 10px; align-items: center; } .agl-top .agl-grow { flex: 1 1 260px; }
.agl-tabs { display: flex; flex-wrap: wrap; gap: 2px 4px; border-bottom: 1px solid var(--line); margin: 6px 0; align-items: end; }
.agl .agl-tabs button { border: 0; border-bottom: 2px solid transparent; border-radius: 0; color: var(--dim); }
.agl .agl-tabs button[aria-selected=true] { border-bottom-color: var(--accent); color: var(--fg); }
.agl-find { margin-left: auto; display: inline-flex; gap: 6px; align-items: center; padding-bottom: 2px; } .agl-find input { width: 120px; font: inherit; color: var(--fg); background: var(--bg); border: 1px solid var(--line); border-radius: 3px; padding: 0 4px; }
.agl mark { background: #f2c14e; color: #222; border-radius: 2px; }
.agl-turn { display: grid; grid-template-columns: 84px minmax(0, 1fr); gap: 0 10px; padding: 4px 0; border-top: 1px solid var(--line); }
.agl-turn:first-child { border-top: 0; } .agl-dim { color: var(--dim); } .agl-wrap, .agl pre { white-space: pre-wrap; overflow-wrap: anywhere; }
.agl pre { font: 12px/1.4 var(--mono); margin: 2px 0; color: inherit; background: none; } .agl-bad { color: var(--bad); }
.agl-tool { border-left: 2px solid var(--line); padding-left: 8px; margin: 3px 0; font: 12px/1.4 var(--mono); }
.agl-span { display: grid; grid-template-columns: minmax(110px, 1fr) 78px 2fr 74px; gap: 0 10px; align-items: center; width: 100%; text-align: left; font-variant-numeric: tabular-nums; }
.agl .agl-span { border: 0; border-radius: 0; padding: 2px 0; } .agl button.agl-span:hover { background: color-mix(in srgb, var(--accent) 12%, transparent); } .agl-axis { color: var(--dim); font-size: 11px; }
.agl-span span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; } .agl-span .agl-lane { position: relative; height: 8px; } .agl-span .agl-num { text-align: right; } .agl-axis .agl-lane { height: auto; display: flex; justify-content: space-between; }
.agl-lane i { position: absolute; top: 0; height: 8px; min-width: 2px; background: var(--c, var(--dim)); }
.agl-sides { display: grid; grid-auto-flow: column; grid-auto-columns: minmax(250px, 1fr); gap: 0 18px; overflow-x: auto; } .agl-sides > div { border-left: 1px solid var(--line); padding-left: 10px; } .agl-sides > div:first-child { border-left: 0; padding-left: 0; }
.agl-sides .agl-turn { grid-template-columns: 1fr; } .agl table.agl-rewards { justify-self: start; width: auto; border-collapse: collapse; font: inherit; color: inherit; font-variant-numeric: tabular-nums; margin: 0; } .agl button:disabled { opacity: .55; cursor: default; }
.agl-top select { font: inherit; color: var(--fg); background: var(--bg); border: 1px solid var(--line); border-radius: 3px; } .agl-exact .agl-turn { grid-template-columns: minmax(84px, 190px) minmax(0, 1fr); } .agl-rewards td { padding: 1px 12px 1px 0; vertical-align: top; }
@media (max-width: 480px) { .agl-turn { grid-template-columns: 1fr; } .agl-span { grid-template-columns: 1fr 70px 60px 66px; } .agl-notes { grid-template-columns: 1fr; } }`;
const MOST_MARKS = 500; // that are shown at a time: more is not read, and takes long to lay out
const INSPECTED_ENDS = ["succeeded", "failed", "cancelled"];
const KINDS = { "model call": "#3b8fd6", tool: "#e0782a", reward: "#2fa37c" };

function with_marks(el, text, find, most = MOST_MARKS) { // the text, what is looked for marked, so often: all of it where it stands so, else its words
  el.replaceChildren();
  const exact = (part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), whole = find.trim();
  const parts = text.toLowerCase().includes(whole.toLowerCase()) ? [whole] : whole.split(/\s+/), wanted = parts.filter(Boolean).map(exact).join("|");
  if (!wanted) { el.textContent = text; return el; }
  let at = 0;
  for (const m of text.matchAll(new RegExp(wanted, "giu"))) {
    if ((most -= 1) < 0) break;
    el.append(text.slice(at, m.index), html("mark", "", m[0]));
    at = m.index + m[0].length;
  }
  el.append(text.slice(at));
  return el;
}

function readable(value) { // JSON, or text that is JSON, indented; other text as it is
  let told = value;
  if (typeof value === "string" && /^\s*[[{]/.test(value)) try { told = JSON.parse(value); } catch { /* plain text */ }
  return typeof told === "string" ? told : JSON.stringify(told, null, 2);
}

function inspected_turn(t) {
  const row = html("div", "agl-turn"), what = html("div"), tool = (name, text) => { const el = html("div", name, text); el.dataset.text = text; return el; };
  if (t.text || !t.tools.length) what.append(tool("agl-wrap", t.text));
  row.append(html("span", "agl-dim", t.role || "?"), what);
  for (const [name, given, result] of t.tools) {
    const use = html("div", "agl-tool");
    use.append(tool("agl-wrap", `${name}(${given})`), result === null ? html("div", "agl-dim", "nothing came back") : tool("agl-dim agl-wrap", `→ ${result}`));
    what.append(use);
  }
  return row;
}

function inspected_task(r, turns) { // what was asked, as it was given, and not said again in the conversation
  const row = html("div", "agl-turn"), what = html("div"), { name, context } = r.metadata?.task || {}, { input } = r;
  const said = (text) => !text || turns.some((t) => t.text.includes(text)), fields = input && typeof input === "object" && !Array.isArray(input) && turns.length;
  const new_fields = fields ? Object.entries(input).filter(([, v]) => v !== null && !(typeof v === "string" && said(v))).map(([k, v]) => `${k}: ${typeof v === "string" ? v : JSON.stringify(v)}`) : [];
  for (const text of [name, context, fields ? new_fields.join(" · ").slice(0, 2000) : input === null || input === undefined ? "" : readable(input)]) {
    if (said(text)) continue;
    const el = html("div", "agl-wrap", text);
    el.dataset.text = text;
    what.append(el);
  }
  row.append(html("span", "agl-dim", "task"), what);
  return what.childNodes.length ? [row] : [];
}

function inspected_rewards(rewards) {
  const row = html("div", "agl-turn"), table = html("table", "agl-rewards");
  for (const { name, value, says } of rewards) {
    const line = html("tr"), why = html("td", "agl-dim agl-wrap", says.map(([k, v]) => (k === "why" || k === "reasoning" ? v : `${k}: ${v}`)).join("\n"));
    why.dataset.text = why.textContent;
    line.append(html("td", "", name), html("td", "agl-num", typeof value === "number" ? String(+value.toFixed(4)) : value === null ? "" : String(value)), why);
    table.append(line);
  }
  row.append(html("span", "agl-dim", "rewards"), table);
  return row;
}

function inspected_error(error) {
  const found = [html("div", "agl-bad agl-wrap", `${error.type}: ${error.message}`)];
  if (error.traceback) found.push(html("pre", "", error.traceback));
  for (const el of found) el.dataset.text = el.textContent;
  return found;
}

function inspected_conversation(told) {
  const found = [...inspected_task(told.rollout, told.turns), ...told.turns.map(inspected_turn)], shown = told.attempts.find((a) => a.attempt_id === told.attempt_id);
  if (!told.turns.length) found.push(html("p", "agl-dim", "No model call was recorded, so nothing was said. An agent's calls stand here when they go through the proxy or a tracer."));
  if (told.rewards.length) found.push(inspected_rewards(told.rewards));
  if (shown?.error) {
    const row = html("div", "agl-turn"), what = html("div");
    what.append(...inspected_error(shown.error));
    row.append(html("span", "agl-dim", "error"), what);
    found.push(row);
  }
  return found;
}

function inspected_trace(told, open) {
  if (!told.spans.length) return [html("p", "agl-dim", "No span was recorded in this attempt.")];
  const end = Math.max(1e-9, ...told.spans.map((s) => (s.start_s || 0) + (s.seconds || 0)));
  const axis = html("div", "agl-span agl-axis"), ticks = html("span", "agl-lane");
  ticks.append(html("span", "", "0 s"), html("span", "", brief(end)));
  axis.append(html("span", "", `${told.spans.length} spans`), html("span"), ticks, html("span", "agl-num", "took"));
  return [axis, ...told.spans.map((s) => {
    const row = html("button", "agl-span"), name = html("span", s.status === "ERROR" ? "agl-bad" : "", s.name), lane = html("span", "agl-lane"), bar = html("i");
    name.style.paddingLeft = `${Math.min(s.depth, 12) * 12}px`;
    name.dataset.text = s.name;
    bar.style.cssText = `left: min(${(100 * (s.start_s || 0)) / end}%, 100% - 2px); width: ${(100 * (s.seconds || 0)) / end}%`;
    bar.style.setProperty("--c", s.status === "ERROR" ? "var(--bad)" : KINDS[s.kind] || "var(--dim)");
    lane.append(bar);
    row.append(name, html("span", "agl-dim", s.kind), lane, html("span", "agl-num", s.seconds === null ? "open" : brief(s.seconds)));
    row.title = "the exact record";
    row.onclick = () => open(s.sequence_id);
    return row;
  })];
}

function inspected_attempt(a, pick, shown) { // a column: how it went, and what was said in it once that is known
  const side = html("div"), took = a.end_time && a.start_time ? ` · ${brief(a.end_time - a.start_time)}` : "", parts = Object.entries(a.rewards || {}).map(([k, v]) => `${k} ${+v.toFixed(4)}`);
  const head = html("div", "agl-row"), look = html("button", "", shown ? "shown in the other tabs" : "show in the other tabs");
  look.disabled = shown;
  look.onclick = pick;
  head.append(html("b", "", `attempt ${a.sequence_id}`), look);
  side.append(head, html("div", a.status === "succeeded" ? "" : "agl-bad", `${a.status}${took}${a.worker_id ? ` · ${a.worker_id}` : ""}`));
  if (a.reward !== null) side.append(html("div", "", [`reward ${+a.reward.toFixed(4)}`, ...parts].join(" · ")));
  if (a.error) side.append(...inspected_error(a.error));
  return side;
}

function draw_inspector(model, el, params) {
  const given = params || model.get("params") || {}, { rollout_id } = given, root = html("div", "agl"), top = html("div", "agl-top"), head = html("div", "agl-grow", "Reading the rollout …"), thumbs = html("span", "agl-row");
  const tabs = html("div", "agl-tabs"), body = html("div"), finding = html("span", "agl-find"), find = html("input"), hits = html("span", "agl-dim"), which = html("select");
  const names = ["Conversation", "Trace", "Tokens", "Attempts", "Exact", "Notes"], readonly = Boolean(model.get("readonly"));
  let told = null, over = false, turn = 0, now = names.includes(given.tab) ? given.tab : "Conversation", attempt = given.attempt_id || null, fresh = null;
  const asking = (more) => ({ rollout_id, ...(attempt ? { attempt_id: attempt } : {}), ...more }); // the last attempt is asked for without its id
  tabs.setAttribute("role", "tablist");
  hits.setAttribute("role", "status");
  find.type = "search"; find.placeholder = "find in it"; find.value = given.find || "";
  find.setAttribute("aria-label", "find in the rollout");
  which.setAttribute("aria-label", "attempt");
  const beside = html("button", "", "its group");
  beside.title = "the other rollouts of the same task in this step, beside it";
  beside.onclick = () => go(root, "group", { rollout_id });
  beside.hidden = true;
  top.append(head, beside, which, thumbs);
  root.append(html("style", "", STYLE + INSPECTOR_STYLE + TOKENS_STYLE + NOTES_STYLE), top, tabs, body);
  el.append(root);

  async function exact(sequence_id) {
    if (sequence_id === undefined) return [html("p", "agl-dim", "No model call was recorded. A span of the Trace opens here.")];
    const found = await ask(model, "call", asking({ sequence_id }));
    const all = html("div", "agl-exact");
    all.append(html("div", "agl-dim", `span ${found.sequence_id}: ${found.name} · ${found.kind}${found.status === "ERROR" ? " · ERROR" : ""}`), ...Object.entries(found.attributes).map(([k, v]) => {
      const row = html("div", "agl-turn"), what = html("pre", "", readable(v));
      what.dataset.text = what.textContent;
      row.append(html("span", "agl-dim agl-wrap", k), what);
      return row;
    }));
    return [all];
  }

  function attempts() {
    if (!told.attempts.length) return [html("p", "agl-dim", "No worker has taken it yet.")];
    const sides = html("div", "agl-sides"), last = told.attempts[told.attempts.length - 1].attempt_id;
    for (const a of told.attempts) {
      const side = inspected_attempt(a, () => { attempt = a.attempt_id === last ? null : a.attempt_id; again("Conversation"); }, a.attempt_id === told.attempt_id);
      sides.append(side);
      const ours = a.attempt_id === told.attempt_id ? Promise.resolve(told) : ask(model, "rollout", a.attempt_id === last ? { rollout_id } : { rollout_id, attempt_id: a.attempt_id });
      ours.then((one) => { if (!over) side.append(...one.turns.map(inspected_turn), ...(one.rewards.length ? [inspected_rewards(one.rewards)] : [])); mark(); }, (e) => side.append(html("p", "agl-dim", String(e.message || e))));
    }
    return [sides];
  }

  const say = async (said) => { await ask(model, "annotate", { rollout_id, ...said }); await again(now); };
  const take_back = async (annotation_id) => { await ask(model, "remove_annotation", { annotation_id }); await again(now); };

  function mark() { // what is looked for, in what is shown
    const places = [...body.querySelectorAll("[data-text]")];
    let left = MOST_MARKS;
    for (const place of places) {
      if (place.dataset.marked !== find.value && (find.value || place.dataset.marked)) { with_marks(place, place.dataset.text, find.value, left); place.dataset.marked = find.value; }
      left -= place.querySelectorAll("mark").length;
    }
    const found = body.querySelectorAll("mark");
    hits.textContent = find.value && now !== "Tokens" ? (left > 0 ? `${found.length} found` : `the first ${found.length}`) : "";
    return found;
  }

  async function show(name, sequence_id) {
    const mine = (turn += 1);
    now = name;
    for (const b of tabs.querySelectorAll("[role=tab]")) { b.setAttribute("aria-selected", String(b.dataset.name === name)); b.tabIndex = b.dataset.name === name ? 0 : -1; }
    let found;
    try {
      if (name === "Conversation") found = inspected_conversation(told);
      else if (name === "Attempts") found = attempts();
      else if (name === "Notes") found = draw_notes(told, readonly ? null : say, readonly ? null : take_back);
      else if (name === "Tokens") found = [draw_tokens((start) => ask(model, "tokens", asking({ start })), (id) => show("Exact", told.calls[told.call_spans.indexOf(id)]))];
      else if (name === "Trace") found = inspected_trace(await ask(model, "trace", asking()), (id) => show("Exact", id));
      else found = await exact(sequence_id ?? told.calls[told.calls.length - 1]);
    } catch (e) { found = [html("p", "agl-bad", String(e.message || e))]; }
    if (over || mine !== turn) return;
    body.replaceChildren(...found);
    mark();
  }

  function dress() { // the head, as it is now
    const r = told.rollout, took = r.end_time ? ` · ${brief(r.end_time - r.start_time)}` : "", last = told.attempts.length - 1;
    head.textContent = `${r.rollout_id} · ${r.status} · ${r.reward == null ? "no reward" : `reward ${+r.reward.toFixed(4)}`} · ${told.calls.length} model call${told.calls.length === 1 ? "" : "s"}${took}`;
    which.hidden = last < 1;
    beside.hidden = !r.group_id || !component("group");
    which.replaceChildren(...told.attempts.map((a, i) => { const o = html("option", "", `attempt ${a.sequence_id}: ${a.status}`); o.value = i === last ? "" : a.attempt_id; o.selected = a.attempt_id === told.attempt_id; return o; }));
    thumbs.replaceChildren(...(readonly ? [] : [1, -1].map((way) => {
      const pressed = thumb_of(told.annotations) === way, button = thumb_button(way, () => say({ thumb: pressed ? 0 : way }).catch((e) => { head.textContent = String(e.message || e); }));
      button.setAttribute("aria-pressed", String(pressed));
      return button;
    })));
    for (const b of tabs.querySelectorAll("[role=tab]")) b.textContent = b.dataset.name === "Notes" && told.annotations.length ? `Notes (${told.annotations.length})` : b.dataset.name === "Attempts" && last > 0 ? `Attempts (${last + 1})` : b.dataset.name;
  }

  const keeps = () => keep(root, { rollout_id, ...(find.value ? { find: find.value } : {}), ...(now === "Conversation" ? {} : { tab: now }), ...(attempt ? { attempt_id: attempt } : {}) });

  async function again(name) {
    const answer = await ask(model, "rollout", asking());
    if (over) return;
    told = answer;
    dress();
    await show(name);
  }

  async function look() { // while it is under way
    try {
      const answer = told && await ask(model, "rollout", asking()), writes = /^(INPUT|TEXTAREA)$/.test(document.activeElement?.tagName) && body.contains(document.activeElement);
      if (over || (told && JSON.stringify(answer) === JSON.stringify(told)) || writes) return !over;
      if (told) { told = answer; dress(); await show(now); } else { await again(now); tabs.hidden = false; }
      return !over && !INSPECTED_ENDS.includes(told.rollout.status);
    } catch (e) { if (!over) head.textContent = String(e.message || e); return false; }
  }

  tabs.append(...names.map((name) => { const b = html("button", "", name); b.dataset.name = name; b.setAttribute("role", "tab"); b.onclick = () => { show(name); keeps(); }; return b; }), finding);
  finding.append(hits, find);
  tabs.onkeydown = (e) => {
    const to = e.target.dataset.name && { ArrowRight: e.target.nextSibling, ArrowLeft: e.target.previousSibling }[e.key];
    if (to?.dataset.name) { e.preventDefault(); e.stopPropagation(); to.focus(); to.click(); }
  };
  let at = -1;
  find.oninput = () => { at = -1; mark(); keeps(); };
  find.onkeydown = (e) => {
    if (e.key === "Enter") { const all = mark(); all[(at = (at + 1) % Math.max(all.length, 1))]?.scrollIntoView({ block: "center" }); }
    if (e.key !== "Escape") e.stopPropagation();
  };
  which.onchange = () => { attempt = which.value || null; keeps(); again(now).catch((e) => { head.textContent = String(e.message || e); }); };
  tabs.hidden = which.hidden = true;
  fresh = refreshed(model, root, look, 2000, (e) => e.data.rollout_id === rollout_id);
  return () => { over = true; fresh.stop(); };
}
