"Groups, versions, differences, runs against each other and tasks by versions in a blank page over a real store: mouse, keyboard, hostile text."

import json
from pathlib import Path

import panels_store
import pytest

from agentlightning_nb.errors import LightningError
from agentlightning_nb.page import component
from agentlightning_nb.views.questions import answer

lab = pytest.importorskip("lab")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(lab.chromium() is None, reason="no chromium"),
    pytest.mark.timeout(120),
]
SHOTS = Path(__file__).parents[1] / "artefacts"
HOSTILE = panels_store.HOSTILE
PAGE = '<!doctype html><body class="agl-page" style="margin: 0; padding: 12px"><style>@media (prefers-color-scheme: dark) { body { background: #16181d; } }</style><div id="here"></div>'
MODEL = """
const heard = {}, traits = { params: PARAMS };
window.sent = [];
window.model = {
  get: (name) => traits[name], set: (name, value) => { traits[name] = value; (heard[`change:${name}`] || []).slice().forEach((f) => f()); }, save_changes() {},
  on: (name, f) => (heard[name] = heard[name] || []).push(f), off: (name, f) => { heard[name] = (heard[name] || []).filter((g) => g !== f); },
  send: ({ ask, params, id }) => { window.sent.push([ask, params]); window.told(ask, JSON.stringify(params)).then((text) => (heard["msg:custom"] || []).slice().forEach((f) => f({ id, ...JSON.parse(text) }))); },
};
window.listening = () => Object.values(heard).flat().length;
"""
both = [pytest.mark.parametrize("scheme", ["light", "dark"]), pytest.mark.parametrize("width", [960, 420])]


@pytest.fixture(scope="module")
def browser():
    SHOTS.mkdir(exist_ok=True)
    with lab.browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def store():
    with panels_store.filled() as store:
        yield store


@pytest.fixture
def shown(browser, store):
    "Opens a component; what went wrong in its page fails the test."
    pages = []

    def told(ask, given):
        try:
            return json.dumps({"answer": answer(store, ask, json.loads(given))})
        except LightningError as e:
            return json.dumps({"error": str(e)})

    def opened(name, params, scheme="light", width=960):
        page = browser.new_page(viewport={"width": width, "height": 760}, color_scheme=scheme)
        pages.append(page)
        page.set_default_timeout(10_000)
        page.mistakes = []
        page.on("pageerror", lambda e: page.mistakes.append(str(e)))
        page.on("dialog", lambda d: page.mistakes.append("a dialog"))
        page.on("request", lambda r: page.mistakes.append(r.url))
        page.expose_function("told", told)
        page.set_content(PAGE)
        script = component(name).replace("export default", "window.drawn =")
        page.add_script_tag(content=MODEL.replace("PARAMS", json.dumps(params).replace("<", "\\u003c")) + script)
        page.evaluate("void (window.end = window.drawn.render({ model, el: document.getElementById('here') }))")
        return page

    yield opened
    for page in pages:
        assert page.locator("img").count() == 0 and page.mistakes == []
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        page.evaluate("end()")
        assert page.evaluate("listening()") == 0
        page.close()


def shot(page, name, scheme, width):
    page.wait_for_timeout(150)
    page.screenshot(path=SHOTS / f"{name}-{scheme}-{width}.png", full_page=True)


def group_of(store, run="run-2", step=2, task="task-1"):
    return [r.rollout_id for r in store.query_rollouts(run_id=run, step=step, task_id=task)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [960, 420])
