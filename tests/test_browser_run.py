"The run panel's component in a blank page with a model made up for it: what it draws, what it sends, how the keyboard moves in it."

import base64
import importlib.util
import json
from pathlib import Path

import pytest

from agentlightning_nb.page import esm

SHOTS = Path(__file__).parents[1] / "artefacts"
pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

if importlib.util.find_spec("playwright") is None:
    pytest.skip("playwright is not installed", allow_module_level=True)

import lab  # noqa: E402

if lab.chromium() is None:
    pytest.skip("there is no chromium", allow_module_level=True)

HOSTILE = "</script><img src=x onerror=alert(1)>"
INSPECTOR = """
function draw_inspector(model, el, params) {
  el.append(html("p", "inspected", `rollout ${params.rollout_id}`));
  return () => { window.left = (window.left || 0) + 1; };
}
"""
PAGE = """<!doctype html><html><body class="agl-page" style="margin: 16px"><div id="a"></div><script type="module">
const { default: component } = await import("data:text/javascript;base64,SCRIPT");
const data = DATA, listeners = {};
window.sent = [];
const tell = (name, ...args) => [...(listeners[name] || [])].forEach((f) => f(...args));
window.model = {
  get: (name) => data[name],
  set(name, value) { data[name] = value; tell(`change:${name}`); },
  save_changes() {},
  on(name, f) { (listeners[name] ||= []).push(f); },
  off(name, f) { listeners[name] = (listeners[name] || []).filter((g) => g !== f); },
  send(content) {
    window.sent.push(content);
    if (content.ask) setTimeout(() => tell("msg:custom", content.ask in data.answers ? { id: content.id, answer: data.answers[content.ask] } : { id: content.id, error: `No question ${content.ask}.` }));
  },
};
window.listening = () => Object.values(listeners).flat().length;
window.end = component.render({ model, el: document.getElementById("a") });
</script></body></html>"""


@pytest.fixture(scope="module")
def browser():
    SHOTS.mkdir(exist_ok=True)
    with lab.browser() as opened:
        yield opened


def told(status="running", steps=30, **changed):
    "What `views.runs.run_told` gives, made up."
    means = [0.15 + 0.7 * (1 - 0.93**i) + 0.03 * ((7 * i) % 5 - 2) for i in range(steps)]
    train = [[i, "train", m, 0.45 * 0.98**i, 128, int(i == 3)] for i, m in enumerate(means)]
    val = [[i, "val", 0.1 + 0.8 * (1 - 0.93**i), 0.3, 100, 0] for i in range(0, steps + 1, 10)]
    ended = None if status in ("running", "paused") else 1000.0
    return {
        "run_id": "run-1",
        "algorithm": "GRPO",
        "progress": {
            "status": status,
            "reason": "",
            "step": steps,
            "of": 60,
            "share": steps / 60,
            "elapsed_s": 74.0,
            "left_s": None if ended else 68.0,
            "began": 926.0,
            "ended": ended,
        },
        "throughput": {
            "rollouts": 3840,
            "failed": 1,
            "calls": 5377,
            "prompt_tokens": 1_148_862,
            "response_tokens": 347_449,
            "rollouts_per_s": 52.3,
            "tokens_per_s": 20_220.0,
            "cost": 0.0213,
        },
        "work": {"queued": 96, "waiting_s": 1.0, "running": 8, "workers": 8, "busy": 7},
        "version": {"resources_id": "rs-9", "version": 31, "note": HOSTILE},
        "health": [
            {
                "name": "failures",
                "level": "warning",
                "says": f"9 of the last 128 rollouts failed (7.0 %), 8 of them with KeyError: {HOSTILE}.",
                "tries": "Open one and read its traceback.",
                "rollout_id": "ro-9",
            },
            {
                "name": "t",
                "level": "note",
                "says": "12 % were cut off.",
                "tries": "Raise max_tokens.",
                "rollout_id": "",
            },
        ],
        "last": [
            {
                "rollout_id": f"ro-{i}",
                "asked": HOSTILE if i == 1 else f"How much is {281 + i} + 64?",
                "mode": "train",
                "step": steps - 1,
                "status": "failed" if i == 1 else "succeeded",
                "reward": None if i == 1 else 1.0,
                "seconds": 0.52,
                "error": f"KeyError: {HOSTILE}" if i == 1 else None,
            }
            for i in range(8)
        ],
        "followed": True,
        "commands": [] if ended else ["resume" if status == "paused" else "pause", "stop"],
        "curve": sorted(train + val),
        "parts": {"style": [[*row[:2], row[2] / 2, *row[3:]] for row in train], HOSTILE: train},
        "metrics": {
            "loss": [[i, 0.5 * 0.95**i] for i in range(steps)],
            "entropy": [[i, None if i == 12 else 0.3 - 0.004 * i] for i in range(steps)],
            "grad_norm": [[i, 3e-5 * (1 + i % 4)] for i in range(steps)],
        },
    } | changed


