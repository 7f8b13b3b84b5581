// What a server tells of itself while it works: its events, for as long as the page is looked at, handed on in batches. Read by `fetch`, since an EventSource cannot say the token.

const KINDS_HEARD = ["rollout", "attempt", "run", "metric", "resources"], BATCH_MS = 200;

function live_source(token) { // {listen, on, stop}: `listen(f)` calls f with a batch of events; while `on` is false nothing is told, and whoever shows something asks again by the clock
  const listeners = new Set(), seen = new Map();
  let last = "", reader = null, timer = 0, over = false, following = false;
  const self = { on: false, listen(f) { listeners.add(f); return () => listeners.delete(f); }, stop() { over = true; hang_up(); clearTimeout(timer); document.removeEventListener("visibilitychange", turned); } };

  function tell() {
    timer = 0;
    const batch = [...seen.values()];
    seen.clear();
    for (const f of [...listeners]) f(batch);
  }

  function take(part) { // one event; of several about the same thing the last one is told
    const fields = Object.fromEntries(part.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trimStart()]));
    if (fields.id) last = fields.id;
    if (fields.data === undefined) return;
    const kind = fields.event, data = JSON.parse(fields.data);
    seen.set(`${kind} ${data.rollout_id || data.run_id || data.resources_id || ""} ${data.name || ""}`, { kind, data });
    if (!timer) timer = setTimeout(tell, BATCH_MS);
  }

  async function listen_once() { // false when there is nothing to be heard here
    reader = new AbortController();
    const headers = { ...(token ? { Authorization: `Bearer ${token}` } : {}), ...(last ? { "Last-Event-ID": last } : {}) };
    const got = await fetch(`v1/agl/events?${KINDS_HEARD.map((kind) => `kind=${kind}`).join("&")}`, { headers, signal: reader.signal });
    if (!got.ok) return false;
    self.on = true;
    let rest = "";
    const text = got.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let part = await text.read(); !part.done; part = await text.read()) {
      const parts = (rest + part.value).split("\n\n");
      rest = parts.pop();
      parts.forEach(take);
    }
    return true;
  }

  async function follow() {
    if (following) return;
    following = true;
    for (let pause = 500; !over && !document.hidden; pause = Math.min(2 * pause, 15000)) {
      try {
        if (!(await listen_once())) over = true;
        else pause = 500;
      } catch { /* the server is away, or the page is hidden; it is tried again */ }
      self.on = false;
      if (!over && !document.hidden) await new Promise((go_on) => { setTimeout(go_on, pause); });
    }
    following = false;
  }

  function hang_up() { reader?.abort(); }
  function turned() { if (document.hidden) hang_up(); else follow(); } // a browser keeps only six connections to a server, for all its tabs
  document.addEventListener("visibilitychange", turned);
  follow();
  return self;
}
