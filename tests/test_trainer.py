"fit, start, evaluate and dev, with any object as the algorithm."

import asyncio
import threading
import warnings
from dataclasses import dataclass

import pytest

from agentlightning_nb.algorithms.base import Algorithm
from agentlightning_nb.errors import BadRequestError, NotFoundError, RunError
from agentlightning_nb.litagent import LitAgent, rollout
from agentlightning_nb.store import LightningStore
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.types import AgentLightningTask, PromptTemplate


class Keep:
    "Changes nothing and remembers what it was given."

    def __init__(self):
        self.calls = []

    async def optimize_step(self, rollout_results, resources_version):
        self.calls.append((rollout_results, resources_version))
        return {"version": resources_version, "resources": {}}


@rollout
async def echo(task):
    return float(task.input)


@pytest.fixture
def trainer():
    with Trainer(n_workers=2) as t:
        yield t


def fit(trainer, agent=echo, algorithm=None, **options):
    return trainer.fit(agent, algorithm=algorithm or Keep(), progress=False, **{"tasks": [1, 2, 3], **options})


def test_one_step_runs_every_task_once_in_order(trainer):
    keep = Keep()
    run = fit(trainer, algorithm=keep)
    (results, version) = keep.calls[0]
    assert [reward for _, reward in results] == [1.0, 2.0, 3.0]
    assert version == trainer.store.get_rollout_by_id(results[0][0]).resources_id
    assert (run.status, run.step, len(keep.calls)) == ("succeeded", 1, 1)


def test_returned_resources_are_merged_over_the_old_ones_as_the_next_version(trainer):
    class Change(Keep):
        def optimize_step(self, rollout_results, resources_version):
            self.calls.append(resources_version)
            return {"version": resources_version, "resources": {"b": PromptTemplate(f"v{len(self.calls)}")}}

    change = Change()
    run = fit(trainer, algorithm=change, max_steps=2, resources={"a": PromptTemplate("a"), "b": PromptTemplate("b")})
    assert {k: r.template for k, r in run.resources.items()} == {"a": "a", "b": "v2"}
    assert len(set(change.calls)) == 2
    second = trainer.store.get_resources_by_id(change.calls[1])
    assert second.parents == [change.calls[0]] and second.version == 2


def test_fit_works_inside_a_running_event_loop():
    async def main():
        with Trainer(n_workers=2) as trainer:
            blocking = fit(trainer)
            live = trainer.start(echo, algorithm=Keep(), tasks=[1])
            return blocking.status, (await live).status

    assert asyncio.run(main()) == ("succeeded", "succeeded")


def test_a_crashing_agent_ends_the_run_with_a_sentence_not_an_exception(trainer):
    @rollout
    def crash(task):
        raise KeyError("no such city")

    with pytest.warns(RuntimeWarning, match=r"3 of 3 rollouts of step 0 failed.*KeyError: 'no such city'"):
        run = fit(trainer, agent=crash)
    assert run.status == "failed" and "KeyError" in run.reason
    rows = trainer.store.query_rollouts(run_id=run.run_id)
    assert [r.attempt.error.type for r in rows] == ["KeyError"] * 3


def test_one_failure_among_many_is_a_row(trainer):
    @rollout
    def sometimes(task):
        return 1 / (task.input - 2)

    keep = Keep()
    run = fit(trainer, agent=sometimes, algorithm=keep)
    assert run.status == "succeeded" and [r for _, r in keep.calls[0][0]] == [-1.0, 0.0, 1.0]


def test_an_algorithm_that_breaks_raises_out_of_fit(trainer):
    class Broken:
        def optimize_step(self, rollout_results, resources_version):
            raise ZeroDivisionError("my bug")

    with pytest.raises(ZeroDivisionError, match="my bug"):
        fit(trainer, algorithm=Broken())
    assert trainer.run.status == "failed"


def test_wrong_arguments_say_what_to_do(trainer):
    with pytest.raises(NotFoundError, match="No algorithm named 'grop'. Available: .*grpo"):
        trainer.fit(echo, algorithm="grop", tasks=[1])
    with pytest.raises(BadRequestError, match="has no option 'lr'"):
        fit(trainer, lr=1e-3)
    with pytest.raises(BadRequestError, match="tasks is empty"):
        fit(trainer, tasks=[])
    with pytest.raises(BadRequestError, match="fit needs tasks"):
        trainer.fit(echo, algorithm=Keep())
    with pytest.raises(BadRequestError, match="subclass LitAgent"):
        fit(trainer, agent=object())
    with pytest.raises(BadRequestError, match="'p' is a str"):
        fit(trainer, resources={"p": "text"})


def test_stop_ends_at_a_step_boundary_and_resume_goes_on(trainer):
    keep, reached = Keep(), threading.Event()

    class Until(Keep):
        async def optimize_step(self, rollout_results, resources_version):
            if len(self.calls) == 2:
                trainer.run.stop()
            return await super().optimize_step(rollout_results, resources_version)

    first = Until()
    run = fit(trainer, algorithm=first, max_steps=10)
    assert (run.status, run.step, len(first.calls)) == ("stopped", 3, 3)
    again = fit(trainer, algorithm=keep, max_steps=5, resume=run)
    assert (again.run_id, again.status, again.step, len(keep.calls)) == (run.run_id, "succeeded", 5, 2)
    reached.set()


def test_pause_holds_and_resume_goes_on(trainer):
    keep, gate = Keep(), threading.Event()

    @rollout
    async def agent(task):
        gate.set()
        return 1.0

    run = trainer.start(agent, algorithm=keep, tasks=[1], max_steps=200)
    assert gate.wait(10)
    run.pause()
    paused = threading.Event()
    run.subscribe(lambda: paused.set() if run.status == "paused" else None)
    assert paused.wait(10) or run.status == "paused"
    held = len(keep.calls)
    run.resume()
    run.stop()
    run.wait(20)
    assert run.status == "stopped" and len(keep.calls) >= held


