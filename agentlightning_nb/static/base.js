// What every component shares: style, elements made of text, questions, and the way from one view to another.

const STYLE = `
.agl { --fg: var(--jp-ui-font-color1, var(--vscode-foreground, light-dark(#222, #ddd))); --dim: var(--jp-ui-font-color2, var(--vscode-descriptionForeground, light-dark(#667, #99a)));
  --line: var(--jp-border-color2, var(--vscode-panel-border, light-dark(#dde, #334))); --accent: #3b8fd6; --bad: light-dark(#cc4b37, #e8705e); --warn: light-dark(#b98417, #d9a441); --good: #2fa37c;
  --bg: var(--jp-layout-color0, var(--vscode-editor-background, light-dark(#fff, #16181d))); --mono: var(--jp-code-font-family, ui-monospace, monospace);
  color: var(--fg); background: var(--bg); font: 13px/1.4 var(--jp-ui-font-family, system-ui, sans-serif); padding: 8px 4px; }
.agl-page { color-scheme: light dark; }
[data-jp-theme-light="false"] .agl, .vscode-dark .agl { --bad: #e8705e; --warn: #d9a441; }
.agl :where(table) { color: inherit; font: inherit; } .agl .agl { padding: 0; }
.agl button { font: inherit; color: var(--fg); background: transparent; border: 1px solid var(--line); border-radius: 3px; padding: 1px 10px; cursor: pointer; }
.agl button:hover { border-color: var(--accent); } .agl [hidden] { display: none; } .agl-none { color: var(--dim); margin: 6px 0; } .agl-none:empty { display: none; } .agl-bad { color: var(--bad); } .agl-dim { color: var(--dim); }
.agl :is(a, b, button, code, em, i, del, ins, label, mark, option, small, span, summary) { unicode-bidi: isolate; } .agl :focus-visible { outline: 1px solid var(--accent); outline-offset: 1px; }`;

function html(tag, name, text) {
  const el = document.createElement(tag);
  if (name) el.className = name;
  if (text !== undefined) el.textContent = text; // never markup
  return el;
}

function isolated(text) { // a stranger's words inside a sentence of ours: they keep their direction to themselves
  const bare = String(text).replace(/[\u202a-\u202e\u2066-\u2069]/g, "");
  return bare === text && !/[\u0590-\u08ff\ufb1d-\ufefc]/.test(bare) ? bare : `\u2068${bare}\u2069`;
}

function svg(tag, attributes, text) {
  const el = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [k, v] of Object.entries(attributes)) el.setAttribute(k, v);
  if (text !== undefined) el.textContent = text;
  return el;
}

function brief(s) { // a short time as a reader says it
  return s < 0.0995 ? `${Math.round(1000 * s)} ms` : s < 9.995 ? `${s.toFixed(2)} s` : `${Math.round(s).toLocaleString("en-US")} s`;
}

let asked = 0;

