"A run as it is seen: its sums in every kind of store, its view by ==, and its panel without a browser."

import json
import sqlite3
import threading
from pathlib import Path

import pytest
from sqlite_utils import Database
from waiting import until

from agentlightning_nb.errors import BadRequestError, NotFoundError
from agentlightning_nb.migrations import APPLICATION_ID, migrations
from agentlightning_nb.page import run_twin
from agentlightning_nb.run import TrainingRun
from agentlightning_nb.store import LightningStore
from agentlightning_nb.types import AgentLightningTask, AgentResource, AttemptError, PromptTemplate, Span
from agentlightning_nb.views import reward_curve
from agentlightning_nb.views.questions import QUESTIONS, answer
from agentlightning_nb.views.runs import look, run_told, run_view, runs_view

HOSTILE = "</script><img src=x onerror=alert(1)>"


def ended(store, step, reward, *, mode="train", run_id="run-1", tokens=(10, 5), input=None, **rewards):
    at = store.start_rollout(
        input or {"q": step}, mode=mode, run_id=run_id, step=step, worker_id="w", group_id=f"{step}"
    ).attempt
    usage = {"gen_ai.usage.input_tokens": tokens[0], "gen_ai.usage.output_tokens": tokens[1]}
    call = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "tiny", "agl.request": "{}", **usage}
    store.add_span(Span(rollout_id=at.rollout_id, attempt_id=at.attempt_id, name="chat tiny", attributes=call))
    if reward is None:
        error = AttemptError(type="KeyError", message=HOSTILE)
        store.finish_attempt(at.rollout_id, at.attempt_id, status="failed", error=error)
    else:
        store.finish_attempt(at.rollout_id, at.attempt_id, reward=reward, rewards=rewards)
    return at.rollout_id


@pytest.fixture
def learned(store):
    "Three steps of two rollouts, a validation, one failure, in each kind of store."
    store.add_run("run-1", algorithm="GRPO")
    store.update_run("run-1", state={"max_steps": 4})
    for step, rewards in enumerate([(0.0, 1.0), (0.5, 1.0), (1.0, None)]):
        for reward in rewards:
            ended(store, step, reward, style=(reward or 0.0) / 2)
        store.add_metrics("run-1", step, {"loss": 0.5 - step / 10, "entropy": float("nan") if step == 2 else 0.3})
    ended(store, 3, 0.75, mode="val")
    return store


def test_a_run_is_summed_up_in_every_kind_of_store(learned):
    seen = run_view(learned, "run-1", prices={"tiny": [1.0, 2.0]})
    assert [row[:3] for row in seen["curve"]] == [
        [0, "train", 0.5],
        [1, "train", 0.75],
        [2, "train", 0.5],
        [3, "val", 0.75],
    ]
    assert [row[2] for row in seen["parts"]["style"]] == [0.25, 0.375, 0.5]
    assert seen["metrics"] == {"loss": [[0, 0.5], [1, 0.4], [2, 0.3]], "entropy": [[0, 0.3], [1, 0.3], [2, None]]}
    assert [seen["progress"][k] for k in ("status", "step", "of", "share")] == ["running", 3, 4, 0.75]
    flow = seen["throughput"]
    assert (flow["rollouts"], flow["failed"], flow["calls"], flow["prompt_tokens"], flow["response_tokens"]) == (
        7,
        1,
        7,
        70,
        35,
    )
    assert flow["cost"] == pytest.approx((70 + 2 * 35) / 1e6)
    assert [(r["step"], r["reward"]) for r in seen["last"][:2]] == [(3, 0.75), (2, None)]
    assert seen["last"][1]["error"] == f"KeyError: {HOSTILE}"
    assert json.loads(json.dumps(seen, allow_nan=False)) == seen


def test_the_time_left_is_the_steps_left_at_the_pace_of_the_last_ones(learned):
    sums = look(learned, "run-1")
    sums["times"] = {0: 100.0, 1: 110.0, 2: 120.0}  # when they were logged
    sums["run"] |= {"start_time": 90.0, "state": {"max_steps": 5}}
    told = run_told(sums, now=124.0)["progress"]
    assert (told["step"], told["elapsed_s"], told["left_s"]) == (3, 34.0, 16.0)  # two steps of ten seconds, four gone
    assert run_told(sums | {"times": {0: 100.0}}, now=124.0)["progress"]["left_s"] is None


