// A run in a file: the same components, over answers that are part of the page. What was left out is said in words.

function embedded(told) { // a model as a component knows it, whose answers stand in the page
  const listed = (p) => {
    const words = (p.text || "").toLowerCase().split(/\s+/).filter(Boolean), said = (r) => JSON.stringify(told.answers[`rollout ${JSON.stringify({ rollout_id: r.rollout_id })}`] || r).toLowerCase();
    const fits = told.rollouts.filter((r) => words.every((w) => said(r).includes(w)) && (!p.status || r.status === p.status) && (!p.mode || r.mode === p.mode) && (p.step === undefined || r.step === p.step) && r.rollout_id.includes(p.id_contains || ""));
    const by = { oldest: (a, b) => a.nr - b.nr, best: (a, b) => (b.reward ?? -1e9) - (a.reward ?? -1e9), worst: (a, b) => (a.reward ?? -1e9) - (b.reward ?? -1e9) }[p.sort] || ((a, b) => b.nr - a.nr);
    const from = Number(p.after || p.start || 0), to = from + (p.limit || 50);
    return { rollouts: fits.sort(by).slice(from, to), start: from, next: to < fits.length ? String(to) : null, total: fits.length, says: [] };
  };
  const model = source(({ ask, params, id }) => {
    const key = `${ask} ${JSON.stringify(Object.fromEntries(Object.entries(params || {}).sort()))}`;
    if (ask === "rollouts") model.tell(id, { answer: listed(params) });
    else if (Object.hasOwn(told.answers, key)) model.tell(id, { answer: told.answers[key] });
    else model.tell(id, { error: `This is not part of the file. ${told.says} The store has it.` });
  });
  model.set("readonly", true); // nothing can be kept in it
  return model;
}

function draw_exported(model, el) {
  const told = JSON.parse(document.getElementById("agl-told").textContent), above = html("div"), below = html("div"), source = embedded(told);
  widget(source, el, (inner, place) => {
    place.append(above, html("p", "agl agl-dim", told.says), below);
    const ends = [draw_run(inner, above, { run_id: told.run_id }), draw_rollouts(inner, below, {})];
    return () => ends.forEach((end) => end && end());
  });
}
