"A step that cannot be taken ends a run with its cause named and its last good weights on disk; one that does not fit is made smaller."

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from test_rl_runs import small, tokenizer, two_turns, weights  # noqa: E402, F401

from agentlightning_nb.rl.policy import Policy  # noqa: E402
from agentlightning_nb.trainer import Trainer  # noqa: E402


def fit(folder, tokenizer, steps, resume=None):  # noqa: F811
    with Trainer(n_workers=1, store=Path(folder, "run.db")) as trainer:
        algorithm = small(tokenizer, eval_every=100)
        run = trainer.fit(
            two_turns, algorithm=algorithm, tasks=["a", "b", "c"], max_steps=steps, resume=resume, progress=False
        )
        rows = [r.rollout_id for r in trainer.store.query_rollouts(run_id=run.run_id, mode="train") if r.step == 3]
    return run, rows


def breaking(at, break_it):
    "`Policy._backward` that breaks in one update, counted from 0."
    whole, updates = Policy._backward, []

    def backward(self, rows, *more):
        if not updates or updates[-1] != self.updates:
            updates.append(self.updates)
        sums = whole(self, rows, *more)
        if self.updates == at:
            break_it(self)
        return sums

    return backward


def test_a_gradient_that_is_no_number_ends_the_run_with_the_last_good_weights(tokenizer, tmp_path, monkeypatch):  # noqa: F811
    good, _ = fit(tmp_path / "a", tokenizer, 3) if (tmp_path / "a").mkdir() is None else None
    (tmp_path / "b").mkdir()

    def no_number(policy):
        next(p for p in policy.model.parameters() if p.grad is not None).grad.fill_(float("nan"))

    with monkeypatch.context() as patched:
        patched.setattr(Policy, "_backward", breaking(3, no_number))
        with pytest.warns(RuntimeWarning, match="gradient norm nan are not finite, so this step is not taken"):
            run, rows = fit(tmp_path / "b", tokenizer, 6)
    assert run.status == "failed" and run.step == 3
    named = run.reason.split("rollouts: ")[1].split(".")[0]
    assert all(name in rows for name in named.replace(" and ", ", ").split(", ") if name.startswith("ro-"))
    assert run.resources["weights"].step == 3 and torch.equal(weights(run), weights(good))
    rest, _ = fit(tmp_path / "b", tokenizer, 6, resume=run.run_id)
    assert rest.status == "succeeded" and rest.step == 6


def test_a_run_that_runs_out_of_memory_goes_on_with_smaller_micro_batches(tokenizer, tmp_path, monkeypatch, caplog):  # noqa: F811
    whole, told = Policy._backward, []

    def backward(self, rows, *more):
        told.append(sum(len(r.token_ids) for r in rows))
        if len(told) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return whole(self, rows, *more)

    monkeypatch.setattr(Policy, "_backward", backward)
    run, _ = fit(tmp_path, tokenizer, 2)
    assert run.status == "succeeded" and run.latest["grad_norm"] > 0
    assert "Out of memory: micro-batches have at most 8192 tokens from now on." in caplog.text
