// The page of a server: the same components, over answers that come by HTTP. The token is typed once and kept by the tab.

const APP_STYLE = `
.agl-app { max-width: 1120px; margin: 0 auto; padding: 0 4px 40px; } .agl-app > nav { display: flex; flex-wrap: wrap; gap: 2px 18px; align-items: baseline; border-bottom: 1px solid var(--line); padding: 8px 0; margin-bottom: 10px; position: sticky; top: 0; background: var(--bg); z-index: 2; }
.agl-app > nav a { color: var(--fg); text-decoration: none; padding: 2px 0; border-bottom: 2px solid transparent; } .agl-app > nav a:hover { color: var(--accent); } .agl-app > nav a[aria-current] { border-bottom-color: var(--accent); } .agl-app > nav b { font-weight: 600; margin-right: 8px; }
.agl-of-run { color: var(--dim); display: block; margin-bottom: 8px; } .agl-app select { font: inherit; color: var(--fg); background: var(--bg); border: 1px solid var(--line); border-radius: 3px; padding: 2px 6px; max-width: 100%; }
.agl-crumbs { color: var(--dim); margin-bottom: 6px; display: flex; gap: 8px; flex-wrap: wrap; } .agl-crumbs a { color: var(--accent); text-decoration: none; } .agl-crumbs a:hover { text-decoration: underline; } .agl-app main:focus { outline: none; }
.agl-enter { max-width: 460px; margin: 12vh auto 0; } .agl-enter h1 { font-size: 17px; font-weight: 600; margin: 0 0 6px; } .agl-enter form { display: flex; gap: 8px; margin: 12px 0; } .agl-enter input { font: inherit; color: var(--fg); background: transparent; border: 1px solid var(--line); border-radius: 3px; padding: 4px 8px; flex: 1; min-width: 0; }
.agl-runs { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; margin-top: 4px; } .agl-runs th { text-align: left; color: var(--dim); font-weight: 400; font-size: 11px; } .agl-runs td, .agl-runs th { padding: 5px 14px 5px 0; border-bottom: 1px solid color-mix(in srgb, var(--line) 60%, transparent); white-space: nowrap; }
.agl-runs td:nth-child(2) { max-width: 260px; overflow: hidden; text-overflow: ellipsis; } .agl-runs a { color: var(--fg); text-decoration: none; font-weight: 500; } .agl-runs a:hover { color: var(--accent); } .agl-runs small { color: var(--dim); font: 11px var(--mono); margin-left: 8px; } .agl-runs tbody tr:hover { background: color-mix(in srgb, var(--accent) 9%, transparent); }
.agl-runs .agl-bar { width: 90px; display: inline-block; vertical-align: 3px; margin: 0 8px 0 0; } .agl-list-scroll { overflow-x: auto; } .agl-above { display: flex; gap: 10px; align-items: center; min-height: 26px; } .agl-above span { color: var(--dim); flex: 1; }
@media (max-width: 600px) { .agl-runs td:nth-child(n+6), .agl-runs th:nth-child(n+6) { display: none; } .agl-runs small { display: block; margin-left: 15px; } .agl-runs .agl-bar { display: none; } .agl-runs td:nth-child(2) { max-width: 130px; } .agl-runs td, .agl-runs th { padding-right: 8px; } .agl-app > nav { gap: 2px 12px; } .agl-app > nav b { display: none; } }`;
const TOKEN = "agl-token";

function kept_token() { // of this tab; one behind `#token=` is taken out of the address
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  try {
    if (given) sessionStorage.setItem(TOKEN, given);
    if (given) history.replaceState(null, "", location.pathname);
    return given || sessionStorage.getItem(TOKEN) || "";
  } catch { return given || ""; }
}

