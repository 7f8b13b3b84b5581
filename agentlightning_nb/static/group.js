// The rollouts of a group beside each other, best first: rewards, advantages, and the word and token at which each leaves the one it is compared with.
// Arrow keys move, Enter opens a rollout, c compares with it.

const GROUP_STYLE = `
.agl-group { container-type: inline-size; } .agl-asked { font-size: 15px; font-weight: 600; white-space: pre-wrap; overflow-wrap: anywhere; max-height: 6.2em; overflow: auto; }
.agl-about { color: var(--dim); margin: 1px 0 8px; font-variant-numeric: tabular-nums; } .agl-about button { margin-left: 6px; }
.agl-bars { display: flex; align-items: stretch; gap: 2px; height: 52px; border-bottom: 1px solid var(--line); margin: 8px 0 2px; position: relative; }
.agl .agl-bars button { flex: 1 1 0; min-width: 3px; max-width: 64px; padding: 0; border: 0; border-radius: 0; position: relative; background: transparent; }
.agl-bars i { position: absolute; left: 0; right: 0; bottom: 0; background: var(--c, var(--dim)); opacity: 0.55; min-height: 2px; border-radius: 2px 2px 0 0; }
.agl-bars button:hover i, .agl-bars button[aria-current=true] i { opacity: 1; } .agl-mean { position: absolute; left: 0; right: 0; border-top: 1px dashed var(--dim); pointer-events: none; }
.agl-scale { display: flex; justify-content: space-between; color: var(--dim); font-size: 11px; margin-bottom: 8px; }
.agl-beside { display: grid; grid-auto-flow: column; grid-auto-columns: minmax(236px, 1fr); gap: 10px; overflow-x: auto; padding: 2px 2px 10px; scroll-snap-type: x proximity; scrollbar-width: thin; }
.agl-column { border: 1px solid var(--line); border-top: 3px solid var(--c, var(--dim)); border-radius: 4px; padding: 6px 10px 10px; scroll-snap-align: start; min-width: 0; }
.agl-column[data-reference=true] { background: color-mix(in srgb, var(--accent) 7%, transparent); } .agl-column:focus { outline: 2px solid var(--accent); outline-offset: -1px; }
.agl-worth { display: flex; align-items: baseline; gap: 8px; font-variant-numeric: tabular-nums; } .agl-worth b { font-size: 17px; font-weight: 600; } .agl-worth em { font-style: normal; color: var(--c); font-weight: 500; }
.agl-worth strong { font-weight: 500; } .agl .agl-link { border: 0; padding: 0; font: 11px/1.3 var(--mono); color: var(--accent); } .agl .agl-link:hover { text-decoration: underline; }
.agl-worth span { color: var(--dim); font-size: 11px; margin-left: auto; } .agl-facts { color: var(--dim); font-size: 11px; margin: 1px 0 4px; font-variant-numeric: tabular-nums; }
.agl-parts-at { font-size: 12px; border-left: 3px solid var(--warn); padding: 1px 0 1px 8px; margin: 6px 0; overflow-wrap: anywhere; } .agl-parts-at[data-is=same] { border-color: var(--line); color: var(--dim); }
.agl-parts-at code { font: 12px/1.3 var(--mono); background: color-mix(in srgb, var(--warn) 22%, transparent); border-radius: 2px; padding: 0 2px; white-space: pre-wrap; } .agl-parts-at code + small, .agl-parts-at small { color: var(--dim); }
.agl-keys { display: flex; gap: 6px; margin: 6px 0 4px; flex-wrap: wrap; } .agl .agl-keys button { font-size: 11px; padding: 0 8px; }
.agl-word { border-top: 1px solid var(--line); padding: 5px 0 4px; } .agl-word > small { display: block; color: var(--dim); font-size: 11px; } .agl-word > div { white-space: pre-wrap; overflow-wrap: anywhere; }
.agl-word .agl-same { color: var(--dim); } .agl-word mark { color: inherit; background: color-mix(in srgb, var(--warn) 30%, transparent); border-radius: 2px; padding: 0 1px; }
.agl-word .agl-use { font: 12px/1.4 var(--mono); border-left: 2px solid var(--line); padding-left: 8px; margin: 3px 0; } .agl-word .agl-use[data-differs=true] { border-color: var(--warn); } .agl-use div { color: var(--dim); }
.agl-shared { margin: 4px 0 8px; } .agl-shared summary { color: var(--dim); cursor: pointer; } .agl-shared .agl-word { max-height: 180px; overflow: auto; }
@container (max-width: 520px) { .agl-beside { grid-auto-columns: 86%; } }`;