def opened(browser, data, *, scheme="light", width=900, inspector=False, asks=False):
    "A page with the component, and the errors it met."
    script = esm("base", "curve", "run")
    if inspector:
        script = script.replace("export default", INSPECTOR + "export default")
    if asks:
        script = script.replace("widget(model, el, draw_run)", "draw_run(model, el, { run_id: 'run-1' })")
    page = browser.new_page(viewport={"width": width, "height": 860}, color_scheme=scheme)
    page.mistakes = []
    page.on("pageerror", lambda e: page.mistakes.append(str(e)))
    page.on("dialog", lambda d: page.mistakes.append("a dialog"))
    text = PAGE.replace("DATA", json.dumps(data).replace("<", "\\u003c"))
    page.set_content(text.replace("SCRIPT", base64.b64encode(script.encode()).decode()))
    return page


def live(seen):
    series = ("curve", "parts")
    head = {k: v for k, v in seen.items() if k not in (*series, "metrics")}
    traits = {"head": head, "series": {k: seen[k] for k in series}, "metrics": seen["metrics"]}
    return traits | {"params": {"run_id": "run-1"}, "answers": {}}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [960, 400])
def test_a_run_is_drawn_and_hostile_text_stays_text(browser, scheme, width):
    page = opened(browser, live(told()), scheme=scheme, width=width)
    page.locator("polyline.agl-train").first.wait_for()
    assert page.locator(".agl-text").inner_text() == "running · step 30 of 60 · 1 min 14 s · 1 min 08 s left"
    assert page.locator(".agl-health li").first.inner_text().count(HOSTILE) == 1
    assert page.locator(".agl-last tbody tr").count() == 8 and page.locator(".agl-tile").count() == 6
    figures = page.locator(".agl-figures").inner_text()
    assert "version\n31" in figures and HOSTILE in page.locator(".agl-figure").first.get_attribute("title")
    for text in (
        "3,840, 1 failed",
        "52 rollouts/s",
        "96 waiting",
        "7 busy of 8",
        "1,148,862 in · 347,449 out",
        "$0.0213",
    ):
        assert text in figures
    page.wait_for_timeout(100)
    assert page.locator("img").count() == 0 and page.mistakes == []
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    page.screenshot(path=SHOTS / f"run-{scheme}-{width}.png", full_page=True)
    page.close()


def test_what_changes_is_drawn_and_buttons_send_their_command(browser):
    page = opened(browser, live(told(steps=3)))
    page.get_by_role("button", name="pause").click()
    assert page.evaluate("sent") == [{"command": "pause"}]
    later = live(told("paused", steps=9))
    page.evaluate("(d) => { model.set('head', d.head); model.set('series', d.series); }", later)
    page.wait_for_function("() => /^paused · step 9/.test(document.querySelector('.agl-text').textContent)")
    page.get_by_role("button", name="resume").wait_for()
    page.wait_for_function(
        "() => document.querySelector('polyline.agl-train').getAttribute('points').split(' ').length === 9"
    )
    page.evaluate("(d) => model.set('head', d.head)", live(told("succeeded")))
    page.wait_for_function("() => /^succeeded .* took 1 min/.test(document.querySelector('.agl-text').textContent)")
    assert page.get_by_role("button", name="stop").count() == 0 and page.mistakes == []
    page.evaluate("end()")
    assert page.evaluate("listening()") == 0
    page.close()


