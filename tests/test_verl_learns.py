"A policy gets better under verl, and does not without a learning rate; verl's trainer that dies ends the run with a sentence."

import importlib.util
from statistics import fmean

import pytest
from verl_agents import TASKS, asks_once, options

from agentlightning_nb.algorithms.verl import VERL
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.verl.session import Session

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        any(importlib.util.find_spec(m) is None for m in ("verl", "ray", "vllm")), reason="verl is not installed"
    ),
]
STEPS = 24


def rewards(tmp_path, lr):
    "The mean training reward of each step, and the largest gap of probability."
    algorithm = VERL(lr=lr, n=4, batch_size=4, max_steps=STEPS, max_tokens=16, eval_every=STEPS, **options())
    with Trainer(n_workers=8, store=tmp_path / f"{lr}.db") as trainer:
        run = trainer.fit(asks_once, algorithm=algorithm, tasks=TASKS, progress=False)
        assert run.status == "succeeded" and run.step == STEPS
        told = list(trainer.store.query_metrics(run.run_id))
    named = {name: [m["value"] for m in told if m["name"] == name] for name in ("reward", "probability_gap")}
    print(f"lr {lr:g}: rewards {[round(r, 3) for r in named['reward']]}, gap {max(named['probability_gap']):.2g}")
    return named["reward"], max(named["probability_gap"])


def test_the_reward_rises_with_a_learning_rate_and_stays_without(tmp_path):
    learnt, gap = rewards(tmp_path, 1e-3)
    control, control_gap = rewards(tmp_path, 0.0)
    rise = lambda found: fmean(found[-6:]) - fmean(found[:6])  # noqa: E731
    assert rise(learnt) > 0.1 and abs(rise(control)) < 0.1 and rise(learnt) > 2 * abs(rise(control))
    assert max(gap, control_gap) < 1e-4


def test_a_run_whose_trainer_dies_ends_with_a_sentence_and_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    import ray

    whole, killed = Session.update, []

    def update(self, groups):
        if self.step == 2 and not killed:
            killed.append(self.step)
            ray.kill(self.trainer.actor_rollout_wg.workers[0])
        return whole(self, groups)

    monkeypatch.setattr(Session, "update", update)
    algorithm = VERL(
        lr=1e-3, n=3, batch_size=2, max_steps=3, max_tokens=16, eval_every=2, step_timeout_s=120, **options()
    )
    with Trainer(n_workers=6, store=tmp_path / "run.db") as trainer:
        with pytest.warns(RuntimeWarning, match="ended early"):
            run = trainer.fit(asks_once, algorithm=algorithm, tasks=TASKS, progress=False)
        print(run.reason)
        assert run.status == "failed" and "verl: step 3 failed" in run.reason
        run = trainer.fit(asks_once, algorithm=algorithm, tasks=TASKS, resume=run, progress=False)
        assert run.status == "succeeded" and run.step == 3