function worth(r) { return r === null || r === undefined ? "none" : String(+r.toFixed(3)); }
function moved_by(v) { return `${v > 0 ? "+" : v < 0 ? "−" : "±"}${Math.abs(+v.toFixed(3))}`; }
function tone(v) { return v === null || v === undefined || v === 0 ? "var(--dim)" : v > 0 ? "var(--good)" : "var(--bad)"; }

function group_word(turn, from) { // a turn; from `from` on it differs
  const at = html("div", "agl-word"), text = html("div");
  at.append(html("small", "", turn.role || "?"));
  if (from === undefined) text.textContent = turn.text;
  else {
    const word = /^\s*(\w+|[^\w\s])?/.exec(turn.text.slice(from))[0];
    text.append(html("span", "agl-same", turn.text.slice(0, from)), html("mark", "", word), html("span", "", turn.text.slice(from + word.length)));
  }
  if (turn.text) at.append(text);
  for (const [name, given, result] of turn.tools) {
    const use = html("div", "agl-use", `${name}(${given})`);
    use.dataset.differs = String(from !== undefined && from >= turn.text.length);
    use.append(html("div", "", result === null ? "nothing came back" : `→ ${result}`));
    at.append(use);
  }
  return at;
}

function group_chance(side) { // a token as text with how probable it was
  if (!side) return [html("small", "", "the end")];
  const [text, id, logp] = side, shown = text === null ? `token ${id}` : text.replace(/\n/g, "⏎") || "␣";
  return [html("code", "", shown), html("small", "", logp === null ? "" : ` p ${Math.exp(logp).toFixed(2)}`)];
}

function group_parting(one, told) { // in words: where it leaves the other
  const box = html("div", "agl-parts-at");
  if (one.rollout_id === told.reference) { box.dataset.is = "same"; box.textContent = told.rollouts.length > 1 ? "The others are compared with this one." : "Alone in its group."; return box; }
  if (!one.differs) { box.dataset.is = "same"; box.textContent = one.turns.length ? "Says the same." : "Nothing was recorded."; return box; }
  const t = one.differs.token;
  if (!t) box.append(`Parts in turn ${one.differs.turn + 1}.`);
  else if (t.kind === "given") box.append(`Given something else in call ${t.call + 1}, before its own words part.`);
  else box.append(`Parts at token ${t.at + 1} of call ${t.call + 1}: `, ...group_chance(t.here), html("small", "", "; there "), ...group_chance(t.there));
  return box;
}

function group_facts(one, many) {
  const said = [one.status === "succeeded" ? "" : one.status, ...Object.entries(one.parts).map(([name, v]) => `${name} ${worth(v)}`), `${one.calls} ${one.calls === 1 ? "call" : "calls"}`];
  if (one.sampled) said.push(`${one.sampled} tokens`);
  if (one.seconds !== null) said.push(brief(one.seconds));
  if (many && one.version !== null) said.push(`version ${one.version}`);
  return said.filter(Boolean).join(" · ");
}

function group_alike(rollouts) { // those that say the same for the same reward, one column for all of them
  const found = new Map();
  for (const r of rollouts) {
    const key = r.turns.length ? JSON.stringify([r.turns, r.reward, r.advantage, r.version, r.error]) : r.rollout_id;
    if (found.has(key)) found.get(key).push(r);
    else found.set(key, [r]);
  }
  return [...found.values()];
}