def test_a_group_stands_beside_each_other_and_marks_where_each_parts(shown, store, scheme, width):
    ids = group_of(store, step=1)
    page = shown("group", {"rollout_id": ids[0]}, scheme, width)
    columns = page.locator(".agl-column")
    columns.first.wait_for()
    assert [c.split("\n")[0] for c in columns.all_inner_texts()] == ["1", "0", "0"]  # two say the same
    assert "× 2" in columns.first.inner_text() and page.locator(".agl-bars button").count() == 4
    assert "Parts at token 2 of call 1: token 63 p 0.20; there token 60 p 0.67" in columns.nth(1).inner_text().replace(
        "\n", " "
    )
    assert columns.nth(1).locator("mark").inner_text() == "It" and HOSTILE in columns.nth(2).inner_text()
    shot(page, "group", scheme, width)
    columns.first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("c")
    page.wait_for_function("() => document.querySelectorAll('.agl-column')[1].dataset.reference === 'true'")
    assert page.evaluate("sent.at(-1)[1].reference") == page.evaluate("document.activeElement.dataset.id")
    assert columns.nth(2).locator("mark").inner_text() == "303"
    page.keyboard.press("Enter")
    page.get_by_role("tab", name="Conversation").wait_for()
    page.get_by_role("button", name="its group").click()  # and back again, the way it came
    page.locator(".agl-column").last.wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Conversation").wait_for()
    page.keyboard.press("Escape")
    columns.first.wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [960, 420])
def test_the_groups_of_a_step_lead_to_each_and_to_other_steps(shown, store, scheme, width):
    page = shown("groups", {"run_id": "run-2"}, scheme, width)
    rows = page.locator(".agl-of tbody tr")
    rows.first.wait_for()
    assert rows.count() == 5 and page.locator(".agl-steps b").inner_text() == "step 4"
    shot(page, "groups", scheme, width)
    rows.first.focus()
    page.keyboard.press("PageUp")
    page.wait_for_function("() => document.querySelector('.agl-steps b').textContent === 'step 3'")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.locator(".agl-column").first.wait_for()
    page.get_by_role("button", name="all groups of the step").click()
    page.locator(".agl-steps b", has_text="step 3").last.wait_for()
    page.keyboard.press("Escape")
    page.locator(".agl-column").first.wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [960, 420])
def test_two_versions_are_picked_in_the_tree_and_compared(shown, store, scheme, width):
    page = shown("versions", {"run_id": "run-2"}, scheme, width)
    rows = page.locator(".agl-version")
    page.locator(".agl-pairs tbody tr").first.wait_for()
    assert rows.count() == 5 and page.locator(".agl-tree path").count() == 5  # a merge has two
    assert (
        page.locator(".agl-from")
        .inner_text()
        .replace("\n", " ")
        .startswith("version 1 initial → version 5 merge of both")
    )
    assert (
        HOSTILE in page.locator("ins").all_inner_texts()[-1]
        or HOSTILE in page.locator(".agl-text-diff").first.inner_text()
    )
    shot(page, "versions", scheme, width)
    rows.nth(2).click()  # against what it comes from
    page.get_by_text("version 2").first.wait_for()
    page.wait_for_function("() => /version 2.*version 3/s.test(document.querySelector('.agl-from')?.textContent)")
    rows.nth(2).focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_function("() => /version 3.*version 4/s.test(document.querySelector('.agl-from')?.textContent)")
    assert page.locator(".agl-version[aria-selected=true]").count() == 2
    assert page.locator(".agl-changes td").first.inner_text() == "sampling_parameters.temperature"
    page.locator(".agl-pairs tbody tr").first.focus()
    page.keyboard.press("Enter")  # the same task under both
    page.locator(".agl-column").first.wait_for()
    assert (
        "version 3" in page.locator(".agl-beside").inner_text()
        and "version 4" in page.locator(".agl-beside").inner_text()
    )
    shot(page, "beside", scheme, width)
    page.keyboard.press("Escape")
    page.locator(".agl-tree").wait_for()


