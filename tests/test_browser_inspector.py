"The inspector in a blank page, over a real store: attempts side by side, tokens and what training made of them, and what people say."

import json
from pathlib import Path

import pytest

from agentlightning_nb.page import esm
from agentlightning_nb.rescoring import annotated_reward, rescore
from agentlightning_nb.server import AgentLightningServer
from agentlightning_nb.store import LightningStore
from agentlightning_nb.types import AttemptError, Span
from agentlightning_nb.views.questions import DEEDS, act, answer

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


def call(ids, number, asked, said, prompt, response, logprobs):
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "policy",
        "gen_ai.input.messages": json.dumps(asked),
        "gen_ai.output.messages": json.dumps([said]),
        "agl.request": json.dumps({"model": "policy", "messages": asked, "temperature": 1.0}),
        "agl.response": json.dumps({"id": f"chatcmpl-{number}", "choices": [{"message": said}]}),
        "prompt_token_ids": prompt,
        "response_token_ids": response,
        "response_logprobs": logprobs,
    }
    return Span(
        **ids,
        span_id=f"call-{number}",
        name="chat policy",
        attributes=attributes,
        start_time=100.0 + number,
        end_time=100.7 + number,
    )


def weather(store):
    "A rollout that failed once and then succeeded in two calls with a tool between them; a trainer has made one row of it."
    store.add_run("run-1", algorithm="GRPO", config={"options": {"clip_low": 0.2, "clip_high": 0.28}})
    claimed = store.start_rollout(
        {"question": "Which coat in Bergen?"},
        run_id="run-1",
        step=3,
        mode="train",
        config={"max_attempts": 2, "retry_condition": ["failed"]},
    )
    first = {"rollout_id": claimed.rollout_id, "attempt_id": claimed.attempt.attempt_id}
    store.add_span(
        Span(
            **first,
            name="look up",
            start_time=100.0,
            end_time=100.2,
            status={"status_code": "ERROR"},
            attributes={"gen_ai.tool.name": "weather"},
        )
    )
    text = 'Traceback (most recent call last):\n  File "agent.py", line 12, in training_rollout\n    raise TimeoutError(town)\n'
    store.finish_attempt(
        *first.values(),
        status="failed",
        error=AttemptError(type="TimeoutError", message=HOSTILE, traceback=text + f"TimeoutError: {HOSTILE}"),
    )
    again = store.dequeue_rollout(worker_id="worker-2").attempt
    ids = {"rollout_id": again.rollout_id, "attempt_id": again.attempt_id}
    user, tool = (
        {"role": "user", "content": "Which coat in Bergen?"},
        {"role": "tool", "tool_call_id": "t1", "content": "9 °C, rain"},
    )
    use = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "t1", "function": {"name": "weather", "arguments": '{"town": "Bergen"}'}}],
    }
    last = {"role": "assistant", "content": f"The green raincoat. {HOSTILE}"}
    first_ids, between, last_ids = list(range(40, 60)), list(range(60, 66)), list(range(66, 100))
    store.add_many_spans(
        [
            call(ids, 1, [user], use, list(range(1, 40)), first_ids, [-0.05 * (i % 7) - 0.01 for i in range(20)]),
            Span(
                **ids,
                span_id="tool",
                parent_id="call-1",
                name="weather",
                start_time=101.7,
                end_time=101.9,
                attributes={"gen_ai.tool.name": "weather", "result": "9 °C, rain"},
            ),
            call(ids, 2, [user, use, tool], last, list(range(1, 66)), last_ids, [-0.3 * (i % 11) for i in range(34)]),
            Span(
                **ids,
                name="agentlightning.annotation",
                start_time=102.8,
                end_time=102.8,
                attributes={
                    "agentlightning.reward.0.name": "warm",
                    "agentlightning.reward.0.value": 0.75,
                    "agentlightning.reward.why": "A raincoat is right at 9 °C; it forgot the scarf.",
                },
            ),
        ]
    )
    assert between
    store.finish_attempt(*ids.values(), reward=0.75, rewards={"warm": 0.75})
    trainer = [-0.05 * (i % 7) - 0.01 + 0.04 * (i % 3 - 1) for i in range(20)] + [
        -0.3 * (i % 11) + (0.35 if i % 9 == 4 else 0.02 * (i % 5 - 2)) for i in range(34)
    ]
    row = {
        "rollout_id": ids["rollout_id"],
        "advantage": 0.5,
        "tokens": 54,
        "logprobs": trainer,
        "calls": ["call-1", "call-2"],
    }
    store.add_training_rows("run-1", 3, [row])
    return ids["rollout_id"]