def test_any_series_can_be_chosen_and_the_arrow_keys_move_along_it(browser):
    page = opened(browser, live(told()))
    page.get_by_role("button", name="entropy").click()
    assert page.locator(".agl-tile[aria-pressed=true] span").inner_text() == "entropy"
    at = page.locator(".agl-at")
    page.wait_for_function("() => /^entropy 0.184 at step 29/.test(document.querySelector('.agl-at').textContent)")
    assert page.locator(".agl-chart .agl-nan").count() == 1  # the step without a finite number
    page.locator(".agl-chart svg").focus()
    page.keyboard.press("Home")
    assert at.inner_text() == "step 0: entropy 0.300"
    for _ in range(12):
        page.keyboard.press("ArrowRight")
    assert at.inner_text() == "step 12: entropy not finite"
    page.screenshot(path=SHOTS / "run-metric.png")
    page.get_by_role("button", name="reward", exact=False).first.click()
    page.locator(".agl-chart svg").focus()
    page.keyboard.press("End")
    assert at.inner_text().startswith("step 30: val 0.8")
    assert page.mistakes == []
    page.close()


def test_a_row_opens_in_place_and_escape_leads_back(browser):
    page = opened(browser, live(told()), inspector=True)
    rows = page.locator(".agl-last tbody tr")
    rows.first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.locator(".inspected").wait_for()
    assert page.locator(".inspected").inner_text() == "rollout ro-2"
    assert page.evaluate("model.get('params').at.params") == {"rollout_id": "ro-2"}  # a loaded page comes back to it
    assert not page.locator(".agl-run").is_visible()
    page.keyboard.press("Escape")
    rows.first.wait_for()
    assert page.locator(".inspected").count() == 0 and page.evaluate("left") == 1
    assert page.evaluate("document.activeElement.dataset.id") == "ro-2"
    page.get_by_role("button", name="open one").click()
    assert page.locator(".inspected").inner_text() == "rollout ro-9"
    page.get_by_role("button", name="back").click()
    assert rows.first.is_visible() and page.mistakes == []
    page.close()


def test_without_an_inspector_a_row_says_how_to_see_its_rollout(browser):
    page = opened(browser, live(told()))
    page.locator(".agl-last tbody tr").nth(2).click()
    assert page.get_by_role("status").inner_text().endswith('store.get_rollout_by_id("ro-2")')
    page.close()


def test_where_nothing_is_kept_up_to_date_the_question_is_asked(browser):
    page = opened(browser, {"answers": {"run": told("succeeded")}}, asks=True)
    page.locator("polyline.agl-train").first.wait_for()
    assert page.evaluate("sent.map((m) => [m.ask, m.params])") == [["run", {"run_id": "run-1"}]]
    page.evaluate("end()")
    assert page.evaluate("listening()") == 0
    page.close()


def test_a_page_that_says_it_is_dark_gets_dark_panels(browser):
    page = opened(browser, live(told()))
    page.evaluate("document.body.className = ''")  # neither JupyterLab nor one of our pages
    ground = "() => getComputedStyle(document.querySelector('.agl')).backgroundColor"
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    page.evaluate("document.documentElement.style.colorScheme = 'dark'")
    assert page.evaluate(ground) == "rgb(22, 24, 29)"


def test_a_run_of_another_process_is_asked_for_until_it_has_ended(browser):
    data = live(told() | {"followed": False, "commands": []}) | {"answers": {"run": told("succeeded")}}
    page = opened(browser, data)
    page.wait_for_function("() => /^running/.test(document.querySelector('.agl-text')?.textContent)")
    page.wait_for_function("() => /^succeeded/.test(document.querySelector('.agl-text')?.textContent)")
    assert page.evaluate("sent.length") == 1 and page.mistakes == []
    page.close()


def test_an_empty_run_says_what_will_come(browser):
    seen = told(steps=0, curve=[], parts={}, metrics={}, last=[], health=[])
    page = opened(browser, live(seen))
    page.locator("p.agl-none").wait_for()
    assert page.locator(".agl-at").inner_text() == "No rewards yet."
    assert "first ones will stand here" in page.locator("p.agl-none").inner_text() and page.mistakes == []
    page.close()
