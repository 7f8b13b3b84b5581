"What a run is trained towards, which tasks it draws, how it is validated and when it ends: real runs of a model that has learned nothing."

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from test_rl_runs import fit, say, small, tokenizer, weights  # noqa: E402, F401

from agentlightning_nb.algorithms.curriculum import Curriculum  # noqa: E402
from agentlightning_nb.algorithms.replay import replay  # noqa: E402
from agentlightning_nb.algorithms.validation import Validation  # noqa: E402
from agentlightning_nb.errors import BadRequestError  # noqa: E402
from agentlightning_nb.litagent import rollout  # noqa: E402
from agentlightning_nb.rl.shaping import Rewards  # noqa: E402
from agentlightning_nb.tracer import emit_reward  # noqa: E402
from agentlightning_nb.trainer import Trainer  # noqa: E402
from agentlightning_nb.types import AgentLightningTask, ModelWeights  # noqa: E402
from agentlightning_nb.views.passes import pass_rates  # noqa: E402

TASKS = [AgentLightningTask(name="letters", input=letter, task_id=letter) for letter in "abc"]


@rollout
async def parts(task, llm):
    "Gives parts that say the contrary of what it returns, and leaves one out now and then."
    said = (await say(llm, [{"role": "user", "content": task.input}]))["content"] or ""
    emit_reward({"long": float(len(said) > 8)} | ({"even": float(len(said) % 2 == 0)} if len(said) % 3 else {}))
    return 5.0


def advantages(tokenizer, folder, rewards):  # noqa: F811
    with Trainer(n_workers=4, store=Path(folder, "run.db")) as trainer:
        algorithm = small(tokenizer, rewards=rewards)
        run = trainer.fit(parts, algorithm=algorithm, tasks=["a", "b"], max_steps=1, progress=False)
        assert run.status == "succeeded", run.reason
        rows = trainer.store.query_training_rows(run_id=run.run_id)
        found = {r.rollout_id: r for r in trainer.store.query_rollouts(run_id=run.run_id)}
        again = replay(trainer.store, run.run_id, 0)
    return rows, found, again


def test_named_rewards_are_weighed_and_length_costs(tokenizer, tmp_path):  # noqa: F811
    shaped = Rewards({"long": 1.0, "even": 0.5}, free=2, most=6, cost=0.3)
    rows, found, again = advantages(tokenizer, tmp_path, shaped)
    groups = {}
    for row in rows:
        kept = found[row.rollout_id].attempt.rewards
        worth = kept["long"] + 0.5 * kept.get("even", 0.0) - 0.3 * min(max(row.tokens - 2, 0) / 4, 1.0)
        groups.setdefault(found[row.rollout_id].group_id, []).append((row.advantage, worth))
    assert any(row.advantage for row in rows) and {r.reward for r in found.values()} == {5.0}
    for members in groups.values():
        mean = sum(worth for _, worth in members) / len(members)
        assert [gained for gained, _ in members] == pytest.approx([worth - mean for _, worth in members], abs=1e-9)
    assert again.same


def test_a_weight_for_a_part_that_nobody_gives_is_found_out(tokenizer, tmp_path):  # noqa: F811
    with pytest.warns(RuntimeWarning, match="No rollout of this step has a reward named 'corect'; there are: even, lo"):
        run, *_ = fit(tmp_path, small(tokenizer, rewards=Rewards({"corect": 1.0})), agent=parts, max_steps=1)
    assert run.status == "failed"


@rollout
async def by_letter(task, llm):
    "Never solves a, always b, and c sometimes."
    said = await say(llm, [{"role": "user", "content": task.input}])
    return {"a": 0.0, "b": 1.0}.get(task.input, float(len(said["content"] or "") % 2 == 0))


def drawn(store, run_id):
    rows = store.query_rollouts(run_id=run_id, mode="train")
    return [sorted({r.task_id for r in rows if r.step == step}) for step in range(1 + max(r.step for r in rows))]