def test_the_version_in_use_is_that_of_the_newest_rollout(store):
    store.add_run("run-1")
    assert run_view(store, "run-1")["version"] is None
    for i, note in enumerate(("first", HOSTILE)):
        made = store.add_resources({"prompt": PromptTemplate(note)}, note=note)
        store.enqueue_rollout({"q": i}, run_id="run-1", step=i, resources_id=made.resources_id)
        used = run_view(store, "run-1")["version"]
        assert used == {"resources_id": made.resources_id, "version": made.version, "note": note}
    assert f"{made.version} ({made.resources_id})" in run_twin(run_view(store, "run-1"))


def test_the_view_and_the_reward_curve_agree(learned):
    curve = reward_curve(learned, "run-1")
    assert [[p.step, p.mode, round(p.mean, 6), round(p.spread, 6), p.n, p.failed] for p in curve.points] == run_view(
        learned, "run-1"
    )["curve"]


def test_looking_again_reads_little_and_sees_everything(learned):
    before = look(learned, "run-1")
    for step in (3, 4):
        ended(learned, step, 0.5, style=0.5)
        learned.add_metrics("run-1", step, {"loss": 0.1})
    learned.update_run("run-1", status="succeeded", end=True)
    again, fresh = look(learned, "run-1", before), look(learned, "run-1")
    assert run_told(again, now=9e9) == run_told(fresh, now=9e9)
    told = learned.run_sums("run-1", since_step=3, since_metric=before["metric"])
    assert {p["step"] for p in told["points"]} == {3, 4} and {m[1] for m in told["metrics"]} == {3, 4}


def test_what_waits_and_who_works_is_counted_for_this_run_only(learned):
    learned.add_run("run-2")
    learned.enqueue_many_rollouts([{"input": i, "run_id": "run-1", "step": 3} for i in range(3)])
    learned.enqueue_rollout("other", run_id="run-2", step=0)
    assert learned.dequeue_rollout("w7", run_id="run-1") is not None
    work = run_view(learned, "run-1")["work"]
    assert (work["queued"], work["running"], work["busy"]) == (2, 1, 1) and work["workers"] >= 1
    assert 0 <= work["waiting_s"] < 100
    assert run_view(learned, "run-2")["work"]["queued"] == 1


def test_failures_and_what_is_not_finite_are_said_in_words(learned):
    found = {f["name"]: f for f in run_view(learned, "run-1")["health"]}
    assert found["failures"]["says"].startswith("1 of the last 7 rollouts failed (14 %), 1 of them with KeyError")
    assert learned.get_rollout_by_id(found["failures"]["rollout_id"]).status == "failed"
    assert found["not finite"]["says"] == "The entropy is no finite number since step 2."


def test_prices_are_an_option_or_a_resource(learned):
    version = learned.add_resources({"prices": AgentResource(resource_type="prices", models={"*": [2.0, 0.0]})})
    learned.update_run("run-1", state={"resources_id": version.resources_id})
    assert run_view(learned, "run-1")["throughput"]["cost"] == pytest.approx(140 / 1e6)
    assert run_view(learned, "run-1", prices={"gpt": [1, 1]})["throughput"]["cost"] is None
    with pytest.raises(BadRequestError, match="dollars per million"):
        run_view(learned, "run-1", prices={"tiny": "cheap"})


def test_all_runs_are_listed_newest_first(learned):
    learned.add_run("run-2", algorithm="APO")
    two, one = runs_view(learned)
    assert (two["run_id"], two["rollouts"], two["step"], two["rewards"]) == ("run-2", 0, 0, {})
    assert (one["step"], one["of"], one["rewards"]) == (3, 4, {"train": 0.5, "val": 0.75})


def test_tokens_of_retries_and_of_late_spans_count(store):
    store.add_run("run-1")
    config = {"max_attempts": 2, "retry_condition": ["failed"]}
    store.enqueue_many_rollouts([{"input": 1, "run_id": "run-1", "step": 0, "config": config}])
    usage = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 3, "gen_ai.usage.output_tokens": 4}
    for status, reward in (("failed", None), ("succeeded", 1.0)):
        claimed = store.dequeue_rollout("w")
        ids = {"rollout_id": claimed.rollout_id, "attempt_id": claimed.attempt.attempt_id}
        store.add_span(Span(**ids, name="chat", attributes=usage))
        store.finish_attempt(*ids.values(), status=status, reward=reward)
    late = store.add_span(Span(**ids, name="chat", attributes=usage))
    store.add_span(late)  # known already, so kept once
    flow = run_view(store, "run-1")["throughput"]
    assert (flow["calls"], flow["prompt_tokens"], flow["response_tokens"]) == (3, 9, 12)