function group_others(some, open) { // the further ones of a column
  const box = html("div", "agl-facts", `${some.length - 1} more say${some.length === 2 ? "s" : ""} the same: `);
  for (const r of some.slice(1)) {
    const b = html("button", "agl-link", r.rollout_id.slice(0, 9));
    b.title = r.rollout_id;
    b.onclick = () => open(r.rollout_id);
    box.append(b, " ");
  }
  return box;
}

function group_column(some, i, told, act) {
  const one = some.find((r) => r.rollout_id === told.reference) || some[0];
  const column = html("div", "agl-column"), top = html("div", "agl-worth"), keys = html("div", "agl-keys"), versions = new Set(told.rollouts.map((r) => r.version)).size > 1;
  column.style.setProperty("--c", tone(one.advantage));
  column.dataset.reference = String(one.rollout_id === told.reference);
  column.dataset.id = one.rollout_id;
  column.tabIndex = i === 0 ? 0 : -1;
  column.setAttribute("role", "listitem");
  column.setAttribute("aria-label", `${some.length > 1 ? `${some.length} rollouts` : one.rollout_id}, reward ${worth(one.reward)}; Enter opens it, c compares with it`);
  const advantage = html("em", "", one.advantage === null ? "" : moved_by(one.advantage));
  advantage.title = one.trained ? "the advantage that the trainer used" : "reward minus the mean of the group";
  top.append(html("b", "", worth(one.reward)), advantage, html("strong", "", some.length > 1 ? `× ${some.length}` : ""), html("span", "", one.rollout_id));
  for (const [name, text] of [["open", "open"], ["compare", "compare with this"]]) {
    if (name === "compare" && one.rollout_id === told.reference) continue;
    const b = html("button", "", text);
    b.onclick = () => act[name](one.rollout_id);
    keys.append(b);
  }
  column.append(top, html("div", "agl-facts", group_facts(one, versions)));
  if (one.dropped) column.append(html("div", "agl-facts", `did not train: ${one.dropped}`));
  if (some.length > 1) column.append(group_others(some, act.open));
  column.append(group_parting(one, told), keys);
  const first = one.differs && one.differs.turn;
  one.turns.slice(told.shared).forEach((turn, k) => column.append(group_word(turn, first === k + told.shared ? one.differs.char : undefined)));
  if (one.error) column.append(html("div", "agl-word agl-bad", one.error));
  return column;
}

function group_bars(told, to) { // the rewards as a row of bars, the mean as a line
  const box = html("div", "agl-bars"), values = told.rollouts.map((r) => r.reward ?? 0), hi = Math.max(1e-9, ...values), lo = Math.min(0, ...values);
  const share = (v) => (100 * (v - lo)) / (hi - lo);
  box.style.maxWidth = `${66 * told.rollouts.length}px`;
  told.rollouts.forEach((r, i) => {
    const bar = html("button"), fill = html("i");
    fill.style.height = `${share(r.reward ?? 0)}%`;
    bar.style.setProperty("--c", tone(r.advantage));
    bar.title = `${i + 1}: reward ${worth(r.reward)}${r.advantage === null ? "" : `, advantage ${moved_by(r.advantage)}`}`;
    bar.setAttribute("aria-label", bar.title);
    bar.tabIndex = -1;
    bar.onclick = () => to(i);
    bar.append(fill);
    box.append(bar);
  });
  if (told.mean !== null && told.rollouts.length > 1) {
    const mean = html("div", "agl-mean");
    mean.style.bottom = `${share(told.mean)}%`;
    box.append(mean);
  }
  return box;
}

