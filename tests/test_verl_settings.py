"What verl is told: rows and masks need nothing, settings need verl's own files, and no test here starts anything."

import ast
import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agentlightning_nb.algorithms.base import algorithm_names
from agentlightning_nb.algorithms.verl import VERL
from agentlightning_nb.errors import BadRequestError, MissingExtraError
from agentlightning_nb.server import AgentLightningServer
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.types import AgentLightningTask, LitRollout, Triplet
from agentlightning_nb.verl.cpu import on_cpu
from agentlightning_nb.verl.rows import fields_of, tag_of, verl_rows
from agentlightning_nb.verl.settings import check_name, defaults, flat

has_verl = importlib.util.find_spec("verl") is not None
needs_verl = pytest.mark.skipif(not has_verl, reason="verl is not installed")


def lit(reward, *triplets, rollout_id="ro-1"):
    made = LitRollout.model_construct(rollout_id=rollout_id, final_reward=reward, task=AgentLightningTask())
    return made.reading(list, lambda: list(triplets))


def test_verl_is_known_by_name():
    assert "verl" in algorithm_names()


@pytest.mark.skipif(has_verl, reason="verl is installed")
def test_without_verl_the_run_ends_and_names_the_extra():
    from agentlightning_nb.litagent import rollout

    with Trainer(n_workers=1) as trainer:
        run = trainer.start(rollout(lambda task: 1.0), algorithm="verl", tasks=["a"])
        with pytest.raises(MissingExtraError, match=r"agentlightning_nb\[gpu\]"):
            run.wait(30)
        assert run.status == "failed"


def test_turns_that_extend_each_other_are_one_row_and_others_their_own():
    first, second = Triplet([1, 2], [3], [-0.1]), Triplet([1, 2, 3, 4], [5, 6], [-0.2, -0.3])
    rows = verl_rows(
        {"u": [lit(1.0, first, second, Triplet([9], [8], [-0.4])), lit(0.0, first)]}, temperature=1.0, longest=9
    )
    assert [r.key for r in rows] == ["u_0_0", "u_0_1", "u_1_0"]
    assert (rows[0].prompt, rows[0].response, rows[0].mask) == ([1, 2], [3, 4, 5, 6], [1, 0, 1, 1])
    assert rows[0].logprobs == [-0.1, 0.0, -0.2, -0.3]
    fields = fields_of(rows[0])
    assert fields["input_ids"].tolist() == [1, 2, 3, 4, 5, 6] and fields["rm_scores"].tolist() == [0, 0, 0, 1.0]
    assert tag_of(rows[0], 4, 3)["seq_len"] == 6


def test_what_cannot_be_trained_keeps_its_reward_and_loses_its_mask():
    cut = Triplet([1], [2, 3], [-0.1, -0.1], finish_reason="length")
    greedy = Triplet([1], [2, 3], [-0.1, -0.1], temperature=0.0)
    rows = verl_rows(
        {"u": [lit(1.0, cut), lit(0.5, greedy), lit(0.0, Triplet([1], [2, 3], [-0.1, -0.1]))]},
        temperature=1.0,
        longest=9,
    )
    assert [r.mask for r in rows] == [[0, 0], [0, 0], [1, 1]]
    assert [r.dropped for r in rows] == ["truncated", "sampled at temperature 0", ""]
    assert [fields_of(r)["rm_scores"].sum().item() for r in rows] == [1.0, 0.5, 0.0]


def test_a_lone_survivor_is_left_out():
    assert verl_rows({"u": [lit(1.0, Triplet([1], [2], [-0.1])), lit(None)]}, temperature=1.0, longest=9) == []


@pytest.mark.parametrize("wrong", [{"n": 1}, {"gpus": 0}, {"lr": -1.0}, {"temperature": 0.0}, {"model": 3}])
def test_options_that_make_no_sense_are_named(wrong):
    with pytest.raises(BadRequestError, match=next(iter(wrong))):
        VERL(**wrong)._check()


