// One rollout opened: conversation, spans in time, tokens, attempts, and the exact record of each span. Every tab asks when it is first opened.

const INSPECTOR_STYLE = `
.agl-tabs { display: flex; flex-wrap: wrap; gap: 2px 4px; border-bottom: 1px solid var(--line); margin: 6px 0; }
.agl .agl-tabs button { border: 0; border-bottom: 2px solid transparent; border-radius: 0; color: var(--dim); }
.agl .agl-tabs button[aria-selected=true] { border-bottom-color: var(--accent); color: var(--fg); }
.agl-turn { display: grid; grid-template-columns: 84px minmax(0, 1fr); gap: 0 10px; padding: 4px 0; border-top: 1px solid var(--line); }
.agl-turn:first-child { border-top: 0; } .agl-dim { color: var(--dim); } .agl-wrap, .agl pre { white-space: pre-wrap; overflow-wrap: anywhere; }
.agl pre { font: 12px/1.4 var(--mono); margin: 2px 0; } .agl-bad { color: var(--bad); }
.agl-tool { border-left: 2px solid var(--line); padding-left: 8px; margin: 3px 0; font: 12px/1.4 var(--mono); }
.agl-span { display: grid; grid-template-columns: minmax(110px, 1fr) 78px 2fr 74px; gap: 0 10px; align-items: center; width: 100%; text-align: left; font-variant-numeric: tabular-nums; }
.agl .agl-span { border: 0; border-radius: 0; padding: 2px 0; } .agl .agl-span:hover { background: color-mix(in srgb, var(--accent) 12%, transparent); }
.agl-span span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; } .agl-span .agl-lane { position: relative; height: 8px; }
.agl-lane i { position: absolute; top: 0; height: 8px; min-width: 2px; background: var(--c, var(--dim)); }
.agl-tokens { font: 12px/1.7 var(--mono); overflow-wrap: anywhere; white-space: pre-wrap; max-height: 420px; overflow: auto; }
.agl-tokens b { font-weight: 400; } .agl-tokens b:hover, .agl-tokens b:focus { outline: 1px solid var(--accent); } .agl-call { display: block; color: var(--dim); margin-top: 6px; }
@media (max-width: 480px) { .agl-turn { grid-template-columns: 1fr; } .agl-span { grid-template-columns: 1fr 70px 60px 66px; } }`;
const KINDS = { "model call": "#3b8fd6", tool: "#e0782a", reward: "#2fa37c" };

function inspected_turn(t) {
  const row = html("div", "agl-turn"), what = html("div", "agl-wrap", t.text);
  row.append(html("span", "agl-dim", t.role || "?"), what);
  for (const [name, given, result] of t.tools) {
    const use = html("div", "agl-tool", `${name}(${given})`);
    use.append(html("div", "agl-dim", result === null ? "nothing came back" : `→ ${result}`));
    what.append(use);
  }
  return row;
}

function inspected_conversation(told) {
  const found = told.turns.map(inspected_turn);
  if (!found.length) found.push(html("p", "agl-dim", "No model call was recorded, so nothing was said. An agent's calls stand here when they go through the proxy or a tracer."));
  for (const given of told.rewards) {
    const row = html("div", "agl-turn");
    row.append(html("span", "agl-dim", "reward"), html("pre", "", Object.entries(given).map(([k, v]) => `${k.replace("agentlightning.", "")}: ${typeof v === "string" ? v : JSON.stringify(v)}`).join("\n")));
    found.push(row);
  }
  return found;
}

function inspected_trace(told, open) {
  if (!told.spans.length) return [html("p", "agl-dim", "No span was recorded in this attempt.")];
  const end = Math.max(1e-9, ...told.spans.map((s) => (s.start_s || 0) + (s.seconds || 0)));
  return told.spans.map((s) => {
    const row = html("button", "agl-span"), name = html("span", s.status === "ERROR" ? "agl-bad" : "", s.name), lane = html("span", "agl-lane"), bar = html("i");
    name.style.paddingLeft = `${Math.min(s.depth, 12) * 12}px`;
    bar.style.cssText = `left: ${(100 * (s.start_s || 0)) / end}%; width: ${(100 * (s.seconds || 0)) / end}%`;
    bar.style.setProperty("--c", KINDS[s.kind] || "var(--dim)");
    lane.append(bar);
    row.append(name, html("span", "agl-dim", s.kind), lane, html("span", "", s.seconds === null ? "open" : `${s.seconds.toFixed(3)} s`));
    row.title = "the exact record";
    row.onclick = () => open(s.sequence_id);
    return row;
  });
}

function inspected_attempts(told) {
  if (!told.attempts.length) return [html("p", "agl-dim", "No worker has taken it yet.")];
  return told.attempts.map((a) => {
    const row = html("div", "agl-turn"), what = html("div"), took = a.end_time && a.start_time ? ` · ${(a.end_time - a.start_time).toFixed(2)} s` : "";
    what.append(html("div", "", `${a.status}${took}${a.worker_id ? ` · ${a.worker_id}` : ""}`));
    if (a.error) what.append(html("div", "agl-bad agl-wrap", `${a.error.type}: ${a.error.message}`), html("pre", "", a.error.traceback || ""));
    row.append(html("span", "agl-dim", `attempt ${a.sequence_id}`), what);
    return row;
  });
}