def test_a_call_that_proxy_and_instrumentation_both_tell_of_counts_once(store):
    store.add_run("run-1")
    at = store.start_rollout(1, run_id="run-1", step=0).attempt
    usage = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 3, "gen_ai.usage.output_tokens": 4}
    for attributes in (usage, usage | {"agl.request": "{}"}, usage):
        store.add_span(Span(rollout_id=at.rollout_id, attempt_id=at.attempt_id, name="chat", attributes=attributes))
    flow = run_view(store, "run-1")["throughput"]
    assert (flow["calls"], flow["prompt_tokens"], flow["response_tokens"]) == (1, 3, 4)


def as_version(version, path, old):
    "The rows of a store in a file of an older version."
    conn = sqlite3.connect(old, isolation_level=None)
    for apply in migrations()[:version]:
        apply(Database(conn))
    conn.execute(f"PRAGMA user_version = {version}")
    conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    conn.execute("ATTACH ? AS new", (str(path),))
    tables = "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    for (table,) in conn.execute(tables).fetchall():
        columns = ", ".join(f'"{row[1]}"' for row in conn.execute(f'PRAGMA main.table_info("{table}")'))
        conn.execute(f'INSERT OR REPLACE INTO main."{table}" ({columns}) SELECT {columns} FROM new."{table}"')
    conn.close()
    return old


def test_an_older_file_is_brought_up_to_date_with_what_its_calls_used(tmp_path):
    path = tmp_path / "new.db"
    with LightningStore(path) as store:
        store.add_run("run-1")
        ended(store, 0, 1.0)
    path = as_version(2, path, tmp_path / "old.db")
    with LightningStore(path, readonly=True) as store:
        assert run_view(store, "run-1")["throughput"]["calls"] == 0  # not known, and no error
    with LightningStore(path) as store:
        flow = run_view(store, "run-1")["throughput"]
    assert (flow["calls"], flow["prompt_tokens"], flow["response_tokens"]) == (1, 10, 5)


def test_an_unknown_run_and_an_unknown_question_are_clear_errors(store):
    with pytest.raises(NotFoundError, match="No run run-x"):
        run_view(store, "run-x")
    with pytest.raises(NotFoundError, match="There are: .*run"):
        answer(store, "weather")
    for params in ({}, {"run_id": None}, {"run_id": "run-x", "colour": 1}, [1]):
        with pytest.raises(BadRequestError):
            answer(store, "run", params)
    assert answer(store, "runs") == [] and {"run", "runs"} <= set(QUESTIONS)


# the panel, without a browser


@pytest.fixture
def panels():
    pytest.importorskip("anywidget")
    from agentlightning_nb.widgets import run

    return run


def live(store, steps=2):
    run = TrainingRun(store, algorithm="example", folder=Path("."), tasks=[AgentLightningTask(context="a question")])
    run.plan(steps)
    return run


def watchers():
    return [t for t in threading.enumerate() if t.name.startswith("agentlightning-watch-")]


def test_a_panel_follows_its_run_to_the_end_and_leaves_nothing_behind(store, panels):
    run = live(store)
    panel = panels.run_panel(run)
    assert panels.run_panel(run) is panel and len(watchers()) == 1
    assert (panel.head["commands"], panel.head["progress"]["of"]) == (["pause", "stop"], 2)
    ended(store, 0, 1.0, run_id=run.run_id)
    run.log(0, loss=0.5)
    until(lambda: panel.metrics.get("loss") == [[0, 0.5]])
    assert "Seen while it goes on" in panel.twin()
    run.finish("succeeded")
    run.wait()
    assert (panel.head["commands"], panel.head["progress"]["status"]) == ([], "succeeded")
    assert "Seen while it goes on" not in panel.twin() and "<table>" in panel.twin()
    until(lambda: not watchers())
    assert run._listeners == []


def test_buttons_pause_resume_and_stop_and_nothing_else(store, panels):
    run = live(store)
    panel = panels.run_panel(run)
    panel._pressed(panel, {"command": "stop now"}, [])
    panel._pressed(panel, ["stop"], [])
    panel._pressed(panel, {"command": "resume"}, [])  # not offered now
    assert not run.stopping
    panel._pressed(panel, {"command": "pause"}, [])
    assert not run._go_on.is_set()
    run._set_status("paused")
    until(lambda: panel.head["commands"] == ["resume", "stop"])
    panel._pressed(panel, {"command": "resume"}, [])
    assert run._go_on.is_set()
    panel._pressed(panel, {"command": "stop"}, [])
    assert run.stopping
    run.finish("stopped")