const DEEDS = { // what is kept, by the routes of the protocol
  annotate: (params) => ({ url: "v1/agl/annotations", method: "POST", body: JSON.stringify(Object.fromEntries(Object.entries(params).filter(([, v]) => v !== null))) }),
  steer: ({ run_id, command }) => ({ url: `v1/agl/runs/${encodeURIComponent(run_id)}/${command}`, method: "POST", body: "{}" }),
  remove_annotation: ({ annotation_id }) => ({ url: `v1/agl/annotations/${encodeURIComponent(annotation_id)}`, method: "DELETE" }),
};

function served(token, events, refused) { // a model whose answers the server gives
  const model = source(async ({ ask, params, id }) => {
    if (!ask) return;
    let told;
    try {
      const headers = token ? { Authorization: `Bearer ${token}` } : {}, deed = Object.hasOwn(DEEDS, ask) && DEEDS[ask](params);
      const got = await (deed ? fetch(deed.url, { ...deed, headers: { ...headers, "Content-Type": "application/json" } }) : fetch(`v1/agl/views/${ask}?params=${encodeURIComponent(JSON.stringify(params || {}))}`, { headers }));
      const body = await got.json().catch(() => null);
      if (got.status === 401) refused();
      told = got.ok ? { answer: body } : { error: body?.detail || `The server answers ${got.status}.` };
    } catch { told = { error: "The server does not answer. Is it running?" }; }
    model.tell(id, told);
  });
  model.listen = (f) => events.listen(f);
  model.listening = () => events.on;
  return model;
}

const PLACES = { runs: "Runs", rollouts: "Rollouts", groups: "Groups", versions: "Versions", matrix: "Tasks", compare: "Compare" };
const TITLES = { ...PLACES, run: "Run", rollout: "Rollout", group: "Group", diff: "Difference" };

