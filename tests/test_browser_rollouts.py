"The table of rollouts and the inspector in a blank page, over a real store: filters, pages, keyboard, hostile text."

import json
from pathlib import Path

import pytest

from agentlightning_nb.export import export_run
from agentlightning_nb.page import esm
from agentlightning_nb.store import LightningStore
from agentlightning_nb.types import AttemptError, Span
from agentlightning_nb.views.questions import answer

lab = pytest.importorskip("lab")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(lab.chromium() is None, reason="no chromium")]
SHOTS = Path(__file__).parents[1] / "artefacts"
HOSTILE = "</script><img src=x onerror=alert(1)>\u202eevil"
MODEL = """
const heard = {}, traits = { params: PARAMS };
window.model = {
  get: (name) => traits[name], set: (name, value) => { traits[name] = value; (heard[`change:${name}`] || []).forEach((f) => f()); }, save_changes() {},
  on: (name, f) => (heard[name] = heard[name] || []).push(f), off: (name, f) => { heard[name] = (heard[name] || []).filter((g) => g !== f); },
  send: ({ ask, params, id }) => window.told(ask, JSON.stringify(params)).then((text) => (heard["msg:custom"] || []).forEach((f) => f({ id, ...JSON.parse(text) }))),
};
"""


@pytest.fixture(scope="module")
def browser():
    SHOTS.mkdir(exist_ok=True)
    with lab.browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def store():
    with LightningStore() as store:
        store.add_run("run-1")
        for i in range(120):
            at = store.start_rollout({"question": f"{i} + {i}?"}, run_id="run-1", step=i // 20, worker_id="w").attempt
            ids = {"rollout_id": at.rollout_id, "attempt_id": at.attempt_id}
            said = [{"role": "user", "content": f"{i} + {i}?"}], [{"role": "assistant", "content": HOSTILE}]
            call = {"gen_ai.operation.name": "chat", "gen_ai.input.messages": json.dumps(said[0])}
            call |= {
                "gen_ai.output.messages": json.dumps(said[1]),
                "response_token_ids": [5, 6, 7],
                "prompt_token_ids": [1, 2],
            }
            call |= {"response_logprobs": [-0.1, -2.0, -0.7], "agl.request": "{}"}
            store.add_span(Span(**ids, name="chat tiny", attributes=call, start_time=1.0, end_time=2.0))
            if i % 10 == 3:
                error = AttemptError(type="KeyError", message=HOSTILE, traceback=f"Traceback\n{HOSTILE}")
                store.finish_attempt(*ids.values(), status="failed", error=error)
            else:
                store.finish_attempt(*ids.values(), reward=i / 120)
        yield store


def opened(browser, store, params, *names, scheme="light", width=900):
    page = browser.new_page(viewport={"width": width, "height": 700}, color_scheme=scheme)
    page.mistakes = []
    page.set_default_timeout(10_000)
    page.on("pageerror", lambda e: page.mistakes.append(str(e)))
    page.on("dialog", lambda d: page.mistakes.append("a dialog"))
    page.expose_function("told", lambda ask, given: json.dumps({"answer": answer(store, ask, json.loads(given))}))
    page.set_content('<body class="agl-page" style="margin: 0"><div id="here"></div>')
    script = MODEL.replace("PARAMS", json.dumps(params)) + esm("base", *names).replace(
        "export default", "window.drawn ="
    )
    page.add_script_tag(content=script + "\nwindow.drawn.render({ model, el: document.getElementById('here') });")
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [960, 420])
def test_rollouts_are_listed_and_opened_by_keyboard(browser, store, scheme, width):
    page = opened(browser, store, {"filters": {"run_id": "run-1"}}, "inspector", "rollouts", scheme=scheme, width=width)
    rows = page.locator(".agl-list tbody tr")
    rows.first.wait_for()
    assert (rows.count(), page.get_by_role("status").inner_text()) == (50, "50 of 120; scroll for more")
    page.screenshot(path=SHOTS / f"rollouts-{scheme}-{width}.png")
    rows.first.focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowDown")
    page.get_by_text("100 of 120; scroll for more").wait_for()
    page.locator("tr:focus", has_text="69 + 69?").wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.get_by_role("tab", name="Conversation").wait_for()
    page.locator(".agl-turn", has_text="68 + 68?").first.wait_for()
    assert HOSTILE in page.locator(".agl-turn").nth(1).inner_text()
    page.screenshot(path=SHOTS / f"inspector-{scheme}-{width}.png")
    page.get_by_role("tab", name="Tokens").click()
    page.locator(".agl-tokens b").nth(4).wait_for()
    page.screenshot(path=SHOTS / f"inspector-tokens-{scheme}-{width}.png")
    page.keyboard.press("Escape")
    rows.first.wait_for()
    assert page.locator("img").count() == 0 and page.mistakes == []
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    page.close()


