"The page of a server in a real browser: it asks for the token, lists runs and rollouts, and opens one."

import json
import time
from pathlib import Path

import panels_store
import pytest

from agentlightning_nb.algorithms.base import Algorithm
from agentlightning_nb.litagent import rollout
from agentlightning_nb.server import AgentLightningServer
from agentlightning_nb.store import LightningStore
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.types import Span

lab = pytest.importorskip("lab")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(lab.chromium() is None, reason="no chromium")]
SHOTS = Path(__file__).parents[1] / "artefacts"
HOSTILE = "</script><img src=x onerror=alert(1)>"


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENTLIGHTNING_HOME", str(tmp_path))
    with LightningStore() as store, AgentLightningServer(store, token="a secret") as server:
        store.add_run("run-1", algorithm=HOSTILE)
        for i in range(3):
            row = store.start_rollout({"question": f"{i} + {i}?"}, run_id="run-1", step=i)
            ids = {"rollout_id": row.rollout_id, "attempt_id": row.attempt.attempt_id}
            said = {
                "gen_ai.operation.name": "chat",
                "gen_ai.input.messages": json.dumps([{"role": "user", "content": HOSTILE}]),
            }
            said |= {"gen_ai.output.messages": json.dumps([{"role": "assistant", "content": "Forty-two."}])}
            store.add_span(Span(**ids, name="chat tiny", attributes=said, start_time=1.0, end_time=2.0))
            store.finish_attempt(*ids.values(), reward=i / 2)
            store.add_metrics("run-1", i, {"reward": i / 2})
        yield server


@pytest.fixture
def page(server):
    SHOTS.mkdir(exist_ok=True)
    with lab.browser() as browser:
        page = browser.new_page(viewport={"width": 1100, "height": 760})
        page.mistakes = []
        page.on("pageerror", lambda e: page.mistakes.append(str(e)))
        page.on("dialog", lambda d: page.mistakes.append("a dialog"))
        page.set_default_timeout(15_000)
        yield page
        assert page.mistakes == []


def test_it_asks_for_the_token_and_shows_a_run_and_what_was_said(server, page):
    assert page.goto(server.url).status == 401
    field = page.get_by_label("token")
    field.fill("a guess")
    field.press("Enter")
    page.get_by_text("This is not the server's token").wait_for()
    page.get_by_label("token").fill("a secret")
    page.get_by_label("token").press("Enter")
    page.locator(".agl-runs a[href*=run-1]").first.wait_for()
    assert HOSTILE in page.locator(".agl-runs").inner_text()
    page.screenshot(path=SHOTS / "page-runs.png")
    page.locator(".agl-runs a[href*=run-1]").first.click()
    page.locator(".agl-figure").first.wait_for()
    page.screenshot(path=SHOTS / "page-run.png")
    page.get_by_role("navigation", name="views").get_by_role("link", name="Rollouts").click()
    row = page.locator(".agl-list tbody tr").first
    row.wait_for()
    page.screenshot(path=SHOTS / "page-rollouts.png")
    row.click()
    page.get_by_text("Forty-two.").first.wait_for()
    assert "rollout_id=" in page.url and HOSTILE in page.locator("body").inner_text()
    page.screenshot(path=SHOTS / "page-rollout.png")
    page.reload()  # the tab keeps the token, the address what is shown
    page.get_by_text("Forty-two.").first.wait_for()
    page.go_back()
    page.locator(".agl-list tbody tr").first.wait_for()


def test_a_token_in_the_address_opens_it_and_is_taken_out(server, page):
    page.goto(f"{server.url}/#token=a%20secret")
    page.locator(".agl-runs a[href*=run-1]").first.wait_for()
    assert "secret" not in page.url


@pytest.fixture(scope="module")
def full():
    with panels_store.filled() as store, AgentLightningServer(store, token="") as server:
        yield server


def views(page):
    return page.get_by_role("navigation", name="views")


