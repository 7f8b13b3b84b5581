// What people say of a rollout: a thumb, a score, a note, the answer as it should have been. Kept with the rollout, beside its reward.

const NOTES_STYLE = `
.agl-notes { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 6px 10px; align-items: start; max-width: 760px; margin: 6px 0; } .agl-notes > label { color: var(--dim); padding-top: 2px; }
.agl-notes input, .agl-notes textarea { font: inherit; color: var(--fg); background: var(--bg); border: 1px solid var(--line); border-radius: 3px; padding: 2px 6px; box-sizing: border-box; }
.agl-notes textarea { width: 100%; min-height: 44px; resize: vertical; } .agl-notes input[type=number] { width: 80px; } .agl-row { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; }
.agl .agl-thumb { padding: 1px 5px; line-height: 0; } .agl-thumb svg { width: 15px; height: 15px; fill: none; stroke: currentColor; stroke-width: 1.4; stroke-linejoin: round; }
.agl .agl-thumb[aria-pressed=true] { color: var(--bg); background: var(--good); border-color: var(--good); } .agl .agl-thumb[data-way="-1"][aria-pressed=true] { background: var(--bad); border-color: var(--bad); }
.agl-thumb[data-way="-1"] svg { transform: rotate(180deg); }`;

function thumb_button(way, press) {
  const button = html("button", "agl-thumb"), picture = svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" });
  picture.append(svg("path", { d: "M1.5 7h3v7h-3zM4.5 8l3-6.5c1.4 0 2 .9 1.8 2.2L8.9 6.5h4.3c.9 0 1.5.8 1.3 1.7l-1.1 4.6c-.2.7-.8 1.2-1.5 1.2H4.5z" }));
  button.append(picture);
  button.dataset.way = String(way);
  button.title = way > 0 ? "good" : "bad";
  button.setAttribute("aria-label", way > 0 ? "thumb up" : "thumb down");
  button.onclick = () => press(way);
  return button;
}

function thumb_of(annotations) { // the last thumb that somebody gave, 0 when there is none
  return annotations.reduce((now, a) => a.thumb ?? now, 0);
}

function note_line(a, take_back) {
  const row = html("div", "agl-turn"), what = html("div", "agl-wrap"), said = [];
  if (a.thumb !== null) said.push({ 1: "thumb up", 0: "neither good nor bad", [-1]: "thumb down" }[a.thumb]);
  if (a.score !== null) said.push(`score ${a.score}${a.name ? ` for ${a.name}` : ""}`);
  if (a.note) said.push(a.note);
  what.append(html("div", "", said.join(" · ")));
  if (a.correction !== null) what.append(html("div", "agl-dim", "should have been:"), html("pre", "", a.correction));
  const head = html("div", "agl-dim", [a.author, new Date(1000 * a.time).toLocaleString()].filter(Boolean).join(", "));
  if (take_back) {
    const back = html("button", "", "take back");
    back.onclick = () => take_back(a.annotation_id);
    what.append(back);
  }
  row.append(head, what);
  return row;
}

function draw_notes(told, say, take_back) { // `say` keeps an annotation, null where nothing can be kept
  const found = told.annotations.map((a) => note_line(a, take_back));
  if (!found.length) found.push(html("p", "agl-dim", "Nobody has said anything of this rollout."));
  if (!say) return found;
  const form = html("form", "agl-notes"), score = html("input"), name = html("input"), note = html("textarea"), correction = html("textarea"), keep = html("button", "", "keep"), from = html("button", "", "start from its answer"), wrong = html("span", "agl-bad");
  const answer = told.turns.filter((t) => t.role === "assistant" && t.text).pop()?.text;
  score.type = "number"; score.step = "any"; score.setAttribute("aria-label", "score");
  name.placeholder = "of what (the whole)"; name.setAttribute("aria-label", "what the score is of");
  note.setAttribute("aria-label", "note"); correction.setAttribute("aria-label", "corrected answer");
  note.placeholder = "What should be known of it"; correction.placeholder = "The answer as it should have been; fine-tuning can learn from it";
  from.type = "button"; from.disabled = !answer;
  from.onclick = () => { correction.value = answer; correction.focus(); };
  const field = (label, ...els) => { const row = html("div", "agl-row"); row.append(...els); form.append(html("label", "", label), row); };
  field("score", score, name);
  field("note", note);
  field("corrected answer", correction, from);
  field("", keep, wrong);
  for (const input of [score, name, note, correction]) input.onkeydown = (e) => e.key !== "Escape" && e.stopPropagation(); // no shortcut of the notebook
  form.oninput = () => { wrong.textContent = ""; };
  form.onsubmit = async (e) => {
    e.preventDefault();
    const said = { score: score.value === "" ? null : Number(score.value), name: name.value.trim(), note: note.value.trim() || null, correction: correction.value || null };
    if (said.score === null && !said.note && !said.correction) { wrong.textContent = "Give a score, a note or a corrected answer."; return; }
    keep.disabled = true;
    try { await say(said); } catch (problem) { wrong.textContent = String(problem.message || problem); }
    keep.disabled = false;
  };
  return [...found, form];
}