function ask(model, question, params) { // a promise of the answer
  const id = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}-${(asked += 1)}`;
  return new Promise((resolve, reject) => {
    function heard(content) {
      if (!content || content.id !== id) return;
      model.off("msg:custom", heard);
      if (content.error !== undefined) reject(new Error(content.error));
      else resolve(content.answer);
    }
    model.on("msg:custom", heard);
    model.send({ ask: question, params: params || {}, id });
  });
}

function source(send) { // a model as a component knows it, outside a kernel; `tell` hands on what `send` was asked for
  const heard = {}, traits = { params: {} };
  return {
    get: (name) => traits[name],
    set: (name, value) => { traits[name] = value; (heard[`change:${name}`] || []).slice().forEach((f) => f()); },
    save_changes() {},
    on: (name, f) => { (heard[name] = heard[name] || []).push(f); },
    off: (name, f) => { heard[name] = (heard[name] || []).filter((g) => g !== f); },
    tell: (id, told) => queueMicrotask(() => (heard["msg:custom"] || []).slice().forEach((f) => f({ id, ...told }))),
    send,
  };
}

function refreshed(model, root, load, every, wants = () => true, known = false) { // load now (unless it is known) and again: when an event says that what `wants` has changed, else by the clock; `load` says false when nothing more will come
  const fixed = Boolean(model.get("readonly")), leave = model.listen?.((events) => { if (events.some((e) => e.kind === "reset" || wants(e))) { due = true; plan(); } }) || (() => {});
  let timer = 0, next = 0, due = !known, busy = false, over = false, begun = known;

  function plan() {
    clearTimeout(timer);
    const rest = model.listening?.() ? 5 * every : every;
    if (!over && !busy && !document.hidden) timer = setTimeout(now, due ? Math.max(0, next - performance.now()) : Math.max(rest, next - performance.now()));
  }

  async function now() {
    const began = performance.now(), seen = !begun || root.checkVisibility?.() !== false; // what nobody looks at is not read again
    [busy, due, begun] = [true, false, true];
    const more = seen ? await load() : true;
    busy = false;
    next = performance.now() + Math.max(300, 20 * (performance.now() - began)); // at most a twentieth of the time
    if (more === false || fixed) stop(); else plan();
  }

  function stop() {
    over = true;
    clearTimeout(timer);
    leave();
    document.removeEventListener("visibilitychange", plan);
  }

  document.addEventListener("visibilitychange", plan);
  if (known) plan(); else now();
  return { stop, now() { if (over) load(); else { [due, next] = [true, 0]; plan(); } } };
}

function keep(el, params) { // whoever embeds this shows it so when the page is loaded again
  el.dispatchEvent(new CustomEvent("agl-keep", { bubbles: true, detail: params }));
}

function go(el, question, params) { // whoever embeds this shows the other view; true when somebody does
  return !el.dispatchEvent(new CustomEvent("agl-go", { bubbles: true, cancelable: true, detail: { question, params } }));
}

function component(question) { // what draws the answer to a question, or null when its file is not here
  const all = {
    run: typeof draw_run === "function" ? draw_run : null,
    rollout: typeof draw_inspector === "function" ? draw_inspector : null,
    rollouts: typeof draw_rollouts === "function" ? draw_rollouts : null,
    group: typeof draw_group === "function" ? draw_group : null,
    groups: typeof draw_groups === "function" ? draw_groups : null,
    diff: typeof draw_diff === "function" ? draw_diff : null,
    versions: typeof draw_versions === "function" ? draw_versions : null,
    compare: typeof draw_compare === "function" ? draw_compare : null,
    matrix: typeof draw_matrix === "function" ? draw_matrix : null,
  };
  return Object.hasOwn(all, question) ? all[question] : null;
}

function widget(model, el, draw) { // a view in a cell; those that it leads to are shown in its place, with a way back
  const main = html("div"), other = html("div"), { kept } = model.get("params") || {}, end = draw(model, main, kept) || (() => {}); // `kept`: how the view itself was left
  const here = () => (model.get("params") || {}).at || null; // {question, params, from}: kept by the model, so a loaded page comes back to it
  let shown = "null", leave = () => {}, focused = null;
  el.append(main, other);

  function turn(at) {
    model.set("params", { ...model.get("params"), at });
    model.save_changes();
    show();
  }

  function show() {
    const at = here(), key = JSON.stringify(at), draws = at && component(at.question);
    if (key === shown) return;
    shown = key;
    leave();
    leave = () => {};
    other.replaceChildren();
    main.hidden = Boolean(draws);
    if (!draws) return focused?.isConnected ? focused.focus() : undefined;
    const top = html("div", "agl agl-back"), back = html("button", "", "back"), place = html("div");
    top.append(html("style", "", STYLE), back);
    back.title = "Escape";
    back.onclick = () => turn(at.from);
    other.append(top, place);
    leave = draws(model, place, at.params) || (() => {});
    back.focus({ preventScroll: true });
  }

  function went(e) {
    if (!component(e.detail.question)) return;
    e.preventDefault();
    e.stopPropagation();
    if (!here()) focused = document.activeElement;
    turn({ ...e.detail, from: here() });
  }

  function keeps(e) {
    e.stopPropagation();
    const params = model.get("params") || {}, at = here();
    if (at) shown = JSON.stringify({ ...at, params: e.detail });
    model.set("params", { ...params, ...(at ? { at: { ...at, params: e.detail } } : { kept: e.detail }) });
    model.save_changes();
  }

  function pressed(e) {
    if (e.key !== "Escape" || e.defaultPrevented || !here()) return;
    e.preventDefault();
    e.stopPropagation();
    turn(here().from);
  }

  el.addEventListener("agl-go", went);
  el.addEventListener("agl-keep", keeps);
  other.addEventListener("keydown", pressed);
  model.on("change:params", show);
  show();
  return () => {
    model.off?.("change:params", show);
    el.removeEventListener("agl-go", went);
    el.removeEventListener("agl-keep", keeps);
    leave();
    end();
  };
}