@pytest.mark.parametrize("scheme, width", [("light", 1100), ("dark", 1100), ("light", 420)])
def test_every_view_has_a_place_and_the_back_button_leads_back(full, page, scheme, width):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(full.url)
    page.locator(".agl-runs tbody tr").nth(1).wait_for()
    page.screenshot(path=SHOTS / f"app-runs-{scheme}-{width}.png")
    places = {
        "Groups": ".agl-of tbody tr",
        "Versions": ".agl-pairs tbody tr",
        "Tasks": ".agl-grid td",
        "Compare": ".agl-against tbody tr",
    }
    for name, there in places.items():
        views(page).get_by_role("link", name=name).click()
        page.locator(there).first.wait_for()
        assert views(page).locator("[aria-current=page]").inner_text() == name
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), name
        page.wait_for_timeout(150)
        page.screenshot(path=SHOTS / f"app-{name.lower()}-{scheme}-{width}.png")
    page.go_back()
    page.locator(".agl-grid td").first.wait_for()
    page.locator(".agl-mover").first.click()
    page.locator(".agl-column").first.wait_for()
    assert "rollouts=" in page.url
    page.reload()
    page.locator(".agl-column").first.wait_for()
    page.keyboard.press("Escape")
    page.locator(".agl-grid td").first.wait_for()


def test_runs_are_picked_and_compared_and_a_run_leads_on(full, page):
    page.goto(full.url)
    page.locator(".agl-runs tbody tr").nth(1).wait_for()
    for box in page.get_by_role("checkbox").all():
        box.check()
    page.get_by_role("button", name="compare 2 runs").click()
    page.locator(".agl-against tbody tr").nth(1).wait_for()
    page.goto(f"{full.url}/#/run?run_id=run-2")
    page.locator(".agl-ways button").first.wait_for()
    assert "steered where it was started" in page.locator(".agl-head").inner_text()
    page.screenshot(path=SHOTS / "app-run.png")
    page.locator(".agl-ways button", has_text="groups").click()
    page.locator(".agl-of tbody tr").first.click()
    page.locator(".agl-column").first.wait_for()
    page.goto(f"{full.url}/#/nothing")
    page.get_by_text("There is nothing here.").wait_for()


def one_more(store, i, question="one more?"):
    "A rollout that has ended."
    row = store.start_rollout({"question": question}, run_id="run-1", step=i)
    store.finish_attempt(row.rollout_id, row.attempt.attempt_id, reward=1.0)
    return row.rollout_id


def heard(page):
    "The requests from now on, by their paths."
    asked = []
    page.on("request", lambda r: asked.append(r.url.partition("/v1/agl/")[2].partition("?")[0]))
    return asked


def test_what_happens_is_shown_at_once_and_nothing_is_asked_for_while_nothing_happens(server, page):
    asked = heard(page)
    page.goto(f"{server.url}/#token=a%20secret")
    page.goto(f"{server.url}/#/rollouts")
    rows = page.locator(".agl-list tbody tr")
    rows.nth(2).wait_for()
    deadline = time.monotonic() + 10
    while "events" not in asked and time.monotonic() < deadline:
        page.wait_for_timeout(50)
    before = asked.count("views/rollouts")
    page.wait_for_timeout(4000)  # longer than the clock of a page without events
    assert asked.count("views/rollouts") == before and asked.count("events") == 1
    rows.nth(1).focus()
    focused = rows.nth(1).get_attribute("data-id")
    one_more(server.store, 3)
    page.get_by_text("4 of 4").wait_for()
    assert rows.first.get_attribute("data-is") == "succeeded" and rows.count() == 4
    assert page.evaluate("document.activeElement.dataset.id") == focused
    for i in range(60):
        one_more(server.store, 4 + i, f"question {i}")
    page.get_by_text("of 64; scroll for more").wait_for()
    assert asked.count("views/rollouts") - before < 20  # in batches


def test_somebody_who_reads_is_offered_what_is_new(server, page):
    page.goto(f"{server.url}/#token=a%20secret")
    page.goto(f"{server.url}/#/rollouts")
    rows = page.locator(".agl-list tbody tr")
    rows.nth(2).hover()
    one_more(server.store, 3)
    new = page.get_by_role("button", name="show what is new")
    new.wait_for()
    assert rows.count() == 3
    new.click()
    page.get_by_text("4 of 4").wait_for()
    new.wait_for(state="hidden")


