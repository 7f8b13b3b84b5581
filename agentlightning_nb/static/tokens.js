// The tokens of a rollout: given ones plain, sampled ones coloured by what is asked for, what was left out of training under a dotted line.

const TOKENS_STYLE = `
.agl-legend { display: flex; flex-wrap: wrap; gap: 4px 14px; align-items: center; margin: 4px 0; } .agl-legend select { font: inherit; color: var(--fg); background: var(--bg); border: 1px solid var(--line); border-radius: 3px; }
.agl-ramp { display: inline-flex; gap: 6px; align-items: center; color: var(--dim); } .agl-ramp i { display: inline-block; width: 90px; height: 10px; border: 1px solid var(--line); }
.agl-tokens { font: 12px/1.75 var(--mono); overflow-wrap: anywhere; white-space: pre-wrap; max-height: 440px; overflow: auto; border: 1px solid var(--line); padding: 4px 8px; }
.agl-tokens > div { content-visibility: auto; contain-intrinsic-size: auto 900px; } .agl-tokens b { font-weight: 400; border-radius: 2px; } .agl-tokens b.agl-given { color: var(--dim); }
.agl-tokens b.agl-masked { text-decoration: underline dotted var(--dim); text-underline-offset: 3px; } .agl-tokens b:hover, .agl-tokens b:focus { outline: 1px solid var(--accent); }
.agl-call { display: flex; flex-wrap: wrap; gap: 0 10px; align-items: baseline; color: var(--dim); font: 11px/1.5 var(--jp-ui-font-family, system-ui, sans-serif); border-top: 1px solid var(--line); margin-top: 8px; padding-top: 3px; white-space: normal; }
.agl-tokens > div:first-child .agl-call:first-child { border-top: 0; margin-top: 0; } .agl .agl-call button { border: 0; padding: 0; color: var(--accent); } .agl-call .agl-left { color: var(--warn); }
.agl-under { min-height: 19px; font: 12px/1.5 var(--mono); }`;
const ORANGE = "#e0782a", UP = "#2fa37c", DOWN = "#cc4b37", BLUE = "#3b8fd6", VIOLET = "#8e6bc1";
const tint = (colour, share) => `color-mix(in srgb, ${colour} ${Math.round(12 + 60 * Math.max(0, Math.min(1, share)))}%, transparent)`;
const signed = (v, digits = 3) => `${v < 0 ? "−" : "+"}${Math.abs(v).toFixed(digits)}`;
const fade = (colour) => `linear-gradient(to right, ${tint(colour, 0)}, ${tint(colour, 1)})`;
const between = (a, b) => `linear-gradient(to right, ${tint(a, 1)}, transparent, ${tint(b, 1)})`;
// a token is [call, id, text, sampled, logprob, trainer, ratio, clipped]; `call` is what the store says of its call
const COLOURINGS = {
  "logprob": { has: (t) => t[4] !== null, paint: (t) => tint(ORANGE, -t[4] / 4), scale: ["likely", fade(ORANGE), "unlikely"] },
  "advantage": { has: (t, call) => call.advantage !== null, paint: (t, call, most) => (call.masked || !call.advantage ? "" : tint(call.advantage > 0 ? UP : DOWN, Math.abs(call.advantage) / most)), scale: ["less of it", between(DOWN, UP), "more of it"] },
  "importance ratio": { has: (t) => t[6] !== null, paint: (t) => (Math.abs(Math.log(t[6])) < 0.005 ? "" : tint(t[6] > 1 ? BLUE : VIOLET, Math.abs(Math.log(t[6])) / 0.4)), scale: ["0.67", between(VIOLET, BLUE), "1.5"] },
  "clipping": { has: (t) => t[7] !== null, paint: (t) => (t[7] ? tint(DOWN, 1) : ""), scale: ["", fade(DOWN), "clipped: no gradient"] },
};

function token_words(t, call, bounds) { // what stands under the tokens for the one that is pointed at
  const told = [t[3] ? "sampled" : "given", JSON.stringify(t[2] ?? ""), `id ${t[1]}`].filter((s) => s !== '""');
  if (!t[3]) return `${told.join(" · ")} · not trained on: it was given to the model`;
  if (t[4] !== null) told.push(`logprob ${t[4].toFixed(4)} (p ${Math.exp(t[4]).toFixed(4)})`);
  if (t[5] !== null) told.push(`trainer ${t[5].toFixed(4)}`);
  if (t[6] !== null) told.push(`ratio ${t[6].toFixed(4)}`);
  if (t[7] !== null) told.push(t[7] ? "clipped" : `within ${(1 - bounds[0]).toFixed(2)} to ${(1 + bounds[1]).toFixed(2)}`);
  if (call.advantage !== null) told.push(`advantage ${signed(call.advantage)}`);
  return `${told.join(" · ")}${call.masked ? ` · not trained on: ${call.masked}` : ""}`;
}

