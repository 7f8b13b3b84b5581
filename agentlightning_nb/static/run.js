// A run while it learns: state and time left, health in words, curves, figures, and the last rollouts.
// In the kernel of a run the model's `head`, `series` and `metrics` are kept up to date; elsewhere the question `run` is asked again while the run goes on.

const RUN_STYLE = `
.agl-run { container-type: inline-size; }
.agl-run .agl-id { color: var(--dim); font-weight: 400; font-family: var(--jp-code-font-family, ui-monospace, monospace); font-size: 12px; margin-left: 6px; }
.agl-state { display: inline-block; width: 8px; height: 8px; border-radius: 50%; margin-right: 7px; background: var(--dim); vertical-align: 1px; }
.agl-state[data-is=running] { background: var(--accent); } .agl-state[data-is=paused] { background: var(--warn); }
.agl-state[data-is=succeeded] { background: var(--good); } .agl-state[data-is=failed] { background: var(--bad); }
.agl-health { list-style: none; margin: 6px 0 8px; padding: 0; }
.agl-health li { display: grid; grid-template-columns: 62px 1fr; gap: 0 10px; padding: 2px 0 2px 9px; border-left: 3px solid var(--c, var(--line)); margin: 3px 0; }
.agl-health li[data-level=serious] { --c: var(--bad); } .agl-health li[data-level=warning] { --c: var(--warn); } .agl-health li[data-level=good] { --c: var(--good); }
.agl-level { color: var(--dim); } .agl-tries { grid-column: 2; color: var(--dim); } .agl-health button { margin-left: 8px; padding: 0 6px; }
.agl-tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(118px, 1fr)); border-top: 1px solid var(--line); margin-top: 4px; }
.agl .agl-tile { border: 0; border-bottom: 2px solid transparent; border-radius: 0; background: none; padding: 3px 8px 2px; text-align: left; font-size: 11px; color: var(--dim); }
.agl .agl-tile[aria-pressed=true] { border-bottom-color: var(--accent); color: var(--fg); } .agl .agl-tile:hover { color: var(--fg); }
.agl-tile span { display: block; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; } .agl-tile b { font-weight: 500; color: var(--fg); font-variant-numeric: tabular-nums; }
.agl-tile svg { display: block; width: 100%; max-width: 120px; height: 18px; overflow: visible; }
.agl-tiles:empty { display: none; }
.agl-ways { display: flex; flex-wrap: wrap; gap: 2px 14px; margin: 0 0 4px; } .agl .agl-ways button { border: 0; padding: 0; color: var(--accent); } .agl .agl-ways button:hover { text-decoration: underline; }
.agl-figures { display: flex; flex-wrap: wrap; margin: 8px 0 4px; padding: 6px 0 0; border-top: 1px solid var(--line); }
.agl-figure { padding: 0 22px 4px 0; } .agl-name { color: var(--dim); font-size: 11px; } .agl-value { font-variant-numeric: tabular-nums; white-space: nowrap; }
.agl-last { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; table-layout: fixed; border-top: 1px solid var(--line); }
.agl-last th { font-weight: 400; font-size: 11px; color: var(--dim); text-align: left; padding: 0 10px 1px 0; } .agl-last td { padding: 1px 10px 1px 0; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.agl-last caption { text-align: left; padding: 5px 0 1px; } .agl-last th:nth-child(1) { width: 72px; } .agl-last th:nth-child(3) { width: 64px; } .agl-last th:nth-child(4) { width: 84px; } .agl-last th:nth-child(5) { width: 64px; }
.agl-last .agl-num { text-align: right; } .agl-last tbody tr { cursor: pointer; } .agl-last tbody tr:hover, .agl-last tbody tr:focus { background: color-mix(in srgb, var(--accent) 12%, transparent); outline: none; }
.agl-last tr[data-is=failed] td { color: var(--bad); }
@container (max-width: 520px) { .agl-health li { grid-template-columns: 1fr; } .agl-tries { grid-column: 1; } .agl-last th:nth-child(1) { width: 62px; } .agl-tiles { grid-template-columns: repeat(auto-fill, minmax(96px, 1fr)); }
  .agl-last th:nth-child(4), .agl-last td:nth-child(4) { display: none; } .agl-figure { padding-right: 14px; } }`;

const METRICS_FIRST = ["loss", "entropy", "kl", "grad_norm", "clip_fraction", "logprob_gap", "same_reward_groups", "truncated", "response_tokens", "calls", "tokens"];
const METRICS_OUT = ["reward", "failed"]; // the curve shows them