function told_apart(text) { // a parameter from the address: JSON where it is, else the text itself
  try { return /^(\[|\{|"|-?\d+$|true$|false$|null$)/.test(text) ? JSON.parse(text) : text; } catch { return text; }
}

function place_of(hash) { // `#/rollouts?run_id=run-1` as a question and its parameters
  const [question, query] = hash.replace(/^#\/?/, "").split("?");
  return { question: question || "runs", params: Object.fromEntries([...new URLSearchParams(query || "")].map(([name, text]) => [name, told_apart(text)])) };
}

function hash_of(question, params) { // the address of a view
  const kept = Object.entries(params || {}).filter(([, v]) => v !== undefined && v !== null);
  const query = new URLSearchParams(kept.map(([name, v]) => [name, typeof v === "string" && told_apart(v) === v ? v : JSON.stringify(v)]));
  return `#/${question}${kept.length ? `?${query}` : ""}`;
}

function runs_row(told, picked, changed) {
  const line = html("tr"), pick = html("input"), name = html("a", "", told.algorithm || "run"), dot = html("span", "agl-state"), rollouts = html("a", "", told.rollouts.toLocaleString("en-US")), bar = html("span", "agl-bar"), fill = html("div");
  pick.type = "checkbox";
  pick.checked = picked.has(told.run_id);
  pick.setAttribute("aria-label", `compare ${told.run_id}`);
  pick.onchange = () => { if (pick.checked) picked.add(told.run_id); else picked.delete(told.run_id); changed(); };
  dot.dataset.is = told.status;
  name.href = hash_of("run", { run_id: told.run_id });
  rollouts.href = hash_of("rollouts", { run_id: told.run_id });
  fill.style.width = `${told.of ? Math.min(100, (100 * told.step) / told.of) : 0}%`;
  bar.append(fill);
  const rewards = ["val", "train", "test"].filter((mode) => typeof told.rewards[mode] === "number").map((mode) => `${mode} ${told.rewards[mode].toFixed(3)}`).join(" · ");
  const cells = [[pick], [dot, name, html("small", "", told.run_id)], [html("span", "", told.status)], [...(told.of ? [bar] : []), told.of ? `${told.step} of ${told.of}` : String(told.step)], [rewards], [rollouts], [lasting(told.elapsed_s)], [new Date(1000 * told.began).toLocaleString()]];
  if (told.reason) line.title = told.reason;
  for (const what of cells) {
    const cell = html("td");
    cell.append(...what);
    line.append(cell);
  }
  return line;
}

function draw_runs(model, el) {
  const root = html("div"), said = html("p", "agl-none", "Reading the runs …"), above = html("div", "agl-above"), hint = html("span"), both = html("button", "", "compare"), scroll = html("div", "agl-list-scroll"), table = html("table", "agl-runs"), picked = new Set();
  let over = false, before = "", fresh = null;
  said.setAttribute("role", "status");
  above.append(hint, both);
  above.hidden = true;
  scroll.append(table);
  root.append(html("style", "", RUN_STYLE + CURVE_STYLE), said, above, scroll);
  el.append(root);
  both.onclick = () => go(root, "compare", { runs: [...picked] });

  function changed() {
    both.disabled = picked.size < 2;
    both.textContent = picked.size > 1 ? `compare ${picked.size} runs` : "compare";
  }

  function draw(runs) {
    const head = html("thead"), names = html("tr"), body = html("tbody"), held = table.contains(document.activeElement) ? [...table.querySelectorAll("a, input")].indexOf(document.activeElement) : -1;
    names.append(...["", "run", "status", "step", "reward", "rollouts", "took", "began"].map((name) => html("th", "", name)));
    head.append(names);
    body.append(...runs.map((told) => runs_row(told, picked, changed)));
    table.replaceChildren(...(runs.length ? [head, body] : []));
    if (held >= 0) table.querySelectorAll("a, input")[held]?.focus(); // what has the focus keeps it
    above.hidden = !runs.length;
    const going = runs.filter((r) => r.status === "running").length;
    hint.textContent = `${runs.length} run${runs.length === 1 ? "" : "s"}${going ? `, ${going} under way` : ""}`;
    changed();
  }

  async function again() {
    try {
      const runs = await ask(model, "runs", {});
      if (over) return;
      said.textContent = runs.length ? "" : "No runs yet. Trainer(backend=this server's address).fit(agent, tasks=...) begins one; it shows up here by itself.";
      const key = JSON.stringify(runs.map((r) => ({ ...r, elapsed_s: r.status === "running" ? Math.round(r.elapsed_s) : 0 })));
      if (key !== before) draw(runs);
      before = key;
    } catch (e) { if (!over) said.textContent = String(e.message || e); }
  }

  fresh = refreshed(model, root, again, 2000, (e) => e.kind === "run" || e.kind === "metric" || e.kind === "rollout");
  return () => { over = true; fresh.stop(); };
}

function draw_choice(question) { // a view that is of one run, before one is chosen: the newest
  return (model, el) => {
    const said = html("p", "agl-none", "Reading the runs …");
    let over = false, leave = () => {};
    el.append(said);
    ask(model, "runs", {}).then((runs) => {
      if (over) return;
      said.textContent = runs.length ? "" : "No runs yet.";
      const run = runs.find((r) => !["Evaluation"].includes(r.algorithm)) || runs[0];
      if (!run) return;
      const field = html("select"), whole = html("label", "agl-of-run", "of "), inner = html("div");
      field.setAttribute("aria-label", "run");
      field.append(...runs.map((r) => { const option = html("option", "", `${isolated(r.algorithm || "run")} ${isolated(r.run_id)}`); option.value = r.run_id; option.selected = r === run; return option; }));
      const show = () => { leave(); inner.replaceChildren(); leave = component(question)(model, inner, { run_id: field.value }) || (() => {}); };
      field.onchange = show;
      whole.append(field);
      el.append(whole, inner);
      show();
    }, (e) => { said.textContent = String(e.message || e); });
    return () => { over = true; leave(); };
  };
}

function crumbs_of(question, params) { // where this stands: its run, and the way back
  const box = html("div", "agl-crumbs"), run_id = params.run_id, link = (text, to, p) => { const a = html("a", "", text); a.href = hash_of(to, p); return a; };
  if (run_id && question !== "run") box.append(link("Runs", "runs"), "›", link(run_id, "run", { run_id }), "›", html("span", "", TITLES[question]));
  else if (["run", "rollout", "group", "diff"].includes(question)) box.append(link("Runs", "runs"), "›", html("span", "", `${TITLES[question]} ${run_id || params.rollout_id || ""}`.trim()));
  return box.childNodes.length ? [box] : [];
}

function draw_app(_, el) {
  const root = html("div", "agl agl-app"), nav = html("nav"), place = html("main"), links = {};
  let token = kept_token(), events = live_source(token), leave = () => {}, asking = false;
  nav.append(html("b", "", "agentlightning_nb"));
  nav.setAttribute("aria-label", "views");
  for (const [question, text] of Object.entries(PLACES)) {
    links[question] = html("a", "", text);
    links[question].href = `#/${question}`;
    nav.append(links[question]);
  }
  place.tabIndex = -1;
  root.append(html("style", "", STYLE + APP_STYLE), nav, place);
  el.append(root);

  function asks() { // for the token
    if (asking) return;
    asking = true;
    leave();
    leave = () => {};
    const box = html("div", "agl-enter"), form = html("form"), field = html("input"), send = html("button", "", "open");
    field.type = "password"; field.autocomplete = "off"; field.setAttribute("aria-label", "token");
    field.placeholder = "the server's token";
    form.append(field, send);
    form.onsubmit = (e) => {
      e.preventDefault();
      token = field.value.trim();
      events.stop();
      events = live_source(token);
      try { sessionStorage.setItem(TOKEN, token); } catch { /* it is asked for again then */ }
      show();
    };
    box.append(html("h1", "", token ? "This is not the server's token" : "This server wants its token"), html("div", "agl-dim", "Whoever started it has it: agentlightning server status, or server.token in the notebook. This tab keeps it until it is closed."), form);
    nav.hidden = true;
    place.replaceChildren(box);
    field.focus();
  }

  function show() {
    const { question, params } = place_of(location.hash), bare = ["groups", "matrix"].includes(question) && !params.run_id;
    const draws = question === "runs" ? draw_runs : bare ? draw_choice(question) : component(question);
    asking = false;
    leave();
    leave = () => {};
    nav.hidden = false;
    place.replaceChildren();
    for (const [name, link] of Object.entries(links)) if (name === question) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
    document.title = `${[TITLES[question], params.run_id || params.rollout_id].filter(Boolean).join(" ")} · agentlightning_nb`;
    if (!draws) { place.append(html("p", "agl-none", "There is nothing here. The views stand above.")); return; }
    const inner = html("div"), model = served(token, events, asks);
    place.append(...crumbs_of(question, params), inner);
    leave = draws(model, inner, params) || (() => {});
  }

  function moved() {
    show();
    if (!asking) place.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }

  function went(e) {
    if (!component(e.detail.question)) return;
    e.preventDefault();
    location.hash = hash_of(e.detail.question, e.detail.params);
  }

  function keeps(e) { // the address says how the view was left, so a loaded page comes back to it
    history.replaceState(null, "", hash_of(place_of(location.hash).question, e.detail));
  }

  function pressed(e) {
    if (e.key !== "Escape" || e.defaultPrevented || /^(INPUT|SELECT|TEXTAREA)$/.test(e.target.tagName) || place_of(location.hash).question === "runs") return;
    e.preventDefault();
    history.back();
  }

  root.addEventListener("agl-go", went);
  root.addEventListener("agl-keep", keeps);
  window.addEventListener("hashchange", moved);
  document.addEventListener("keydown", pressed);
  show();
  return () => { window.removeEventListener("hashchange", moved); document.removeEventListener("keydown", pressed); events.stop(); leave(); };
}