def composed(tmp_path, **settings):
    from agentlightning_nb.rl.tiny import make_model, make_tokenizer
    from agentlightning_nb.rl.weights import save_model
    from agentlightning_nb.verl.settings import compose

    tokenizer = make_tokenizer()
    save_model(make_model(tokenizer, seed=0), tokenizer, tmp_path / "tiny")
    algorithm = VERL(model=str(tmp_path / "tiny"), batch_size=4, n=2)
    ours = algorithm.settings(str(tmp_path / "tiny"), tmp_path / "verl", tasks=8)
    return compose(ours, {**on_cpu()["config"], **settings})


@pytest.mark.cluster
@needs_verl
def test_any_setting_of_verl_passes_through(tmp_path, monkeypatch):
    monkeypatch.setenv("VERL_PLATFORM", "nvidia")
    config = composed(tmp_path, **{"algorithm": {"adv_estimator": "rloo"}, "actor_rollout_ref.actor.optim.lr": 0.5})
    assert config.algorithm.adv_estimator == "rloo" and config.actor_rollout_ref.actor.optim.lr == 0.5
    assert config.data.train_batch_size == 4 and config.actor_rollout_ref.rollout.n == 2


@pytest.mark.cluster
@needs_verl
@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"algorithm.adv_estimatr": "rloo"}, "Did you mean algorithm.adv_estimator"),
        ({"algoritm": {"gamma": 1}}, "algoritm is unknown"),
        ({"data.train_batch_size": 4}, "given by batch_size"),
        ({"trainer.v1.trainer_mode": "separate_async"}, "'sync'"),
        ({"actor_rollout_ref.actor.use_dynamic_bsz": False}, "verl refuses these settings"),
        ({"reward.reward_model.enable": True}, "Rewards come from the agent"),
    ],
)
def test_settings_that_verl_does_not_have_or_cannot_follow_are_refused(tmp_path, wrong, said):
    with pytest.raises(BadRequestError) as refused:
        composed(tmp_path, **wrong)
    assert said in str(refused.value)


GUIDE = (Path(__file__).parents[1] / "docs" / "cluster.md").read_text(encoding="utf-8")


@pytest.mark.cluster
@needs_verl
def test_what_the_guide_gives_to_verl_exists():
    calls = [
        call
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", GUIDE, re.M | re.S)
        if not language
        for call in ast.walk(ast.parse(block))
        if isinstance(call, ast.Call) and ast.unparse(call.func) in ("VERL", "Trainer", "AgentLightningServer")
    ]
    assert {ast.unparse(c.func) for c in calls} == {"VERL", "Trainer", "AgentLightningServer"}
    config = defaults()
    for call in calls:
        made = {"VERL": VERL, "Trainer": Trainer, "AgentLightningServer": AgentLightningServer}[ast.unparse(call.func)]
        known = inspect.signature(made).parameters
        assert {k.arg for k in call.keywords} <= set(known), ast.unparse(call)
        if made is VERL:
            given = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
            VERL(**given)._check()
            for path, _ in flat(given.get("config", {})):
                check_name(config, path)
    for path in re.findall(r'config=\{"([\w.]+)"', GUIDE):
        check_name(config, path)


@pytest.mark.cluster
@needs_verl
def test_the_commands_of_ray_in_the_guide_exist():
    commands = re.findall(r"\bray ((?:start|get-auth-token)(?: --[^\n`]*)?)", GUIDE)
    assert len(commands) >= 5
    for command in commands:
        verb, *words = command.split()
        given = {w.partition("=")[0] for w in words if w.startswith("--")}
        asked = [str(Path(sys.executable).parent / "ray"), verb, "--help"]
        told = subprocess.run(asked, capture_output=True, text=True, timeout=120).stdout
        assert given and all(f"{name} " in told or f"{name}\n" in told for name in given), command