function lasting(s) { // seconds as a reader says them
  s = Math.round(s);
  const two = (n) => String(n).padStart(2, "0");
  return s < 60 ? `${s} s` : s < 3600 ? `${Math.floor(s / 60)} min ${two(s % 60)} s` : `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

function state_text(p) {
  const said = [p.status, `step ${p.step}${p.of ? ` of ${p.of}` : ""}`];
  if (p.ended) said.push(`took ${lasting(p.elapsed_s)}`);
  else said.push(lasting(p.elapsed_s), ...(p.left_s === null || p.status !== "running" ? [] : [`${lasting(p.left_s)} left`]));
  return [...said, ...(p.reason ? [p.reason.split("\n")[0].slice(0, 200)] : [])].join(" · ");
}

function small_figures(told) { // names and what they are, with units
  const t = told.throughput, w = told.work, going = !told.progress.ended, whole = (n) => n.toLocaleString("en-US");
  const found = [["rollouts", whole(t.rollouts) + (t.failed ? `, ${whole(t.failed)} failed` : "")]];
  if (t.rollouts_per_s !== null) found.push(["speed", `${t.rollouts_per_s < 10 ? t.rollouts_per_s.toFixed(1) : Math.round(t.rollouts_per_s)} rollouts/s`]);
  if (going) found.push(["queue", `${whole(w.queued)} waiting`], ["workers", `${whole(w.busy)} busy of ${whole(w.workers)}`]);
  if (t.calls) {
    found.push(["model calls", whole(t.calls)], ["tokens", `${whole(t.prompt_tokens)} in · ${whole(t.response_tokens)} out`]);
    if (t.tokens_per_s !== null) found.push(["token speed", `${whole(Math.round(t.tokens_per_s))} tokens/s`]);
  }
  if (told.version) found.unshift(["version", String(told.version.version), `${told.version.resources_id}${told.version.note ? `: ${told.version.note}` : ""}, used by the newest rollout`]);
  if (t.cost !== null) found.push(["cost", `$${t.cost < 1 ? t.cost.toFixed(4) : t.cost.toFixed(2)}`]);
  return found;
}

function run_series(told) { // what can be drawn: name, label, points, how
  const found = [{ name: "reward", label: "reward", points: told.curve, how: {} }];
  for (const [name, points] of Object.entries(told.parts)) found.push({ name: `part ${name}`, label: name, points, how: { empty: `No rollout has a reward part ${name} yet.` } });
  const rank = (name) => (METRICS_FIRST.indexOf(name) + 1 || 99);
  const names = Object.keys(told.metrics).filter((name) => !METRICS_OUT.includes(name)).sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
  for (const name of names) {
    const points = told.metrics[name].map(([step, value]) => [step, name, value, 0, 1, 0]);
    const label = name.replaceAll("_", " ");
    found.push({ name: `metric ${name}`, label, points, how: { unit: false, words: (p) => `${label} ${figure(p[2])}` } });
  }
  return found;
}

function sparkline(points) {
  const root = svg("svg", { viewBox: "0 0 96 18", preserveAspectRatio: "none", "aria-hidden": "true" });
  const main = points.filter((p) => p[1] === points[0][1] && p[2] !== null);
  if (main.length < 2) return root;
  const values = main.map((p) => p[2]), lo = Math.min(...values), hi = Math.max(...values), first = main[0][0], last = main[main.length - 1][0];
  const at = (p) => `${(((p[0] - first) / (last - first)) * 96).toFixed(1)},${(16 - ((p[2] - lo) / (hi - lo || 1)) * 14).toFixed(1)}`;
  root.append(svg("polyline", { points: main.map(at).join(" "), fill: "none", stroke: SERIES[points[0][1]] || "currentColor", "stroke-width": 1.2, "vector-effect": "non-scaling-stroke" }));
  return root;
}

function tile(series, pressed, choose) {
  const value = [...series.points].reverse().find((p) => p[1] === series.points[0][1]);
  const button = html("button", "agl-tile"), name = html("span", "", series.label);
  button.setAttribute("aria-pressed", String(pressed));
  button.title = series.label;
  button.append(name, html("b", "", value ? figure(value[2]) : "–"), series.points.length ? sparkline(series.points) : "");
  button.onclick = choose;
  return button;
}

function health_item(finding, open) {
  const item = html("li"), says = html("span", "agl-says", finding.says.replace(/(\d) (%|s|min)(?=\W)/g, "$1\u00a0$2"));
  item.dataset.level = finding.level;
  item.append(html("span", "agl-level", finding.level), says);
  if (finding.rollout_id) {
    const button = html("button", "", "open one");
    button.onclick = () => open(finding.rollout_id);
    says.append(button);
  }
  if (finding.tries) item.append(html("span", "agl-tries", finding.tries));
  return item;
}

function last_row(r, open) {
  const row = html("tr"), when = [r.mode || "train", r.step === null ? "" : r.step].join(" ").trim();
  const reward = r.reward === null ? "–" : String(+r.reward.toFixed(3)), seconds = r.seconds === null ? "–" : brief(r.seconds);
  row.append(html("td", "", when), html("td", "", r.error ? `${r.asked} — ${r.error}` : r.asked), html("td", "agl-num", reward), html("td", "", r.status), html("td", "agl-num", seconds));
  row.dataset.is = r.status;
  row.dataset.id = r.rollout_id;
  row.title = r.error || r.asked;
  row.tabIndex = -1;
  row.setAttribute("aria-label", `rollout ${r.rollout_id}: ${r.asked}, reward ${reward}, ${r.status}; Enter opens it`);
  row.onclick = () => open(r.rollout_id);
  return row;
}

function last_table(rows, open) { // arrow keys move, Enter opens
  const table = html("table", "agl-last"), head = html("thead"), body = html("tbody"), names = html("tr");
  table.append(html("caption", "", "Last rollouts"));
  for (const [i, name] of ["step", "asked", "reward", "status", "took"].entries()) names.append(html("th", i === 2 || i === 4 ? "agl-num" : "", name));
  head.append(names);
  body.append(...rows.map((r) => last_row(r, open)));
  if (body.firstChild) body.firstChild.tabIndex = 0;
  body.onkeydown = (e) => {
    const row = e.target.closest("tr"), to = { ArrowDown: row.nextSibling, ArrowUp: row.previousSibling }[e.key];
    if (e.key === "Enter") open(row.dataset.id);
    else if (to) to.focus();
    if (e.key === "Enter" || e.key.startsWith("Arrow")) { e.preventDefault(); e.stopPropagation(); }
  };
  table.append(head, body);
  return table;
}

const WAYS = { groups: ["groups", "what was tried, task by task"], versions: ["versions", "the lineage, and what changed"], matrix: ["tasks", "the tasks by versions, and which moved most"], rollouts: ["rollouts", "all of this run"], compare: ["compare", "with other runs"] };

function run_ways(run_id, lead) { // to the other views of the run, as far as there are any here
  const found = Object.entries(WAYS).filter(([question]) => component(question)).map(([question, [text, title]]) => {
    const button = html("button", "", text);
    button.title = title;
    button.onclick = () => lead(question, question === "compare" ? { runs: [run_id] } : { run_id });
    return button;
  });
  const box = html("nav", "agl-ways");
  box.append(...found);
  return found.length > 1 ? box : html("span");
}

function run_body(act, open, lead, shows, choose) { // the parts of the panel, and one function that draws what is told
  const root = html("div", "agl-run"), head = html("div", "agl-head"), bar = html("div", "agl-bar"), fill = html("div");
  const health = html("ul", "agl-health"), tiles = html("div", "agl-tiles"), figures = html("div", "agl-figures"), last = html("div");
  const ways = html("div"), said = html("div", "agl-none"), title = html("span", "agl-title"), state = html("span", "agl-text"), keys = html("span"), buttons = html("span"), plot = chart("reward", 220);
  const seen = {};
  let chosen = shows || "reward", told = null, focused = null;
  health.setAttribute("aria-label", "health");
  tiles.setAttribute("role", "toolbar");
  tiles.setAttribute("aria-label", "what the chart shows");
  keys.style.cssText = "display: inline-flex; gap: 12px"; buttons.style.cssText = "display: inline-flex; gap: 6px";
  bar.append(fill);
  head.append(title, state, keys, buttons);
  root.append(head, bar, ways, health, plot.root, tiles, figures, last, said);
  said.setAttribute("role", "status");
  const changed = (name, value) => { const text = JSON.stringify(value), was = seen[name]; seen[name] = text; return text !== was; };

  function drawHead() {
    const p = told.progress, dot = html("span", "agl-state"), id = html("span", "agl-id", told.run_id);
    dot.dataset.is = p.status;
    title.replaceChildren(dot, html("span", "", told.algorithm || "run"), id);
    state.textContent = state_text(p);
    bar.hidden = p.share === null;
    fill.style.width = `${(100 * (p.share || 0)).toFixed(1)}%`;
    const names = told.commands || [];
    if (changed("ways", told.run_id)) ways.replaceChildren(run_ways(told.run_id, lead));
    const elsewhere = told.steered === false && p.ended === null;
    if (changed("buttons", [names, elsewhere])) buttons.replaceChildren(...(elsewhere ? [html("span", "agl-dim", "steered where it was started")] : names.map((name) => { const b = html("button", "", name); b.onclick = () => act(name); return b; })));
  }

  function drawSeries() {
    const all = run_series(told), now = all.find((s) => s.name === chosen) || all[0];
    plot.show(now.points, now.how);
    keys.replaceChildren(...keys_of(now.points));
    focused = tiles.contains(document.activeElement) ? [...tiles.children].indexOf(document.activeElement) : null;
    tiles.replaceChildren(...(all.length > 1 ? all.map((s) => tile(s, s === now, () => { chosen = s.name; drawSeries(); choose(s.name); })) : []));
    if (focused !== null) tiles.children[focused]?.focus();
  }

  function drawRows() {
    const rows = told.last, at = last.querySelector("tr:focus")?.dataset.id;
    last.replaceChildren(rows.length ? last_table(rows, open) : html("p", "agl-none", "No rollout has ended yet; the first ones will stand here."));
    if (at) (last.querySelector(`tr[data-id="${CSS.escape(at)}"]`) || last.querySelector("tbody tr"))?.focus();
  }

  return {
    root, stop: plot.stop,
    say(text) { said.textContent = text; },
    draw(next) {
      told = next;
      drawHead();
      if (changed("health", told.health)) health.replaceChildren(...told.health.map((f) => health_item(f, open)));
      if (changed("series", [told.curve, told.parts, told.metrics])) drawSeries();
      if (changed("figures", [told.throughput, told.work, told.version])) figures.replaceChildren(...small_figures(told).map(([name, text, title]) => {
        const pair = html("div", "agl-figure");
        if (title) pair.title = title;
        pair.append(html("div", "agl-name", name), html("div", "agl-value", text));
        return pair;
      }));
      if (changed("last", told.last)) drawRows();
    },
  };
}

function draw_run(model, el, params) { // in a kernel `head`, `series` and `metrics` are kept up to date; else `run` is asked for
  const root = html("div", "agl"), run_id = params?.run_id ?? model.get("head")?.run_id, live = model.get("head") !== undefined && model.get("head").run_id === run_id;
  let pending = 0, over = false, fresh = null;
  const body = run_body(tell, (rollout_id) => {
    if (!go(root, "rollout", { rollout_id })) body.say(`Nothing here shows rollouts. In a cell: store.get_rollout_by_id("${rollout_id}")`);
  }, (question, params) => go(root, question, params), params?.shows, (shows) => keep(root, { ...params, run_id, shows }));
  const failed = html("p", "agl-none", "Reading the run …");
  root.append(html("style", "", STYLE + CURVE_STYLE + RUN_STYLE), failed);
  el.append(root);

  function tell(command) { // to the run: in its kernel at once, at a server by its route
    if (live) model.send({ command });
    else ask(model, "steer", { run_id, command }).then(() => fresh.now(), (e) => body.say(String(e.message || e)));
  }

  function show(told) {
    if (failed.parentNode) failed.replaceWith(body.root);
    body.draw(told);
  }

  function draw() { pending = 0; show({ ...model.get("head"), ...model.get("series"), metrics: model.get("metrics") }); }
  function later() { if (!pending) pending = requestAnimationFrame(draw); } // many changes, one drawing

  async function again() {
    try {
      const told = await ask(model, "run", { run_id });
      if (!over) show(told);
      return !over && told.progress.ended === null;
    } catch (e) {
      if (over) return false;
      if (!failed.parentNode) body.root.replaceWith(failed);
      failed.textContent = String(e.message || e);
    }
  }

  if (live) {
    for (const name of ["head", "series", "metrics"]) model.on(`change:${name}`, later);
    draw();
    if (!model.get("head").followed && model.get("head").progress.ended === null) fresh = refreshed(model, root, again, 1000, undefined, true); // a run of another process
  } else fresh = refreshed(model, root, again, 1000, ({ data }) => data.run_id === run_id);
  return () => {
    over = true;
    fresh?.stop();
    cancelAnimationFrame(pending);
    body.stop();
    if (live) for (const name of ["head", "series", "metrics"]) model.off?.(`change:${name}`, later);
  };
}