@pytest.fixture
def kept():
    with LightningStore() as store:
        yield store, weather(store)


def opened(browser, store, params, scheme="light", width=960):
    page = browser.new_page(viewport={"width": width, "height": 720}, color_scheme=scheme)
    page.mistakes = []
    page.on("pageerror", lambda e: page.mistakes.append(str(e)))
    page.on("dialog", lambda d: page.mistakes.append("a dialog"))
    page.set_default_timeout(15_000)

    def told(ask, given):
        try:
            return json.dumps({"answer": (act if ask in DEEDS else answer)(store, ask, json.loads(given))})
        except Exception as e:
            return json.dumps({"error": str(e)})

    page.expose_function("told", told)
    page.set_content('<body class="agl-page" style="margin: 0"><div id="here"></div>')
    script = MODEL.replace("PARAMS", json.dumps(params)) + esm("base", "inspector").replace(
        "export default", "window.drawn ="
    )
    page.add_script_tag(content=script + "\nwindow.drawn.render({ model, el: document.getElementById('here') });")
    page.get_by_role("tab", name="Conversation").wait_for()
    return page


def closed(page):
    assert page.locator("img").count() == 0 and page.mistakes == []
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    page.close()


@pytest.mark.parametrize("scheme, width", [("light", 960), ("dark", 960), ("light", 420), ("dark", 420)])
def test_every_tab_shows_what_there_is(browser, kept, scheme, width):
    store, rollout_id = kept
    page = opened(browser, store, {"rollout_id": rollout_id, "find": "raincoat"}, scheme, width)
    page.get_by_text("A raincoat is right at 9 °C").wait_for()
    assert page.locator("mark").all_inner_texts() == ["raincoat", "raincoat"]
    assert "→ 9 °C, rain" in page.locator(".agl-tool").inner_text()
    page.screenshot(path=SHOTS / f"inspector-conversation-{scheme}-{width}.png")
    for tab, there in (
        ("Trace", ".agl-span"),
        ("Attempts", ".agl-sides > div"),
        ("Exact", ".agl-turn pre"),
        ("Notes", ".agl-notes"),
    ):
        page.get_by_role("tab", name=tab).click()
        page.locator(there).first.wait_for()
        page.wait_for_timeout(150)
        page.screenshot(path=SHOTS / f"inspector-{tab.lower()}-{scheme}-{width}.png")
    page.get_by_role("tab", name="Tokens").click()
    page.locator(".agl-tokens b").nth(70).wait_for()
    for colour in ("logprob", "advantage", "importance ratio", "clipping"):
        page.get_by_label("colour by").select_option(colour)
        page.screenshot(path=SHOTS / f"inspector-tokens-{colour.replace(' ', '-')}-{scheme}-{width}.png")
    closed(page)


def test_a_rollout_without_calls_shows_what_it_was_asked(browser, tmp_path):
    with LightningStore() as store:
        row = store.start_rollout({"question": "1 + 1?", "answer": 2, "markup": HOSTILE})
        page = opened(browser, store, {"rollout_id": row.rollout_id})
        task = page.locator(".agl-turn", has_text="task")
        task.wait_for()
        page.get_by_text("No model call was recorded").wait_for()
        assert '"question": "1 + 1?"' in task.inner_text() and HOSTILE in task.inner_text()
        store.finish_attempt(row.rollout_id, row.attempt.attempt_id, reward=1.0)  # and it is seen to end
        page.get_by_text("succeeded · reward 1").wait_for()
        closed(page)


def test_attempts_stand_side_by_side_and_either_is_looked_into(browser, kept):
    store, rollout_id = kept
    page = opened(browser, store, {"rollout_id": rollout_id})
    page.get_by_role("tab", name="Attempts (2)").click()
    sides = page.locator(".agl-sides > div")
    sides.nth(1).get_by_text("The green raincoat.").wait_for()
    assert "raise TimeoutError(town)" in sides.nth(0).inner_text() and HOSTILE in sides.nth(0).inner_text()
    sides.nth(0).get_by_role("button", name="show in the other tabs").click()
    page.get_by_text("No model call was recorded").wait_for()
    page.get_by_role("tab", name="Trace").click()
    page.locator(".agl-span .agl-bad", has_text="look up").wait_for()
    page.get_by_role("tab", name="Tokens").click()
    page.get_by_text("No token ids were recorded").wait_for()
    page.get_by_label("attempt", exact=True).select_option("")
    page.locator(".agl-tokens b").first.wait_for()
    closed(page)


