"Rollouts are collected while the update runs: each call says which weights answered, and what is too old is not trained on."

import threading

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from agentlightning_nb.algorithms.ahead import Ages  # noqa: E402
from agentlightning_nb.algorithms.grpo import GRPO  # noqa: E402
from agentlightning_nb.engines.torch import Torch  # noqa: E402
from agentlightning_nb.errors import BadRequestError  # noqa: E402
from agentlightning_nb.litagent import rollout  # noqa: E402
from agentlightning_nb.rl.policy import Policy  # noqa: E402
from agentlightning_nb.rl.tiny import make_model, make_tokenizer  # noqa: E402
from agentlightning_nb.trainer import Trainer  # noqa: E402

TOKENIZER = make_tokenizer()
TASKS = ["What is 1 + 2?", "What is 3 + 4?"]


@rollout
async def agent(task, llm):
    from aiohttp import ClientSession

    async with ClientSession(headers={"Authorization": f"Bearer {llm.api_key}"}) as session:
        body = {"model": llm.model, "messages": [{"role": "user", "content": task.input}]}
        async with session.post(f"{llm.base_url}/chat/completions", json=body | llm.sampling) as reply:
            text = (await reply.json())["choices"][0]["message"]["content"]
    return float(len(text) % 3)


def algorithm(**options):
    small = {"n": 4, "batch_size": 2, "max_steps": 4, "max_tokens": 6, "eval_every": 100}
    return GRPO(make_model(TOKENIZER, seed=1), TOKENIZER, **small | options)


@pytest.fixture
def trainer():
    with Trainer(n_workers=4) as made:
        yield made


def fitted(trainer, made, trained=agent):
    return trainer.fit(trained, algorithm=made, tasks=TASKS, progress=False)


def versions(trainer, run):
    "For each step: the versions that its rollouts were begun under, and those that answered."
    rows = trainer.store.query_rollouts(run_id=run.run_id, sort_by="start_time")
    calls = trainer.store.query_triplets([r.rollout_id for r in rows])
    found = {}
    for row in rows:
        asked, answered = found.setdefault(row.step, (set(), set()))
        asked.add(row.resources_id)
        answered |= {t.policy_version for t in calls[row.rollout_id]}
    return found


def test_by_default_everything_happens_in_turn(trainer):
    run = fitted(trainer, algorithm())
    assert run.status == "succeeded" and "staleness" not in run.latest
    each = versions(trainer, run)
    assert all(asked == answered and len(asked) == 1 for asked, answered in each.values())
    assert len({v for asked, _ in each.values() for v in asked}) == 4


def test_sampling_goes_on_while_an_update_runs(trainer, monkeypatch):
    update, opened, seen = Policy.update, [], []

    def slow(self, rows, **options):
        engine, before, tick = opened[0], opened[0].sampled, threading.Event()
        for _ in range(250):  # until a token is sampled meanwhile; the last step has none to wait for
            if engine.sampled > before or len(seen) == 3:
                break
            tick.wait(0.02)
        seen.append(engine.sampled - before)
        return update(self, rows, **options)

    class Watched(Torch):
        def open(self, *given, **options):
            opened.append(super().open(*given, **options))
            return opened[0]

    monkeypatch.setattr(Policy, "update", slow)
    run = fitted(trainer, algorithm(staleness=1, engine=Watched(copy=True)))
    assert run.status == "succeeded" and all(n > 0 for n in seen[:3])
    assert 0 < run.latest["staleness"] <= 1 and run.latest["stale_rows"] == 0.0
    each = versions(trainer, run)
    order = [v for step in sorted(each) for v in sorted(each[step][0])]  # a batch is begun under one version
    assert order[0] == order[1] and len(set(order)) == 3  # the second was begun before the first update
    assert all(answered and None not in answered for _, answered in each.values())


def test_the_copy_says_what_the_trained_model_would(trainer):
    opened = []

    class Watched(Torch):
        def open(self, model, *given, **options):
            opened.append((model, super().open(model, *given, **options)))
            return opened[0][1]

    fitted(trainer, algorithm(staleness=1, engine=Watched(copy=True)))
    model, engine = opened[0]
    assert engine.model is not model
    for mine, theirs in zip(model.parameters(), engine.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_rows_that_are_too_old_are_dropped_and_counted(trainer, monkeypatch):
    monkeypatch.setattr(Ages, "of", lambda self, row, updates: 2)
    made = algorithm(staleness=1, max_steps=1)
    before = [p.clone() for p in made.model.parameters()]
    kept = []
    monkeypatch.setattr("agentlightning_nb.run.TrainingRun.record_rows", lambda self, step, rows: kept.extend(rows))
    run = fitted(trainer, made)
    assert run.latest["stale_rows"] == 8.0 and {r["dropped"] for r in kept} == {"stale"}
    assert all(torch.equal(a, b) for a, b in zip(before, made.model.parameters(), strict=True))


def test_what_goes_wrong_while_collecting_ends_the_run(trainer):
    @rollout
    async def broken(task, llm):
        raise ValueError("as the test wants it")

    with pytest.warns(RuntimeWarning, match="as the test wants it"):
        run = fitted(trainer, algorithm(staleness=2), broken)
    assert run.status == "failed"
    assert not any(t.name == "agentlightning-ahead" for t in threading.enumerate())


def test_an_engine_that_shares_the_weights_cannot_sample_beside_the_update(trainer):
    with pytest.raises(BadRequestError, match="weights of its own"):
        fitted(trainer, algorithm(staleness=1, engine=Torch()))


def test_stopping_ends_the_collection_too(trainer):
    run = trainer.start(agent, algorithm=algorithm(staleness=1, max_steps=1000), tasks=TASKS)
    reached = threading.Event()
    run.subscribe(lambda: run.step >= 2 and reached.set())
    assert reached.wait(60)
    run.stop()
    assert run.wait(60).status == "stopped"
    assert not any(t.name == "agentlightning-ahead" for t in threading.enumerate())
