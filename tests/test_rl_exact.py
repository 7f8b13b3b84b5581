"Every advantage, loss, penalty and weight equals verl's on the same batch, and a whole update equals TRL's."

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from agentlightning_nb.errors import BadRequestError  # noqa: E402
from agentlightning_nb.rl.advantages import advantages  # noqa: E402
from agentlightning_nb.rl.losses import Counts, Tokens, kl_penalty, mismatch_weights, terms  # noqa: E402
from agentlightning_nb.rl.options import KL, Clip, Mismatch, Objective, Optim  # noqa: E402
from agentlightning_nb.rl.policy import Policy  # noqa: E402
from agentlightning_nb.rl.rows import TrainingRow  # noqa: E402
from agentlightning_nb.rl.tiny import make_model, make_tokenizer  # noqa: E402

VERL = json.loads((Path(__file__).parent / "data" / "verl.json").read_text())
BATCH, JUDGED = VERL["batch"], VERL["judged"]
MASK = torch.tensor(BATCH["mask"]).bool()
ROW = MASK.nonzero()[:, 0]
LENGTHS = MASK.sum(1).tolist()
NAMES = {"reinforce_plus_plus": "reinforce++", "reinforce_plus_plus_baseline": "reinforce++_baseline", "rloo": "rloo"}
NAMES |= {"none": "dr_grpo", "group": "grpo"}


def flat(rows):
    "The values that the mask keeps, row by row."
    return torch.tensor(rows, dtype=torch.float64)[MASK].float()


def relative(a, b):
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("theirs, ours", NAMES.items())
def test_advantages_are_verls(theirs, ours):
    found = advantages(ours, BATCH["rewards"], BATCH["groups"], LENGTHS)
    assert found == pytest.approx(JUDGED["advantages"][theirs], abs=1e-5)


def test_max_rl_is_its_papers():
    assert advantages("max_rl", [1, 0, 0, 0, 1, 1], "aaaabb", [1] * 6) == [3, -1, -1, -1, 0, 0]
    assert advantages("max_rl", [0, 0], "aa", [1, 1]) == [0, 0]
    with pytest.raises(BadRequestError, match="not negative"):
        advantages("max_rl", [1, -1], "aa", [1, 1])


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "rloo", "max_rl", "reinforce++_baseline"])
def test_a_lone_member_of_a_group_gets_nothing(name):
    assert advantages(name, [1.0, 0.0, 5.0], "aab", [3, 3, 3])[2] == 0.0


def loss_of(case):
    "Our loss for a case of verl's, its gradient, and the share of clipped tokens."
    objective = Objective(
        loss={"vanilla": "ppo"}.get(case["name"], case["name"]),
        clip=Clip(case["low"], case["high"], 3.0 if case["name"] == "vanilla" else None),
        normalise=case["normalise"],
        constant=BATCH["constant"] if case["normalise"] == "constant" else None,
        mismatch=Mismatch("tis") if case["weighted"] else Mismatch(),
    )
    now = flat(BATCH["now"]).requires_grad_()
    worth = torch.tensor(JUDGED["advantages"]["none"])[ROW]
    old, behaviour = flat(BATCH["old"]), flat(BATCH["behaviour"])
    t = Tokens(now, old, behaviour, worth, ROW, len(MASK), torch.ones_like(now))
    loss, clipped, _ = terms(t, objective, Counts(float(len(now)), float(len(MASK))))
    loss.backward()
    return loss.item(), now.grad, clipped.float().mean().item()


@pytest.mark.parametrize("case", JUDGED["named"], ids=lambda c: f"{c['name']}-{c['normalise']}-{c['weighted']}")
def test_losses_and_gradients_are_verls(case):
    loss, gradient, clipped = loss_of(case)
    assert loss == pytest.approx(case["loss"], abs=1e-6)
    assert relative(gradient, flat(case["gradient"])) < 1e-5
    assert clipped == pytest.approx(case["clipped"], abs=1e-6)


@pytest.mark.parametrize("case", JUDGED["divergences"], ids=lambda c: c["kind"])
def test_penalties_and_their_gradients_are_verls(case):
    now = flat(BATCH["now"]).requires_grad_()
    loss = kl_penalty(now, flat(BATCH["reference"]), case["kind"]).mean()
    loss.backward()
    assert loss.item() == pytest.approx(case["loss"], abs=1e-6)
    assert relative(now.grad, flat(case["gradient"])) < 1e-5


@pytest.mark.parametrize("case", JUDGED["weights"], ids=lambda c: f"{c['how']}-{c['level']}")
def test_weights_for_the_mismatch_are_verls(case):
    mismatch = Mismatch(case["how"], case["level"])
    found = mismatch_weights(flat(BATCH["old"]), flat(BATCH["behaviour"]), ROW, len(MASK), mismatch)
    assert found.tolist() == pytest.approx(flat(case["weights"]).tolist(), rel=1e-5, abs=1e-6)


# a whole update beside TRL's


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


def some_rows(policy):
    "Two groups of three, prompts of different lengths, off-policy; one row is worth nothing but counts."
    rng, rows = random.Random(0), []
    for i, n in enumerate((3, 9, 1, 6, 12, 4)):
        prompt = list(range(5, 12)) if i < 3 else [40, 41, 42]
        ids = prompt + [rng.randrange(3, 300) for _ in range(n)]
        mask = [0] * len(prompt) + [1] * n
        row = TrainingRow(ids, mask, [0.0] * len(ids), 0.0 if i == 4 else rng.uniform(-1, 1))
        logp = policy.logprobs([row])[0].detach() + 0.3 * torch.randn(n, generator=torch.Generator().manual_seed(i))
        rows.append(replace(row, behaviour_logprobs=[0.0] * len(prompt) + logp.tolist()))
    return rows