def test_without_events_the_clock_asks(server, page):
    page.route("**/v1/agl/events*", lambda route: route.fulfill(status=503))
    page.goto(f"{server.url}/#token=a%20secret")
    page.goto(f"{server.url}/#/rollouts")
    page.locator(".agl-list tbody tr").nth(2).wait_for()
    one_more(server.store, 3)
    page.get_by_text("4 of 4").wait_for()


def test_a_loaded_page_comes_back_to_how_it_was_left(full, page):
    page.goto(f"{full.url}/#/rollouts?run_id=run-1")
    page.get_by_label("status").select_option("failed")
    page.get_by_text("4 of 4").wait_for()
    page.reload()
    page.get_by_text("4 of 4").wait_for()
    assert page.get_by_label("status").input_value() == "failed" and "run_id=run-1" in page.url
    page.locator(".agl-list tbody tr").first.click()
    page.get_by_role("tab", name="Trace").click()
    page.locator(".agl-span").first.wait_for()
    page.reload()
    page.get_by_role("tab", name="Trace", selected=True).wait_for()
    page.goto(f"{full.url}/#/run?run_id=run-1")
    page.locator(".agl-tile", has_text="loss").click()
    page.reload()
    page.locator(".agl-tile[aria-pressed=true]", has_text="loss").wait_for()


class Waits(Algorithm):
    "A step for each task until it is stopped."

    def run(self, run):
        for step in range(10_000):
            if run.stopping:
                return
            run.collect(run.tasks, step=step)
            run.log(step, reward=1.0)


def test_a_run_of_this_process_is_paused_and_stopped_from_the_page(page):
    @rollout
    def agent(task):
        return 1.0

    with Trainer(n_workers=2) as trainer:
        run = trainer.start(agent, algorithm=Waits(), tasks=["a"])
        page.goto(f"{trainer.server.url}/#token={trainer.server.token}")
        page.locator(".agl-runs tbody a").first.click()
        page.get_by_role("button", name="pause").click()
        page.get_by_role("button", name="resume").wait_for()
        assert run.status == "paused"
        page.get_by_role("button", name="resume").click()
        page.get_by_role("button", name="pause").wait_for()
        page.get_by_role("button", name="stop").click()
        page.wait_for_function("() => /^(stopped|succeeded)/.test(document.querySelector('.agl-text')?.textContent)")
        assert run.wait(10).done and page.get_by_role("button", name="stop").count() == 0


def test_a_run_of_another_process_is_not_steered_here(full):
    import urllib.error
    import urllib.request

    def tell(run_id, command):
        request = urllib.request.Request(f"{full.url}/v1/agl/runs/{run_id}/{command}", b"{}", method="POST")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        return refused.value.code, json.load(refused.value)["detail"]

    assert tell("run-2", "pause") == (
        409,
        "Run run-2 is not steered from this server's process. Call .pause() where it was started.",
    )
    assert tell("run-x", "stop")[0] == 404


def test_questions_that_cannot_be_answered_are_refused_in_words(server):
    import urllib.error
    import urllib.parse
    import urllib.request

    def ask(question, params):
        query = urllib.parse.urlencode({"params": params})
        request = urllib.request.Request(f"{server.url}/v1/agl/views/{question}?{query}")
        request.add_header("Authorization", "Bearer a secret")
        try:
            with urllib.request.urlopen(request, timeout=10) as told:
                return told.status, json.load(told)
        except urllib.error.HTTPError as e:
            return e.code, json.load(e)["detail"]

    assert ask("rollouts", '{"run_id": "run-1"}')[1]["total"] == 3
    assert ask("colours", "{}")[0] == 404 and "runs" in ask("colours", "{}")[1]
    for wrong in ("{", "[1]", '{"shape": 1}', '{"limit": "many"}', '{"run_id": ["a"]}'):
        status, said = ask("rollouts", wrong)
        assert 400 <= status < 500 and said, wrong
