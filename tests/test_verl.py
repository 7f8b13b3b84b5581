"A real run of verl: its trainer, its vLLM server and Ray, on the processor, with an agent of this process."

import importlib.util

import pytest
from verl_agents import TASKS, asks_twice, assert_same_trajectories, keeping, options

from agentlightning_nb.algorithms.verl import VERL
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.types import ModelWeights
from agentlightning_nb.verl.session import Session

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        any(importlib.util.find_spec(m) is None for m in ("verl", "ray", "vllm")), reason="verl is not installed"
    ),
]
STEPS = 3


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    "A weak tiny model on disk."
    from agentlightning_nb.rl.tiny import make_tiny
    from agentlightning_nb.rl.weights import save_model

    path = tmp_path_factory.mktemp("model") / "tiny"
    save_model(*make_tiny(seed=0), path)
    return str(path)


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    "A run of three steps that was stopped after two and gone on with, and all that verl had of its rows."
    held: list[tuple] = []
    patch = pytest.MonkeyPatch()
    patch.setattr(Session, "_seen", keeping(Session._seen, held))
    path = tmp_path_factory.mktemp("run") / "run.db"
    algorithm = VERL(model=tiny, lr=1e-3, n=3, batch_size=2, max_steps=STEPS, max_tokens=16, eval_every=2, **options())
    with Trainer(n_workers=6, store=path) as trainer:
        run = trainer.start(asks_twice, algorithm=algorithm, tasks=TASKS, val_tasks=TASKS[:2])
        run.subscribe(lambda: run.step == 2 and run.stop())
        run.wait(600)
        first = (run.status, run.step, dict(run.state or {}))
        run = trainer.fit(asks_twice, algorithm=algorithm, tasks=TASKS, val_tasks=TASKS[:2], resume=run, progress=False)
        yield trainer, run, first, held
    patch.undo()


def test_a_run_stops_at_a_step_and_goes_on_from_its_checkpoint(trained):
    trainer, run, first, _ = trained
    assert first[:2] == ("stopped", 2) and first[2]["step"] == 2
    assert run.status == "succeeded" and run.step == STEPS
    steps = [m["step"] for m in trainer.store.query_metrics(run.run_id) if m["name"] == "reward"]
    assert steps == list(range(STEPS))


def test_sampler_and_trainer_agree_after_every_sync(trained):
    trainer, run, *_ = trained
    values = [m["value"] for m in trainer.store.query_metrics(run.run_id) if m["name"] == "probability_gap"]
    assert len(values) == STEPS and max(values) < 1e-4


def test_verl_has_each_trajectory_as_we_have_it(trained):
    trainer, run, _, held = trained
    assert len(held) >= 2 * STEPS
    assert any(row.position > 0 for row, *_ in held)  # turns that do not extend each other
    assert_same_trajectories(trainer.store, run.run_id, held)


def test_versions_and_rows_are_on_record(trained):
    trainer, run, _, held = trained
    assert run.resources["weights"].step == STEPS
    sampled = {r.step: r.resources_id for r in trainer.store.query_rollouts(run_id=run.run_id) if r.mode == "train"}
    assert len(set(sampled.values())) == STEPS
    for row, *_ in held:  # what the server said of its weights is the version the rollout ran under
        assert row.row.policy_version in sampled.values()
    rows = trainer.store.query_training_rows(run_id=run.run_id)
    assert {r.step for r in rows} == set(range(STEPS)) and any(r.advantage for r in rows)


def test_a_checkpoint_is_a_model_that_answers_in_this_kernel(trained):
    from transformers import AutoModelForCausalLM

    _, run, *_ = trained
    weights = run.resources["weights"]
    assert isinstance(weights, ModelWeights) and weights.path
    assert AutoModelForCausalLM.from_pretrained(weights.path).config.vocab_size > 0


def test_the_panel_and_the_exported_file_know_such_a_run(trained, tmp_path):
    from agentlightning_nb.export import export_run
    from agentlightning_nb.views.runs import run_view

    trainer, run, *_ = trained
    assert run_view(trainer.store, run.run_id)
    export_run(trainer.store, run.run_id, tmp_path / "run.html")
    assert "VERL" in (tmp_path / "run.html").read_text(encoding="utf-8")
