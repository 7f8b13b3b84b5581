"Two policies learn side by side from the same rollouts, each from the calls that were made to it and from nothing else."

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from test_rl_runs import even, say, tokenizer  # noqa: E402, F401

from agentlightning_nb.algorithms.grpo import GRPO  # noqa: E402
from agentlightning_nb.litagent import LitAgent  # noqa: E402
from agentlightning_nb.rl.shaping import Rewards  # noqa: E402
from agentlightning_nb.rl.tiny import make_model  # noqa: E402
from agentlightning_nb.rl.weights import load_model  # noqa: E402
from agentlightning_nb.tracer import emit_reward  # noqa: E402
from agentlightning_nb.trainer import Trainer  # noqa: E402


class Pair(LitAgent):
    "The solver answers, the critic reads it; what `constant` names is worth the same each time."

    def __init__(self, constant):
        self.constant = constant

    async def training_rollout(self, task, rollout_id, resources):
        answer = await say(resources["solver"], [{"role": "user", "content": task.input}])
        verdict = await say(
            resources["critic"], [{"role": "user", "content": answer["content"] or "?"}], agent="solver"
        )
        parts = {"solved": even(answer), "caught": even(verdict)} | dict.fromkeys(self.constant, 0.5)
        emit_reward(parts)
        return parts["solved"]


def team(tokenizer, **options):  # noqa: F811
    usual = {"n": 4, "batch_size": 2, "max_tokens": 6, "truncated": "train", "eval_every": 1, "lr_end": 1.0} | options
    solver = GRPO(make_model(tokenizer, seed=3), tokenizer, rewards=Rewards({"solved": 1.0}), **usual)
    critic = GRPO(make_model(tokenizer, seed=4), tokenizer, rewards=Rewards({"caught": 1.0}), **usual)
    return {"solver": solver, "critic": critic}


def fit(folder, tokenizer, constant=(), steps=2, resume=None, n_workers=4):  # noqa: F811
    Path(folder).mkdir(exist_ok=True)
    with Trainer(n_workers=n_workers, store=Path(folder, "run.db")) as trainer:
        algorithm = team(tokenizer, max_steps=steps)
        run = trainer.fit(Pair(constant), algorithm=algorithm, tasks=["a", "b"], resume=resume, progress=False)
        assert run.status == "succeeded", run.reason
        rows = trainer.store.query_training_rows(run_id=run.run_id)
        triplets = trainer.store.query_triplets([r.rollout_id for r in rows])
        asked = {t.span_id: t.model for found in triplets.values() for t in found}
        before = trainer.store.query_metrics(run.run_id)
        tried = trainer.evaluate_rollouts(Pair(()), ["a"], run.best_resources, sampling={"max_tokens": 6})
        [r.triplets for r in tried]
    return run, rows, asked, {m["name"] for m in before}, tried


def weights(run, name):
    model, _ = load_model(run.resources[f"{name}_weights"].path)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def begun(tokenizer, seed):  # noqa: F811
    return torch.cat([p.detach().flatten() for p in make_model(tokenizer, seed=seed).parameters()])


@pytest.mark.parametrize(
    ("still", "moved", "constant"), [("critic", "solver", "caught"), ("solver", "critic", "solved")]
)
def test_each_moves_by_its_own_rows_only(still, moved, constant, tokenizer, tmp_path):  # noqa: F811
    run, rows, asked, metrics, tried = fit(tmp_path, tokenizer, [constant])
    start = {"solver": begun(tokenizer, 3), "critic": begun(tokenizer, 4)}
    assert torch.equal(weights(run, still), start[still]) and not torch.equal(weights(run, moved), start[moved])
    assert {asked[call] for r in rows if r.dropped == "" for call in r.calls} == {moved}
    assert sorted(r.position for r in rows) == [0] * 16 + [1] * 16  # one row of each in every rollout
    assert {"solver.loss", "critic.loss", "loss", "logprob_gap", "reward"} <= metrics
    assert tried[0].status == "succeeded", tried[0].error
    assert {t.model for t in tried[0].triplets} == {"solver", "critic"}


@pytest.mark.slow
def test_a_team_that_was_interrupted_ends_with_the_very_same_weights(tokenizer, tmp_path):  # noqa: F811
    whole, *_ = fit(tmp_path / "a", tokenizer, steps=3, n_workers=1)
    half, *_ = fit(tmp_path / "b", tokenizer, steps=1, n_workers=1)
    rest, *_ = fit(tmp_path / "b", tokenizer, steps=3, resume=half.run_id, n_workers=1)
    for name in ("solver", "critic"):
        assert torch.equal(weights(whole, name), weights(rest, name))
        assert not torch.equal(weights(whole, name), weights(half, name))