function token_call(call, open) { // the line above a call's tokens
  const head = html("div", "agl-call"), number = html("button", "", `call ${call.call}`), count = (n) => n.toLocaleString("en-US");
  number.title = "the exact request and reply";
  number.onclick = () => open(call.span_id);
  head.append(number);
  const say = (text, name) => head.append(html("span", name || "", text));
  if (call.model) say(call.model);
  say(`${count(call.prompt)} given, ${count(call.sampled)} sampled`);
  if (call.kept) say(`goes on: the first ${count(call.kept)} stand above`);
  if (call.forks) say(`does not go on from the call before: ${call.forks}`, "agl-left");
  if (call.masked) say(`not trained on: ${call.masked}`, "agl-left");
  else say(`trained in step ${call.step}${call.advantage === null ? "" : `, advantage ${signed(call.advantage)}`}`);
  return head;
}

function draw_tokens(ask_for, open) { // pages of 2,000, the next one when the end comes into view; drawn only where it is seen
  const root = html("div"), key = html("div", "agl-legend"), pick = html("select"), scale = html("span", "agl-ramp"), counts = html("span", "agl-dim");
  const said = html("div", "agl-dim"), box = html("div", "agl-tokens"), under = html("div", "agl-under agl-wrap"), more = html("button", "", "more"), label = html("label", "", "colour by ");
  const calls = {}, chunks = [], known = new Set(), HINT = "Point at a token, or move with the arrow keys.";
  let next = 0, total = null, bounds = null, last = null, loading = false, most = 0;
  label.append(pick);
  key.append(label, scale, html("span", "agl-dim", "dotted: not trained on"), counts);
  under.setAttribute("aria-live", "polite");
  under.textContent = HINT;
  root.append(key, said, box, under, more);
  for (const name of Object.keys(COLOURINGS)) {
    const option = html("option", "", name);
    option.value = name;
    pick.append(option);
  }

  function paint(chunk) {
    const way = COLOURINGS[pick.value];
    chunk.tokens.forEach((t, i) => { chunk.els[i].style.background = t[3] && way.has(t, calls[t[0]]) ? way.paint(t, calls[t[0]], most || 1) : ""; });
  }

  function repaint() {
    const [low, picture, high] = COLOURINGS[pick.value].scale, bar = html("i");
    bar.style.background = picture;
    scale.replaceChildren(html("span", "", low), bar, html("span", "", high));
    for (const chunk of chunks) if (!(chunk.stale = !chunk.near)) paint(chunk);
  }

  const watch = new IntersectionObserver((entries) => { // what is far from view is painted when it comes near
    for (const { target, isIntersecting } of entries) {
      const chunk = chunks.find((c) => c.el === target);
      chunk.near = isIntersecting;
      if (isIntersecting && chunk.stale) { chunk.stale = false; paint(chunk); }
    }
  }, { root: box, rootMargin: "500px" });

  function add(told) {
    const chunk = { tokens: told.tokens, els: [], el: html("div"), near: !chunks.length, stale: true };
    for (const call of told.calls) calls[call.call] = call;
    const before = most;
    most = Math.max(most, ...told.calls.map((c) => Math.abs(c.advantage ?? 0)));
    told.tokens.forEach((t, i) => {
      if (t[0] !== last) chunk.el.append(token_call(calls[(last = t[0])], open));
      const el = html("b", t[3] ? (calls[t[0]].masked ? "agl-masked" : "") : "agl-given", t[2] === null ? `${t[1]} ` : t[2].replaceAll("\n", "↵\n"));
      el.tabIndex = chunks.length || i ? -1 : 0;
      chunk.els.push(el);
      chunk.el.append(el);
    });
    chunks.push(chunk);
    box.append(chunk.el);
    for (const option of pick.options) option.disabled = !known.has(option.value) && !told.tokens.some((t) => t[3] && COLOURINGS[option.value].has(t, calls[t[0]]));
    for (const option of pick.options) if (!option.disabled) known.add(option.value);
    watch.observe(chunk.el);
    if (most !== before && pick.value === "advantage") repaint();
  }

  async function load() {
    if (loading || (total !== null && next >= total)) return;
    loading = more.disabled = true;
    try {
      const told = await ask_for(next);
      ({ total, bounds } = told);
      if (told.tokens.length) add(told);
      next += told.tokens.length || total;
      said.textContent = told.says.join(" ");
      counts.textContent = total ? `${total.toLocaleString("en-US")} tokens, ${told.sampled.toLocaleString("en-US")} of them sampled` : "";
      box.hidden = key.hidden = under.hidden = !total;
      more.hidden = next >= total;
      more.textContent = `more (${next.toLocaleString("en-US")} of ${total.toLocaleString("en-US")} shown)`;
      if (chunks.length === 1) repaint();
    } catch (e) { said.textContent = String(e.message || e); }
    loading = more.disabled = false;
  }

  function tell(e) {
    const chunk = chunks.find((c) => c.el === e.target.parentNode), t = chunk?.tokens[chunk.els.indexOf(e.target)];
    if (t) under.textContent = token_words(t, calls[t[0]], bounds);
  }

  box.addEventListener("pointerover", tell);
  box.addEventListener("focusin", tell);
  box.addEventListener("scroll", () => { if (box.scrollTop + box.clientHeight > box.scrollHeight - 600) load(); });
  box.onkeydown = (e) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[e.key], all = by ? chunks.flatMap((c) => c.els) : [], to = all[all.indexOf(document.activeElement) + by];
    if (to) { e.preventDefault(); to.focus(); }
  };
  pick.onchange = repaint;
  more.onclick = load;
  load();
  return root;
}