function group_head(told, root) {
  const about = html("div", "agl-about"), n = told.rollouts.length;
  const said = [told.step === null || told.step === undefined ? "" : `${told.mode || "train"} step ${told.step}`, `${told.n} rollout${told.n === 1 ? "" : "s"}${n < told.n ? `, ${n} shown` : ""}`];
  if (told.mean !== null) said.push(`mean reward ${worth(told.mean)}${told.n > 1 ? ` ± ${worth(told.spread)}` : ""}`);
  if (told.n > 1 && told.spread === 0) said.push("all the same reward: nothing to learn from");
  about.append(said.filter(Boolean).join(" · "));
  if (told.run_id && told.step !== null && component("groups")) {
    const all = html("button", "", "all groups of the step");
    all.onclick = () => go(root, "groups", { run_id: told.run_id, step: told.step });
    about.append(all);
  }
  return [html("div", "agl-asked", told.asked), about];
}

function draw_group(model, el, params) {
  const asked = params || model.get("params") || {}, root = html("div", "agl agl-group"), body = html("div"), said = html("p", "agl-none", "Reading the group …");
  let over = false, turn = 0, at = 0;
  said.setAttribute("role", "status");
  root.append(html("style", "", STYLE + GROUP_STYLE), said, body);
  el.append(root);

  const act = {
    open: (rollout_id) => { if (!go(root, "rollout", { rollout_id })) said.textContent = `Nothing here shows rollouts. In a cell: store.get_rollout_by_id("${rollout_id}")`; },
    compare: (reference) => load({ ...asked, reference }, true),
  };

  async function load(wanted, focus) {
    const mine = (turn += 1);
    try {
      const told = await ask(model, "group", wanted);
      if (over || mine !== turn) return;
      said.textContent = "";
      draw(told, focus);
    } catch (e) { if (!over && mine === turn) said.textContent = String(e.message || e); }
  }

  function draw(told, focus) {
    const columns = group_alike(told.rollouts), beside = html("div", "agl-beside"), shared = html("details", "agl-shared"), all = () => [...beside.children];
    const to = (i) => {
      at = Math.max(0, Math.min(all().length - 1, i));
      all().forEach((c, k) => { c.tabIndex = k === at ? 0 : -1; });
      bars.querySelectorAll("button").forEach((b, k) => b.setAttribute("aria-current", String(columns[at].includes(told.rollouts[k]))));
      all()[at].focus();
      all()[at].scrollIntoView({ block: "nearest", inline: "nearest" });
    };
    const bars = group_bars(told, (i) => to(columns.findIndex((some) => some.includes(told.rollouts[i])))), scale = html("div", "agl-scale");
    beside.setAttribute("role", "list");
    beside.append(...columns.map((some, i) => group_column(some, i, told, act)));
    beside.onkeydown = (e) => {
      if (e.target !== all()[at] && e.target.tagName === "BUTTON") return;
      const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all().length - 1 }[e.key];
      if (next !== undefined) to(next);
      else if (e.key === "Enter") act.open(all()[at].dataset.id);
      else if (e.key === "c") act.compare(all()[at].dataset.id);
      else return;
      e.preventDefault();
      e.stopPropagation();
    };
    beside.addEventListener("focusin", (e) => { const i = all().indexOf(e.target.closest(".agl-column")); if (i >= 0) at = i; });
    if (told.shared) {
      shared.open = told.rollouts[0].turns.slice(0, told.shared).some((t) => t.text !== told.asked);
      shared.append(html("summary", "", told.rollouts.length === 1 ? "What was said" : `All begin with the same ${told.shared === 1 ? "turn" : `${told.shared} turns`}`));
      shared.append(...told.rollouts[0].turns.slice(0, told.shared).map((t) => group_word(t)));
    }
    scale.append(html("span", "", `rewards, best first${told.mean === null ? "" : `; dashed: their mean`}`));
    body.replaceChildren(...group_head(told, root), ...(told.rollouts.length > 1 ? [bars, scale] : []), ...(told.shared ? [shared] : []), beside);
    at = 0;
    if (focus) to(columns.findIndex((some) => some.some((r) => r.rollout_id === told.reference)));
  }

  load(asked);
  return () => { over = true; };
}