def test_weights_show_a_square_for_each_tensor_and_large_ones_wait_for_a_click(browser, store, shown, monkeypatch):
    layers = [
        {
            "name": f"model.layers.{i}.self_attn.{n}_proj.weight",
            "shape": [64, 64],
            "change": (i + k + 1) / 90,
            "largest": 0.01,
        }
        for i in range(4)
        for k, n in enumerate("qkvo")
    ]
    layers += [{"name": "model.embed_tokens.weight", "shape": [436, 64], "change": 0.06, "largest": 0.02}]
    heads = [{"resources_id": f"rs-{i}", "version": i, "note": "", "time": 0} for i in (1, 2)]
    weights = {"kind": "model_weights", "status": "changed", "changes": []}
    told = [
        {"a": heads[0], "b": heads[1], "resources": {"weights": weights | more}}
        for more in ({"large": True, "why": "14 GB"}, {"layers": layers})
    ]
    asked = []
    monkeypatch.setitem(
        answer.__globals__["QUESTIONS"],
        "diff",
        lambda store, a, b, layers_mb=0.0: told[(asked.append(layers_mb), layers_mb > 0)[1]],
    )
    page = shown("diff", {"a": "rs-1", "b": "rs-2"})
    page.get_by_role("button", name="compare them").click()
    cells = page.locator(".agl-heat td")
    cells.first.wait_for()
    assert cells.count() == 16 and asked == [0.0, 1e9] and page.locator(".agl-tensors span").count() == 3
    cells.first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert (
        page.locator(".agl-readout")
        .inner_text()
        .startswith("model.layers.1.self_attn.k_proj.weight (64 × 64) moved by 3.33 %")
    )
    shot(page, "weights", "light", 960)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [960, 420])
def test_runs_are_laid_over_each_other_with_intervals(shown, store, scheme, width):
    page = shown("compare", {"runs": ["run-1"]}, scheme, width)
    rows = page.locator(".agl-against tbody tr")
    rows.first.wait_for()
    page.get_by_label("add").select_option("run-2")
    page.wait_for_function("() => document.querySelectorAll('.agl-against tbody tr').length === 2")
    assert page.locator("polyline.agl-line").count() == 2 and HOSTILE in page.locator(".agl-against").inner_text()
    assert rows.first.inner_text().count("±") >= 1 and rows.first.inner_text().startswith("GEPA")  # the best first
    shot(page, "compare", scheme, width)
    page.get_by_label("over").select_option("rollouts")
    page.wait_for_function("() => /rollouts/.test(document.querySelector('.agl-at').textContent)")
    page.get_by_role("button", name="×").last.click()
    page.wait_for_function("() => document.querySelectorAll('.agl-against tbody tr').length === 1")
    if width < 640:  # a narrow cell keeps the way through the run
        return
    page.get_by_role("button", name="tasks").click()
    page.locator(".agl-grid td").first.wait_for()
    page.keyboard.press("Escape")
    rows.first.wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [960, 420])
def test_tasks_by_versions_name_what_moved(shown, store, scheme, width):
    page = shown("matrix", {"run_id": "run-2"}, scheme, width)
    cells = page.locator(".agl-grid td")
    cells.first.wait_for()
    assert cells.count() == 25 and page.locator(".agl-mover").count() >= 4
    shot(page, "matrix", scheme, width)
    cells.first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.locator(".agl-column").first.wait_for()
    assert "version 5" in page.locator(".agl-beside").inner_text()
    page.keyboard.press("Escape")
    page.locator(".agl-mover").first.click()
    page.locator(".agl-column").first.wait_for()


def test_a_run_leads_to_its_groups_versions_tasks_and_rollouts(shown):
    here = {"question": "run", "params": {"run_id": "run-1"}, "from": None}
    page = shown("rollouts", {"filters": {}, "at": here})
    ways = page.locator(".agl-ways button")
    ways.first.wait_for()
    assert ways.all_inner_texts() == ["groups", "versions", "tasks", "rollouts", "compare"]
    there = {"groups": ".agl-of", "versions": ".agl-tree", "tasks": ".agl-grid", "compare": ".agl-against"}
    for name, place in there.items():
        page.locator(".agl-ways button", has_text=name).click()
        page.locator(place).first.wait_for()
        page.keyboard.press("Escape")
        ways.first.wait_for()


@pytest.mark.parametrize(
    "name, params",
    [
        ("group", {"rollout_id": "no"}),
        ("groups", {"run_id": "no"}),
        ("versions", {"run_id": "no"}),
        ("diff", {"a": "no", "b": "no"}),
        ("compare", {"runs": ["no"]}),
        ("matrix", {"run_id": "no"}),
    ],
)
def test_what_is_not_there_is_said(shown, name, params):
    page = shown(name, params)
    page.get_by_role("status").get_by_text("No r").wait_for()