def test_a_token_says_what_training_made_of_it(browser, kept):
    store, rollout_id = kept
    page = opened(browser, store, {"rollout_id": rollout_id})
    page.get_by_role("tab", name="Tokens").click()
    tokens = page.locator(".agl-tokens b")
    tokens.nth(98).wait_for()
    assert tokens.count() == 39 + 20 + 6 + 34  # what the second call repeats stands once
    assert "99 tokens, 54 of them sampled" in page.locator(".agl-legend").inner_text()
    assert page.get_by_text("Cannot read").count() == 0 and page.get_by_role("button", name="more").count() == 0
    assert "goes on: the first 59 stand above" in page.locator(".agl-call").nth(1).inner_text()
    tokens.nth(0).hover()
    assert "given to the model" in page.locator(".agl-under").inner_text()
    tokens.nth(69).hover()
    words = page.locator(".agl-under").inner_text()
    assert "clipped" in words and "ratio 1.4191" in words and "advantage +0.500" in words
    page.get_by_label("colour by").select_option("clipping")
    painted = page.evaluate(
        "[...document.querySelectorAll('.agl-tokens b')].map((b, i) => b.style.background ? i : -1).filter((i) => i >= 0)"
    )
    assert painted == [69, 78, 87, 96]
    page.locator(".agl-call button").nth(1).click()
    page.get_by_text("span 3: chat policy · model call").wait_for()
    closed(page)


def test_what_people_say_is_kept_and_usable_as_reward_and_for_tuning(browser, kept, tmp_path):
    store, rollout_id = kept
    page = opened(browser, store, {"rollout_id": rollout_id})
    up, down = page.get_by_label("thumb up"), page.get_by_label("thumb down")
    up.click()
    page.locator("[aria-label='thumb up'][aria-pressed=true]").wait_for()
    down.click()
    page.locator("[aria-label='thumb down'][aria-pressed=true]").wait_for()
    page.get_by_role("tab", name="Notes (2)").click()
    page.get_by_role("button", name="keep").click()
    page.get_by_text("Give a score, a note or a corrected answer.").wait_for()
    page.get_by_label("score", exact=True).fill("0.25")
    page.get_by_label("note", exact=True).fill(HOSTILE)
    page.get_by_role("button", name="start from its answer").click()
    page.get_by_label("corrected answer").fill("The green raincoat and a scarf.")
    page.screenshot(path=SHOTS / "inspector-notes-filled.png")
    page.get_by_role("button", name="keep").click()
    page.get_by_role("tab", name="Notes (3)").wait_for()
    said = store.query_annotations(rollout_id)
    assert [(a.thumb, a.score, a.note, a.correction) for a in said] == [
        (1, None, None, None),
        (-1, None, None, None),
        (None, 0.25, HOSTILE, "The green raincoat and a scarf."),
    ]
    page.screenshot(path=SHOTS / "inspector-notes-kept.png")
    page.get_by_role("button", name="take back").first.click()
    page.get_by_role("tab", name="Notes (2)").wait_for()
    assert [a.thumb for a in store.query_annotations(rollout_id)] == [-1, None]
    assert [row.new for row in rescore(store, annotated_reward(store)).rows] == [0.25]
    store.export_dataset(tmp_path / "sft.jsonl", annotated="corrected")
    assert "The green raincoat and a scarf." in (tmp_path / "sft.jsonl").read_text(encoding="utf-8")
    closed(page)


def test_a_server_s_page_keeps_what_people_say(browser, kept, tmp_path, monkeypatch):
    monkeypatch.setenv("AGENTLIGHTNING_HOME", str(tmp_path))
    store, rollout_id = kept
    with AgentLightningServer(store, token="t") as server:
        page = browser.new_page()
        page.goto(f"{server.url}/?#token=t")
        page.goto(f"{server.url}/#/rollout?rollout_id={rollout_id}")
        page.get_by_label("thumb up").click()
        page.locator("[aria-label='thumb up'][aria-pressed=true]").wait_for()
        page.get_by_role("tab", name="Notes (1)").click()
        page.get_by_role("button", name="take back").click()
        page.get_by_text("Nobody has said anything of this rollout.").wait_for()
        assert store.query_annotations(rollout_id) == []
        page.close()