@pytest.mark.slow
def test_a_curriculum_draws_what_is_sometimes_solved_and_goes_on_bit_for_bit(tokenizer, tmp_path):  # noqa: F811
    options = {"curriculum": Curriculum(floor=0.01, memory=1.0), "n": 8, "batch_size": 1}

    def run(name, steps, resume=None):
        with Trainer(n_workers=1, store=tmp_path / f"{name}.db") as trainer:
            algorithm = small(tokenizer, **options)
            found = trainer.fit(
                by_letter, algorithm=algorithm, tasks=TASKS, max_steps=steps, resume=resume, progress=False
            )
            assert found.status == "succeeded", found.reason
            return found, drawn(trainer.store, found.run_id)

    whole, asked = run("whole", 20)
    assert sum(step == ["c"] for step in asked) >= 10  # evenly it would be 7
    half, _ = run("half", 4)
    rest, same = run("half", 20, half.run_id)
    assert same == asked and torch.equal(weights(whole), weights(rest))


def validated(folder, tokenizer, agent=by_letter, **options):  # noqa: F811
    with Trainer(n_workers=4, store=Path(folder, "run.db")) as trainer:
        algorithm = small(tokenizer, eval_every=1, **options)
        run = trainer.fit(agent, algorithm=algorithm, tasks=TASKS, val_tasks=TASKS, max_steps=6, progress=False)
        assert run.status == "succeeded", run.reason
        rows = list(trainer.store.query_rollouts(run_id=run.run_id, mode="val"))
        best = next(r for r in run.best_resources.values() if isinstance(r, ModelWeights))
        return run, rows, trainer.store.query_metrics(run.run_id), best


@rollout
async def falling(task, llm, rollout_id):
    "Validation is best at step 2, whatever the weights are."
    await say(llm, [{"role": "user", "content": task.input}])
    worth = {"step 0": 0.1, "step 1": 0.2, "step 2": 0.6}.get(seen.pop(0) if task.mode == "val" and seen else "", 0.3)
    return worth if task.mode == "val" else float(len(rollout_id) % 2)


seen: list[str] = []


def test_a_run_that_gets_no_better_ends_and_the_best_checkpoint_stays(tokenizer, tmp_path):  # noqa: F811
    seen[:] = [f"step {i}" for i in range(3) for _ in TASKS]
    run, rows, _, best = validated(tmp_path, tokenizer, falling, validation=Validation(patience=2), keep=1)
    assert run.step == 4 and max(r.step for r in rows) == 4  # best after 2, then two more
    kept = sorted(p.name for p in Path(best.path).parent.iterdir())
    assert best.step == 2 and kept == ["step-00000", "step-00002", "step-00004"]


def test_validation_tells_pass_at_k_with_its_interval(tokenizer, tmp_path):  # noqa: F811
    run, rows, metrics, _ = validated(tmp_path, tokenizer, validation=Validation(n=4, temperature=1.0))
    last = {m["name"]: m["value"] for m in metrics if m["step"] == 5}
    one, four = pass_rates([r for r in rows if r.step == 6], (1, 4))
    assert (one.name, one.tasks, one.rollouts) == ("letters", 3, 12) and 1 / 3 <= one.rate <= four.rate <= 2 / 3
    for rate in (one, four):
        names = (f"val_pass@{rate.k}", f"val_pass@{rate.k}_low", f"val_pass@{rate.k}_high")
        assert [last[n] for n in names] == pytest.approx([rate.rate, rate.low, rate.high])
    assert "reward" in run.latest and run.latest["val_reward"] == last["val_reward"]


def test_what_has_no_effect_without_validation_tasks_is_refused(tokenizer, tmp_path):  # noqa: F811
    with pytest.raises(BadRequestError, match="validation has no effect without val_tasks"):
        fit(tmp_path, small(tokenizer, validation=Validation(patience=2)), max_steps=1)