def test_a_closed_panel_is_watched_no_more(store, panels):
    run = live(store)
    panel = panels.run_panel(run)
    panel.close()
    run.log(0, loss=1.0)
    until(lambda: not watchers(), 30.0)
    assert panels.run_panel(run) is not panel
    run.finish("succeeded")


def test_a_panel_survives_a_store_that_is_away(store, panels, monkeypatch):
    run = live(store)
    panel = panels.RunPanel(store, run.run_id, run=run)
    follower = panels.Follower(run, panel, every_s=0.01)

    def away(*args, **kwargs):
        raise OSError("gone")

    with monkeypatch.context() as m:
        m.setattr(type(store), "run_sums", away)
        assert follower._pause_s() >= 0.01
    run.log(0, loss=1.0)
    follower._pause_s()
    assert panel.metrics["loss"] == [[0, 1.0]]
    follower.unsubscribe()
    run.finish("succeeded")


def test_updates_from_many_threads_do_no_harm(store, panels):
    run = live(store)
    panel = panels.RunPanel(store, run.run_id, run=run)
    ended(store, 0, 1.0, run_id=run.run_id)
    threads = [threading.Thread(target=lambda: [panel.update() for _ in range(10)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert panel.series["curve"] == [[0, "train", 1.0, 0.0, 1, 0]]
    run.finish("succeeded")


def test_hostile_text_is_text_in_the_twin(learned, panels):
    ended(learned, 3, None, input=HOSTILE)
    twin = panels.RunPanel(learned, "run-1").twin()
    assert "<img src" not in twin and "&lt;img src" in twin and "<script" not in twin


def test_a_panel_of_a_run_elsewhere_has_no_buttons(learned, panels):
    assert panels.RunPanel(learned, "run-1").head["commands"] == []
    with pytest.raises(NotFoundError):
        panels.RunPanel(learned, "run-x")


CELLS = [
    """
from agentlightning_nb.litagent import rollout
from agentlightning_nb.trainer import Trainer

@rollout
def agent(task):
    return 0.5

class Keep:
    def optimize_step(self, rollout_results, resources_version):
        return {"resources": {}}

trainer = Trainer(n_workers=2)
""",
    "run = trainer.fit(agent, algorithm=Keep(), tasks=[1, 2], max_steps=3)",
    "other = trainer.start(agent, algorithm=Keep(), tasks=[1, 2], max_steps=3)\nother",
    "_ = other.wait()",
    "import threading\nsum('watch' in t.name for t in threading.enumerate()), run._listeners, other._listeners",
]


@pytest.mark.slow
def test_what_a_notebook_keeps_of_a_run_is_its_end():
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("anywidget")
    cells = [nbformat.v4.new_code_cell(c) for c in CELLS]
    notebook = nbclient.NotebookClient(
        nbformat.v4.new_notebook(cells=cells), timeout=60, kernel_name="python3"
    ).execute()
    for cell in notebook.cells[1:3]:  # shown while they went on
        (output,) = cell.outputs
        twin = output.data["text/html"]
        assert "succeeded · step 3 of 3" in twin and "Seen while it goes on" not in twin
        assert "train: 0.50 at step 0, 0.50 at step 2" in twin
        assert "application/vnd.jupyter.widget-view+json" in output.data
    assert notebook.cells[-1].outputs[0].data["text/plain"] == "(0, [], [])"


def test_a_call_that_failed_and_was_made_again_counts_once(store):
    store.add_run("run-1")
    at = store.start_rollout(1, run_id="run-1", step=0).attempt
    usage = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 3, "gen_ai.usage.output_tokens": 4}
    same = {"rollout_id": at.rollout_id, "attempt_id": at.attempt_id, "name": "chat", "span_id": "ab" * 8}
    store.add_span(Span(**same, attributes={"gen_ai.operation.name": "chat"}, status={"status_code": "ERROR"}))
    store.add_span(Span(**same, attributes=usage | {"agl.retry_count": 1}))
    flow = run_view(store, "run-1")["throughput"]
    assert (flow["calls"], flow["prompt_tokens"], flow["response_tokens"]) == (1, 3, 4)
