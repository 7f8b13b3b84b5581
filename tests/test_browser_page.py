"The page of a server in a real browser: it asks for the token, lists runs and rollouts, and opens one."

import json
from pathlib import Path

import pytest

from agentlightning_nb.server import AgentLightningServer
from agentlightning_nb.store import LightningStore
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
    page.get_by_role("link", name="run-1").wait_for()
    assert HOSTILE in page.locator(".agl-runs").inner_text()
    page.screenshot(path=SHOTS / "page-runs.png")
    page.get_by_role("link", name="run-1").click()
    page.locator(".agl-figure").first.wait_for()
    page.screenshot(path=SHOTS / "page-run.png")
    page.get_by_role("link", name="Rollouts").click()
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
    page.get_by_role("link", name="run-1").wait_for()
    assert "secret" not in page.url


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