function inspected_tokens(ask_for) { // pages of 2,000, so that a long rollout never freezes
  const root = html("div"), legend = html("div", "agl-dim", "Sampled tokens are shaded, darker the less probable; plain ones were given to the model as its prompt."), at = html("div", "agl-dim", " ");
  const box = html("div", "agl-tokens"), more = html("button", "", "more"), said = html("div", "agl-dim");
  let next = 0, call = null;
  at.setAttribute("aria-live", "polite");
  root.append(legend, said, at, box, more);
  const tell = (e) => { if (e.target.dataset?.is) at.textContent = e.target.dataset.is; };
  box.onpointerover = tell;
  box.onfocus = tell;
  box.addEventListener("focusin", tell);
  box.onkeydown = (e) => {
    const all = [...box.querySelectorAll("b")], to = all[all.indexOf(document.activeElement) + ({ ArrowRight: 1, ArrowLeft: -1 }[e.key] || NaN)];
    if (to) { e.preventDefault(); to.focus(); }
  };
  async function load() {
    more.disabled = true;
    try {
      const told = await ask_for(next);
      const some = document.createDocumentFragment();
      for (const [from, id, text, logp, sampled] of told.tokens) {
        if (from !== call) some.append(html("span", "agl-call", `call ${(call = from)}`));
        const token = html("b", "", text ?? `${id} `);
        token.tabIndex = next === 0 && !some.querySelector("b") ? 0 : -1;
        token.dataset.is = `${sampled ? "sampled" : "prompt"} · id ${id}${logp === null ? "" : ` · logprob ${logp.toFixed(4)} · p ${Math.exp(logp).toFixed(4)}`}`;
        if (sampled) token.style.background = `color-mix(in srgb, #e0782a ${Math.round(14 + 56 * Math.min(1, -(logp ?? 0) / 4))}%, transparent)`;
        some.append(token);
      }
      box.append(some);
      next += told.tokens.length;
      said.textContent = told.says.join(" ");
      more.hidden = next >= told.total;
      more.textContent = `more (${next.toLocaleString("en-US")} of ${told.total.toLocaleString("en-US")} tokens)`;
    } catch (e) { said.textContent = String(e.message || e); }
    more.disabled = false;
  }
  more.onclick = load;
  load();
  return root;
}

function draw_inspector(model, el, params) {
  const rollout_id = (params || model.get("params") || {}).rollout_id, root = html("div", "agl"), head = html("div", "", "Reading the rollout …");
  const tabs = html("div", "agl-tabs"), body = html("div"), names = ["Conversation", "Trace", "Tokens", "Attempts", "Exact"];
  let told = null, over = false, turn = 0;
  tabs.setAttribute("role", "tablist");
  root.append(html("style", "", STYLE + INSPECTOR_STYLE), head, tabs, body);
  el.append(root);

  async function exact(sequence_id) {
    if (sequence_id === undefined) return [html("p", "agl-dim", "No model call was recorded. A span of the Trace opens here.")];
    const found = await ask(model, "call", { rollout_id, sequence_id });
    return [html("div", "agl-dim", `span ${sequence_id}: ${found.name} · ${found.kind}`), ...Object.entries(found.attributes).map(([k, v]) => {
      const row = html("div", "agl-turn");
      row.append(html("span", "agl-dim agl-wrap", k), html("pre", "", typeof v === "string" ? v : JSON.stringify(v, null, 1)));
      return row;
    })];
  }

  async function show(name, sequence_id) {
    const mine = (turn += 1);
    for (const b of tabs.children) { b.setAttribute("aria-selected", String(b.textContent === name)); b.tabIndex = b.textContent === name ? 0 : -1; }
    let found;
    try {
      if (name === "Conversation") found = inspected_conversation(told);
      else if (name === "Attempts") found = inspected_attempts(told);
      else if (name === "Tokens") found = [inspected_tokens((start) => ask(model, "tokens", { rollout_id, start }))];
      else if (name === "Trace") found = inspected_trace(await ask(model, "trace", { rollout_id }), (id) => show("Exact", id));
      else found = await exact(sequence_id ?? told.calls[told.calls.length - 1]);
    } catch (e) { found = [html("p", "agl-bad", String(e.message || e))]; }
    if (!over && mine === turn) body.replaceChildren(...found);
  }

  tabs.append(...names.map((name) => { const b = html("button", "", name); b.setAttribute("role", "tab"); b.onclick = () => show(name); return b; }));
  tabs.onkeydown = (e) => {
    const to = { ArrowRight: e.target.nextSibling, ArrowLeft: e.target.previousSibling }[e.key];
    if (to) { e.preventDefault(); e.stopPropagation(); to.focus(); to.click(); }
  };
  tabs.hidden = true;
  ask(model, "rollout", { rollout_id }).then((answer) => {
    if (over) return;
    told = answer;
    const r = told.rollout, took = r.end_time ? ` · ${(r.end_time - r.start_time).toFixed(2)} s` : "";
    head.textContent = `${r.rollout_id} · ${r.status} · ${r.reward == null ? "no reward" : `reward ${+r.reward.toFixed(4)}`} · ${told.calls.length} model calls${took}`;
    tabs.hidden = false;
    show("Conversation");
  }).catch((e) => { if (!over) head.textContent = String(e.message || e); });
  return () => { over = true; };
}