def as_trl_has_it(rows, pad):
    "The rows as TRL's trainer pads them: prompts on the left, answers on the right."
    first = [r.mask.index(1) for r in rows]
    longest = max(sum(r.mask) for r in rows)

    def prompt(values, fill):
        return torch.tensor([[fill] * (max(first) - n) + list(v[:n]) for v, n in zip(values, first, strict=True)])

    def answer(values, fill):
        return torch.tensor([list(v[n:]) + [fill] * (longest - len(v) + n) for v, n in zip(values, first, strict=True)])

    mask = answer([r.mask for r in rows], 0)
    return {
        "prompt_ids": prompt([r.token_ids for r in rows], pad),
        "prompt_mask": prompt([[1] * len(r.mask) for r in rows], 0),
        "completion_ids": answer([r.token_ids for r in rows], pad),
        "completion_mask": mask,
        "advantages": torch.tensor([r.advantage for r in rows]),
        "old_per_token_logps": answer([r.behaviour_logprobs for r in rows], 0.0),
        "num_items_in_batch": mask.sum(),
    }


OF_TRL = {
    "dapo": (Objective(clip=Clip(0.2, 0.28)), {"loss_type": "dapo"}),
    "grpo": (Objective(clip=Clip(0.2, 0.28), normalise="sequences"), {"loss_type": "grpo"}),
    "dr_grpo": (Objective(clip=Clip(0.2, 0.28), normalise="constant", constant=32), {"loss_type": "dr_grpo"}),
    "entropy": (Objective(clip=Clip(0.2, 0.28), entropy=0.1), {"loss_type": "dapo", "entropy_coef": 0.1}),
    "gspo": (
        Objective(loss="gspo", clip=Clip(0.05, 0.08), normalise="sequences"),
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.05, "epsilon_high": 0.08},
    ),
    "cispo": (Objective(loss="cispo", clip=Clip(high=0.2)), {"loss_type": "cispo", "epsilon_high": 1.2}),
}


def beside_trl(name, tokenizer, folder):
    "Our loss and TRL's for the same rows, and how far their gradients are apart."
    import datasets
    import trl

    objective, chosen = OF_TRL[name]
    policy = Policy(make_model(tokenizer, seed=3), tokenizer, objective=objective, optim=Optim(max_grad_norm=1e9))
    rows = some_rows(policy)
    told = policy.update(rows, rate=0.0)
    config = trl.GRPOConfig(
        **{"epsilon": 0.2, "epsilon_high": 0.28} | chosen,
        output_dir=folder,
        per_device_train_batch_size=6,
        num_generations=3,
        max_completion_length=32,
        beta=0.0,
        temperature=1.0,
        bf16=False,
        use_cpu=True,
        report_to=[],
        gradient_checkpointing=False,
    )
    data = datasets.Dataset.from_list([{"prompt": "1"}])
    model = make_model(tokenizer, seed=3)
    trainer = trl.GRPOTrainer(model, lambda **_: [0.0], args=config, train_dataset=data, processing_class=tokenizer)
    trainer.current_gradient_accumulation_steps = 1
    model.train()
    loss = trainer._compute_loss(model, as_trl_has_it(rows, tokenizer.pad_token_id))
    loss.backward()
    ours, theirs = (
        torch.cat([p.grad.flatten() for p in m.parameters() if p.grad is not None]) for m in (policy.model, model)
    )
    return told["loss"], loss.item(), relative(ours, theirs)


@pytest.mark.parametrize("name", OF_TRL)
def test_the_update_is_trls(name, tokenizer, tmp_path):
    pytest.importorskip("trl")
    pytest.importorskip("datasets")
    ours, theirs, gradients = beside_trl(name, tokenizer, tmp_path)
    assert ours == pytest.approx(theirs, abs=1e-6)
    assert gradients < 5e-6


# by name from verl


def test_an_estimator_and_a_loss_of_verl_are_found_by_name(tokenizer):
    pytest.importorskip("verl")
    from agentlightning_nb.algorithms.learning import estimated

    groups, rewards = BATCH["groups"], BATCH["rewards"]
    for name in ("rloo", "opo", "grpo_passk"):
        assert estimated(f"verl:{name}", rewards, groups, LENGTHS) == pytest.approx(
            JUDGED["advantages"][name], abs=1e-5
        )
    with pytest.raises(BadRequestError, match="verl has no advantage named 'nonsense'"):
        estimated("verl:nonsense", rewards, groups, LENGTHS)

    def gradient(loss):
        objective = Objective(loss=loss, clip=Clip(0.2, 0.28, 3.0), kl=KL(0.05))
        policy = Policy(make_model(tokenizer, seed=3), tokenizer, objective=objective, optim=Optim(max_grad_norm=1e9))
        policy.update(some_rows(policy), rate=0.0)
        return torch.cat([p.grad.flatten() for p in policy.model.parameters()])

    assert relative(gradient("verl:vanilla"), gradient("ppo")) < 1e-5
    assert gradient("verl:sapo").isfinite().all()