def test_running_the_training_cell_twice(trainer):
    first, second = fit(trainer), fit(trainer)
    assert first.run_id != second.run_id and second.status == "succeeded"
    live = trainer.start(echo, algorithm=Keep(), tasks=[1], max_steps=10_000)
    with pytest.raises(RunError, match="still going on"):
        fit(trainer)
    live.stop()
    live.wait(20)


def test_a_run_is_reopened_from_its_file_alone(tmp_path):
    path = tmp_path / "run.db"
    with Trainer(n_workers=2, store=path) as trainer:
        run = fit(trainer, max_steps=2, resources={"p": PromptTemplate("x")})
    keep = Keep()
    with Trainer(n_workers=2, store=path) as trainer:
        again = fit(trainer, algorithm=keep, max_steps=3, resume=run.run_id)
        assert (again.step, len(keep.calls), list(again.resources)) == (3, 1, ["p"])
        with pytest.raises(NotFoundError, match="No run run-none"):
            fit(trainer, resume="run-none")


def test_dev_gives_the_rollout_and_raises_what_the_agent_raises(trainer):
    class Agent(LitAgent):
        async def training_rollout(self, task, rollout_id, resources):
            if "fail" in task.context:
                raise ValueError("cannot")
            return 0.5

    lit = asyncio.run(trainer.dev(agent=Agent(), task=AgentLightningTask(name="Dev Test", context="ok"), resources={}))
    assert (lit.final_reward, lit.status, lit.task.name) == (0.5, "succeeded", "Dev Test")
    assert lit.rollout_id and lit.traces and lit.resources == {}
    with pytest.raises(ValueError, match="cannot"):
        asyncio.run(trainer.dev(agent=Agent(), task=AgentLightningTask(context="fail"), resources={}))


def test_dev_needs_no_server():
    before = threading.active_count()
    trainer = Trainer(backend="http://127.0.0.1:9")  # nobody there
    lit = asyncio.run(trainer.dev(agent=echo, task=7))
    assert lit.final_reward == 7.0 and threading.active_count() == before


def test_evaluate_is_a_frame_with_failures_as_rows(trainer):
    pytest.importorskip("pandas")

    @rollout
    def sometimes(task):
        return 1 / task.input

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frame = trainer.evaluate(sometimes, [0, 0, 2])
    assert list(frame.reward.fillna(-1)) == [-1, -1, 0.5] and list(frame.status) == ["failed", "failed", "succeeded"]
    assert "ZeroDivisionError" in frame.error[0]


def test_validation_and_training_call_their_own_methods(trainer):
    class Agent(LitAgent):
        def training_rollout(self, task, rollout_id, resources):
            return 1.0

        def validation_rollout(self, task, rollout_id, resources):
            return 2.0

    assert [r.final_reward for r in trainer.evaluate_rollouts(Agent(), [1])] == [2.0]


def test_a_given_store_is_used_and_left_open(tmp_path):
    with LightningStore(tmp_path / "mine.db") as store:
        with Trainer(n_workers=1, store=store) as trainer:
            run = fit(trainer)
        assert len(store.query_rollouts(run_id=run.run_id)) == 3


def test_a_store_given_as_a_path_is_closed_with_the_trainer(tmp_path):
    with Trainer(n_workers=1, store=tmp_path / "mine.db") as trainer:
        fit(trainer)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.db"]


def test_nothing_is_left_behind_after_close():
    before = set(threading.enumerate())
    with Trainer(n_workers=2) as trainer:
        fit(trainer)
        assert trainer.server.url
    left = [t.name for t in set(threading.enumerate()) - before if t.name.startswith("agentlightning")]
    assert left == []


def test_a_run_writes_itself_as_one_file(trainer, tmp_path, monkeypatch):
    run = fit(trainer)
    monkeypatch.chdir(tmp_path)
    text = run.export("run.html").read_text(encoding="utf-8")
    assert run.run_id in text and text.startswith("<!doctype html>") and 'src="http' not in text
    assert run.export().name == f"{run.run_id}.html"


def test_a_run_records_the_settings_of_its_algorithm_and_no_key(trainer):
    @dataclass(frozen=True)
    class Part:
        low: float = 0.5

    @dataclass(frozen=True)
    class Tuned(Algorithm):
        part: Part = Part()
        rate: float = 0.25
        api_key: str = "sk-secret"

        def run(self, run):
            run.plan(1)

    told = trainer.store.get_run(fit(trainer, algorithm=Tuned()).run_id)["config"]
    assert told["options"] == {"rate": 0.25, "part": {"low": 0.5}} and "sk-secret" not in str(told)


def test_an_interrupted_wait_ends_though_nothing_wakes_its_loop(trainer):
    go_on = threading.Event()

    @rollout
    def held(task):
        go_on.wait(30)
        return 1.0

    async def cell(run):
        waiting = asyncio.ensure_future(as_coroutine(run))
        await asyncio.sleep(0.2)
        threading.Timer(0.2, waiting.cancel).start()  # as a signal's handler does: the loop is not told
        await asyncio.wait({waiting}, timeout=None)
        return waiting.cancelled(), run.done

    async def as_coroutine(run):
        return await run

    run = trainer.start(held, algorithm=Keep(), tasks=["a"])
    try:
        assert asyncio.run(cell(run)) == (True, False)
    finally:
        go_on.set()
    assert asyncio.run(as_coroutine(run)) is run and run.status == "succeeded"
