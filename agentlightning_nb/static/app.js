// The page of a server: the same components, over answers that come by HTTP. The token is typed once and kept by the tab.

const APP_STYLE = `
.agl-app { max-width: 1100px; margin: 0 auto; } .agl-app nav { display: flex; gap: 12px; align-items: baseline; border-bottom: 1px solid var(--line); padding-bottom: 6px; }
.agl-app nav a { color: var(--fg); text-decoration: none; } .agl-app nav a[aria-current] { color: var(--accent); } .agl-app form { display: flex; gap: 8px; margin: 16px 0; }
.agl-app input { font: inherit; color: var(--fg); background: transparent; border: 1px solid var(--line); border-radius: 3px; padding: 2px 6px; flex: 1; max-width: 420px; }
.agl-runs { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; margin-top: 8px; } .agl-runs th { text-align: left; color: var(--dim); font-weight: normal; }
.agl-runs td, .agl-runs th { padding: 3px 10px 3px 0; border-bottom: 1px solid var(--line); } .agl-runs a { color: var(--accent); }`;
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
  remove_annotation: ({ annotation_id }) => ({ url: `v1/agl/annotations/${encodeURIComponent(annotation_id)}`, method: "DELETE" }),
};

function served(token, refused) { // a model whose answers the server gives
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
  return model;
}

function place_of(hash) { // `#/rollouts?run_id=run-1` as a question and its parameters
  const [question, query] = hash.replace(/^#\/?/, "").split("?");
  return { question: question || "runs", params: Object.fromEntries(new URLSearchParams(query || "")) };
}

function draw_runs(model, el) {
  const root = html("div"), said = html("p", "agl-none", "Reading the runs …"), table = html("table", "agl-runs");
  let timer = 0, over = false, before = "";
  root.append(said, table);
  el.append(root);

  function row(told) {
    const line = html("tr"), name = html("a", "", told.run_id), rollouts = html("a", "", String(told.rollouts));
    name.href = `#/run?run_id=${encodeURIComponent(told.run_id)}`;
    rollouts.href = `#/rollouts?run_id=${encodeURIComponent(told.run_id)}`;
    const rewards = Object.entries(told.rewards).filter(([, r]) => typeof r === "number").map(([mode, r]) => `${mode} ${r.toFixed(3)}`).join(", ");
    const texts = [told.algorithm, told.status, told.of ? `${told.step} of ${told.of}` : String(told.step), rewards, new Date(1000 * told.began).toLocaleString()];
    for (const cell of [name, ...texts.slice(0, 3), rollouts, ...texts.slice(3)]) {
      const at = html("td");
      at.append(cell);
      line.append(at);
    }
    return line;
  }

  async function again() {
    try {
      const runs = await ask(model, "runs", {});
      if (over) return;
      said.textContent = runs.length ? "" : "No runs yet. Trainer(...).fit(agent, tasks) with this server's store begins one.";
      const key = JSON.stringify(runs.map((r) => ({ ...r, elapsed_s: 0 })));
      if (key !== before) { // what has the focus is not taken away for nothing
        const head = html("tr");
        head.append(...["run", "algorithm", "status", "step", "rollouts", "reward", "began"].map((name) => html("th", "", name)));
        table.replaceChildren(...(runs.length ? [head, ...runs.map(row)] : []));
      }
      before = key;
    } catch (e) { if (!over) said.textContent = String(e.message || e); }
    if (!over) timer = setTimeout(again, 2000);
  }

  again();
  return () => { over = true; clearTimeout(timer); };
}

function draw_app(_, el) {
  const root = html("div", "agl agl-app"), nav = html("nav"), place = html("div"), links = {};
  let token = kept_token(), leave = () => {};
  for (const [question, text] of [["runs", "Runs"], ["rollouts", "Rollouts"]]) {
    links[question] = html("a", "", text);
    links[question].href = `#/${question}`;
    nav.append(links[question]);
  }
  root.append(html("style", "", STYLE + APP_STYLE), nav, place);
  el.append(root);

  function asks() { // for the token
    leave();
    leave = () => {};
    const form = html("form"), field = html("input"), send = html("button", "", "open");
    field.type = "password"; field.autocomplete = "off"; field.setAttribute("aria-label", "token");
    field.placeholder = "the server's token";
    form.append(field, send);
    form.onsubmit = (e) => {
      e.preventDefault();
      token = field.value.trim();
      try { sessionStorage.setItem(TOKEN, token); } catch { /* it is asked for again then */ }
      show();
    };
    const why = token ? "This is not the server's token. " : "";
    place.replaceChildren(html("p", "", `${why}This server wants its token. Whoever started it has it: agentlightning server status, or server.token in the notebook.`), form);
    field.focus();
  }

  function show() {
    const { question, params } = place_of(location.hash), draws = { runs: draw_runs }[question] || component(question);
    leave();
    place.replaceChildren();
    for (const [name, link] of Object.entries(links)) link.toggleAttribute("aria-current", name === question);
    if (!draws) { place.append(html("p", "agl-none", "There is nothing here.")); leave = () => {}; return; }
    const inner = html("div"), model = served(token, asks);
    place.append(inner);
    leave = draws(model, inner, params) || (() => {});
  }

  function went(e) {
    if (!component(e.detail.question)) return;
    e.preventDefault();
    location.hash = `/${e.detail.question}?${new URLSearchParams(e.detail.params)}`;
  }

  root.addEventListener("agl-go", went);
  window.addEventListener("hashchange", show);
  show();
  return () => { window.removeEventListener("hashchange", show); leave(); };
}