def test_filters_and_sorting_ask_the_store(browser, store):
    page = opened(browser, store, {"filters": {}}, "inspector", "rollouts")
    page.get_by_label("status").select_option("failed")
    page.get_by_text("12 of 12").wait_for()
    assert page.locator(".agl-list td").nth(1).inner_text().startswith("KeyError: ")
    page.get_by_label("status").select_option("")
    page.get_by_label("sort").select_option("best")
    page.get_by_text("50 of 120; scroll for more").wait_for()
    page.locator("tr", has_text="119 + 119?").wait_for()
    assert page.locator(".agl-list tbody tr").first.inner_text().count("0.9917") == 1
    page.get_by_label("step").fill("2")
    page.get_by_text("20 of 20").wait_for()
    page.locator(".agl-list tbody tr").first.focus()
    page.keyboard.press("/")
    page.keyboard.type("nothing-has-this")
    page.get_by_text("No rollout has these words.").wait_for()
    assert page.mistakes == []
    page.close()


def test_a_search_is_kept_in_the_rollout_that_is_opened(browser, store):
    page = opened(browser, store, {"filters": {"run_id": "run-1"}}, "inspector", "rollouts")
    rows = page.locator(".agl-list tbody tr")
    page.get_by_label("search").fill("evil 117")
    page.get_by_text("1 of 1", exact=True).wait_for()
    page.screenshot(path=SHOTS / "rollouts-search.png")
    rows.first.click()
    page.get_by_label("find in the rollout").wait_for()
    assert page.get_by_label("find in the rollout").input_value() == "evil 117"
    assert set(page.locator("mark").all_inner_texts()) == {"117", "evil"}
    page.get_by_label("find in the rollout").fill("onerror=alert(1)")
    page.locator("mark", has_text="onerror=alert(1)").first.wait_for()
    page.keyboard.press("Escape")
    rows.first.wait_for()
    assert page.locator("img").count() == 0 and page.mistakes == []
    page.close()


def test_the_table_scrolls_to_its_end(browser, store):
    page = opened(browser, store, {"filters": {"run_id": "run-1"}}, "inspector", "rollouts")
    page.get_by_text("50 of 120; scroll for more").wait_for()
    for count in ("100 of 120; scroll for more", "120 of 120"):
        page.locator(".agl-scroll").evaluate("el => el.scrollTo(0, el.scrollHeight)")
        page.get_by_text(count, exact=True).wait_for()
    assert page.locator(".agl-list tbody tr").last.inner_text().count("0 + 0?") == 1
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_run_as_one_file_opens_from_disk_without_a_network(browser, store, tmp_path, scheme):
    path = export_run(store, "run-1", tmp_path / "run.html", rollouts=60)
    page = browser.new_page(viewport={"width": 1000, "height": 900}, color_scheme=scheme)
    page.mistakes = []
    page.on("pageerror", lambda e: page.mistakes.append(str(e)))
    page.on("console", lambda m: m.type == "error" and page.mistakes.append(m.text))
    page.on("request", lambda r: r.url.startswith("http") and page.mistakes.append(r.url))
    page.goto(path.as_uri())
    page.get_by_text("60 of 120 rollouts are in this file: the worst, the best and the last.").wait_for()
    page.locator("polyline.agl-train").first.wait_for()
    page.get_by_text("50 of 60; scroll for more").wait_for()
    page.screenshot(path=SHOTS / f"exported-{scheme}.png", full_page=True)
    page.get_by_label("sort").select_option("best")
    page.locator(".agl-list tr", has_text="119 + 119?").click()
    page.locator(".agl-turn", has_text="119 + 119?").first.wait_for()
    for tab, there in (("Trace", ".agl-span"), ("Tokens", ".agl-tokens b"), ("Exact", ".agl-turn pre")):
        page.get_by_role("tab", name=tab).click()
        page.locator(there).first.wait_for()
    page.keyboard.press("Escape")
    page.get_by_label("status").select_option("failed")
    page.locator(".agl-list tr[data-is=failed]").first.wait_for()
    assert page.locator("img").count() == 0 and page.mistakes == []
    page.close()
