"The learning is exact: against numbers computed by hand, and against verl's own functions on the same batch."

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402

from agentlightning_nb.algorithms.learning import kept_rows, training_rows  # noqa: E402
from agentlightning_nb.engines.torch import TorchEngine  # noqa: E402
from agentlightning_nb.errors import RunError  # noqa: E402
from agentlightning_nb.rl.advantages import group_advantages  # noqa: E402
from agentlightning_nb.rl.losses import clipped_surrogate, normalised  # noqa: E402
from agentlightning_nb.rl.options import Memory, Objective, Optim  # noqa: E402
from agentlightning_nb.rl.policy import Policy, one_thread  # noqa: E402
from agentlightning_nb.rl.rows import TrainingRow, rows_of  # noqa: E402
from agentlightning_nb.rl.tiny import TOOLS, make_model, make_tokenizer  # noqa: E402
from agentlightning_nb.types import AgentLightningTask, LitRollout, Triplet  # noqa: E402

VERL = json.loads((Path(__file__).parent / "data" / "verl.json").read_text())


def log(*ratios):
    return torch.tensor(ratios).log()


def flat(rows):
    return torch.tensor(rows, dtype=torch.float64).flatten()


# by hand


def test_advantages_by_hand():
    assert group_advantages([1, 0, 0, 0], "aaaa") == [0.75, -0.25, -0.25, -0.25]
    assert group_advantages([1, 0, 0, 0], "aaaa", scale="group")[0] == pytest.approx(1.5, abs=1e-4)
    assert group_advantages([1, None, 0, 5], "aaab") == [0.5, 0.0, -0.5, 0.0]  # none left out, a lone one has no group
    assert group_advantages([0.3, 0.3, 0.3], "aaa", scale="group") == [0, 0, 0]


def test_the_clipped_loss_by_hand():
    s = clipped_surrogate(log(0.5, 1, 1.5), torch.zeros(3), torch.tensor([1.0, -1, 2]), clip_low=0.2, clip_high=0.2)
    assert s.loss.tolist() == pytest.approx([-0.5, 1, -2.4]) and s.loss.mean().item() == pytest.approx(
        -0.6333, abs=1e-4
    )
    assert s.clipped.tolist() == [False, False, True]


def test_the_dual_clip_by_hand():
    given = log(2, 2, 0.5), torch.zeros(3), torch.tensor([2.0, -2, 2])
    s = clipped_surrogate(*given, clip_low=0.2, clip_high=0.2, dual_clip=1.5)
    assert s.loss.tolist() == pytest.approx([-2.4, 3, -1])


def test_a_wild_ratio_stays_finite():
    s = clipped_surrogate(torch.tensor([0.0]), torch.tensor([-1000.0]), torch.tensor([-1.0]))
    assert torch.isfinite(s.loss).all()


def test_micro_batches_add_up_to_the_step():
    torch.manual_seed(0)
    loss, mask = torch.randn(4, 6), (torch.rand(4, 6) < 0.6).float()
    whole = normalised(loss, mask, float(mask.sum()))
    for size in (1, 2, 4):
        parts = zip(loss.split(size), mask.split(size), strict=True)
        assert sum(normalised(a, m, float(mask.sum())) for a, m in parts).item() == pytest.approx(
            whole.item(), rel=1e-5
        )


def test_turns_are_merged_while_they_go_on_and_every_sampled_token_counts_once():
    one = Triplet([1, 2], [3, 4], [-0.1, -0.2])
    two = Triplet([1, 2, 3, 4, 5, 6], [7], [-0.3], finish_reason="stop")
    (row,) = rows_of([one, two])
    assert row.token_ids == [1, 2, 3, 4, 5, 6, 7] and row.mask == [0, 0, 1, 1, 0, 0, 1]
    assert row.behaviour_logprobs == [0, 0, -0.1, -0.2, 0, 0, -0.3] and row.finish_reason == "stop"
    forked = rows_of([one, Triplet([1, 2, 9, 4, 5], [7], [-0.3])])
    assert [r.mask for r in forked] == [[0, 0, 1, 1], [0, 0, 0, 0, 0, 1]] and "position 2" in forked[1].fork


def a_rollout(reward, group, *triplets):
    lit = LitRollout.model_construct(
        rollout_id=f"ro-{reward}", group_id=group, final_reward=reward, status="succeeded", task=AgentLightningTask()
    )
    return lit.reading(lambda: [], lambda: list(triplets))


def test_a_rollout_that_forks_weighs_once_in_its_groups_mean():
    forks = Triplet([1], [2], [-0.1]), Triplet([5], [6], [-0.1])
    rows = training_rows([a_rollout(1.0, "g", *forks), a_rollout(0.0, "g", Triplet([1], [3], [-0.1]))])
    assert [r.advantage for r in rows] == [0.5, 0.5, -0.5]


# against verl


@pytest.mark.parametrize("scale", ["none", "group"])
def test_advantages_are_verls(scale):
    b = VERL["batch"]
    assert group_advantages(b["rewards"], b["groups"], scale=scale) == pytest.approx(
        VERL["judged"]["advantages"][scale], abs=1e-6
    )


@pytest.mark.parametrize("verl", VERL["judged"]["losses"], ids=lambda v: f"{v['low']}-{v['high']}-{v['dual']}")
def test_loss_and_gradient_are_verls(verl):
    b, width = VERL["batch"], len(VERL["batch"]["mask"][0])
    now, mask = flat(b["now"]).requires_grad_(), flat(b["mask"])
    advantage = torch.tensor(group_advantages(b["rewards"], b["groups"])).repeat_interleave(width)
    clip = {"clip_low": verl["low"], "clip_high": verl["high"], "dual_clip": verl["dual"]}
    s = clipped_surrogate(now, flat(b["old"]), advantage, **clip)
    loss = normalised(s.loss, mask, float(mask.sum()))
    loss.backward()
    assert loss.item() == pytest.approx(verl["loss"], abs=2e-7)
    difference = (now.grad - flat(verl["gradient"])).norm() / flat(verl["gradient"]).norm()
    assert difference < 1e-6
    assert ((s.clipped * mask).sum() / mask.sum()).item() == pytest.approx(verl["clipped"] + verl["lower"], abs=1e-6)


# the update


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


def some_rows(policy, lengths=(9, 14, 11, 20), **fields):
    rng = random.Random(0)
    rows = []
    for i, n in enumerate(lengths):
        row = TrainingRow([rng.randrange(3, 300) for _ in range(n)], [0] * 4 + [1] * (n - 4), [0.0] * n, (-1.0) ** i)
        with torch.no_grad():
            logp = policy.logprobs([row])[0].tolist()
        rows.append(replace(row, behaviour_logprobs=[0.0] * 4 + logp, **fields))
    return rows


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def updated(tokenizer, **options):
    with one_thread(True):
        policy = Policy(make_model(tokenizer, seed=3), tokenizer, **options)
        for _ in range(3):
            policy.update(some_rows(policy))
    return weights(policy.model)


def test_an_update_is_deterministic_on_one_thread(tokenizer):
    assert torch.equal(updated(tokenizer), updated(tokenizer))


def test_micro_batches_give_the_same_gradient(tokenizer):
    def gradient(budget):
        policy = Policy(
            make_model(tokenizer, seed=3),
            tokenizer,
            memory=Memory(micro_batch_tokens=budget),
            optim=Optim(max_grad_norm=1e9),
        )
        policy.update(some_rows(policy), rate=0.0)
        return torch.cat([p.grad.flatten() for p in policy.model.parameters()])

    whole = gradient(10_000)
    assert ((gradient(1) - whole).norm() / whole.norm()).item() < 1e-6


def test_a_prompt_that_rows_share_is_computed_once_and_nothing_changes(tokenizer):
    def gradient(shared):
        policy = Policy(make_model(tokenizer, seed=3), tokenizer, optim=Optim(max_grad_norm=1e9))
        rows = some_rows(policy, lengths=(9, 14, 11, 20, 5, 8))
        prompts = [rows[0].token_ids[:4], [7, 8, 9]]
        rows = [
            replace(
                r,
                token_ids=[*prompts[i % 2], *r.token_ids[4:]],
                mask=[*([0] * len(prompts[i % 2])), *r.mask[4:]],
                behaviour_logprobs=[*([0.0] * len(prompts[i % 2])), *r.behaviour_logprobs[4:]],
            )
            for i, r in enumerate(rows)
        ]
        if not shared:
            policy.scorer.way = "whole"  # transformers' own forward, padded
        told = policy.update(rows, rate=0.0)
        return told, torch.cat([p.grad.flatten() for p in policy.model.parameters()])

    (one, a), (two, b) = gradient(True), gradient(False)
    assert ((a - b).norm() / b.norm()).item() < 1e-5
    del one["peak_memory_mb"], two["peak_memory_mb"]
    assert one == pytest.approx(two, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("heads, prompt", [((2, 2), 5), ((2, 1), 5), ((2, 2), 20)])
def test_answers_that_begin_alike_are_computed_once_and_nothing_changes(tokenizer, heads, prompt):
    rng, rows = random.Random(0), []
    for i in range(40):  # two groups whose answers are made of two tokens, at two temperatures
        ids = [*range(5, 4 + prompt), 50 + i % 2, *rng.choices((7, 8), k=rng.randint(1, 6))]
        mask = [0] * prompt + [1] * (len(ids) - prompt)
        rows.append(TrainingRow(ids, mask, [-0.7 * m for m in mask], rng.uniform(-1, 1), temperature=1.0 + i % 3 // 2))

    def gradient(way):
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=2, max_position_embeddings=64,
                num_attention_heads=heads[0], num_key_value_heads=heads[1],
            )
        )  # fmt: skip
        policy = Policy(model, tokenizer, optim=Optim(max_grad_norm=1e9), objective=Objective(entropy=0.1))
        policy.scorer.way = way
        told = policy.update(rows, rate=0.0)
        return policy.batch(rows), told, torch.cat([p.grad.flatten() for p in model.parameters()])

    torch.manual_seed(0)
    tree, one, a = gradient("packed")
    torch.manual_seed(0)
    plain, two, b = gradient("whole")
    assert tree.until is not None and plain.until is None
    assert len(tree.source) < len(tree.drawn) / 2 and tree.parts[0] == (19 if prompt == 20 else 0)
    assert ((a - b).norm() / b.norm()).item() < 1e-5
    del one["peak_memory_mb"], two["peak_memory_mb"]
    assert one == pytest.approx(two, rel=1e-4, abs=1e-6)


def test_when_all_answers_were_cut_off_nothing_moves(tokenizer):
    policy = Policy(make_model(tokenizer), tokenizer)
    policy.update(some_rows(policy))  # so that there is momentum
    before = weights(policy.model)
    told = policy.update(some_rows(policy, finish_reason="length"))
    assert told["skipped"] == 1.0 and torch.equal(weights(policy.model), before)


def test_a_loss_that_is_no_number_names_its_rollouts_and_leaves_the_weights(tokenizer):
    policy = Policy(make_model(tokenizer), tokenizer)
    rows = some_rows(policy)
    policy.update(rows)
    before, updates = weights(policy.model), policy.updates
    broken = [replace(rows[0], rollout_id="ro-bad", advantage=float("nan")), *rows[1:]]
    with pytest.raises(RunError, match="not finite.* from rollouts: ro-bad[.]"):
        policy.update(broken)
    assert torch.equal(weights(policy.model), before) and policy.updates == updates
    assert policy.update(rows)["grad_norm"] > 0  # and it can go on


def test_rows_without_an_advantage_are_not_computed(tokenizer):
    policy = Policy(make_model(tokenizer), tokenizer)
    rows = some_rows(policy)
    told = policy.update([replace(rows[0], advantage=0.0), *rows[1:]])
    assert (told["rows"], told["rows_used"]) == (4.0, 3.0)


def test_an_update_leaves_the_logprobs_it_saw_and_why_a_row_was_dropped(tokenizer):
    policy = Policy(make_model(tokenizer, seed=3), tokenizer)
    first, second, third, fourth = some_rows(policy)
    cut = replace(third, advantage=1.0, finish_reason="length")
    rows = [
        replace(first, advantage=1.0, calls=("sp-1",)),
        replace(second, advantage=0.0),
        cut,
        replace(fourth, advantage=-1.0),
    ]
    logp, _, which = policy.logprobs([rows[0]])
    policy.update(rows)
    kept = kept_rows(rows, policy)
    assert [k["dropped"] for k in kept] == ["", "no advantage", "truncated", ""]
    assert [k["logprobs"] is None for k in kept] == [False, True, True, False]
    assert kept[0]["logprobs"] == pytest.approx(logp.tolist(), abs=1e-5)
    assert kept[0]["calls"] == ["sp-1"] and all(k["tokens"] == sum(r.mask) for k, r in zip(kept, rows, strict=True))


def test_a_checkpoint_goes_on_as_if_nothing_had_happened(tokenizer, tmp_path):
    from agentlightning_nb.rl.weights import load_model

    with one_thread(True):
        policy = Policy(make_model(tokenizer, seed=3), tokenizer)
        rows = some_rows(policy)
        policy.update(rows)
        policy.save(tmp_path / "step-1")
        policy.update(rows)
        again = Policy(*load_model(tmp_path / "step-1"))
        again.load_optimizer(tmp_path / "step-1")
        again.update(rows)
    assert torch.equal(weights(policy.model), weights(again.model))
    assert [p.name for p in tmp_path.iterdir()] == ["step-1"]


# the engine: what it says it sampled is what the policy thinks of it


def ask(engine, text, session=None, **options):
    import asyncio

    body = {"messages": [{"role": "user", "content": text}], "tools": TOOLS, "max_tokens": 12} | options
    return asyncio.run(engine.chat(body, session=session))


def test_the_policy_gives_the_sampled_tokens_the_logprobs_they_were_sampled_with(tokenizer):
    policy = Policy(make_model(tokenizer, seed=1), tokenizer)
    with TorchEngine(policy.model, tokenizer) as engine:
        for temperature in (1.0, 0.7):
            reply = ask(engine, "What is 2 + 3?", temperature=temperature)
            (row,) = rows_of([Triplet(reply.prompt_ids, reply.response_ids, reply.logprobs, temperature=temperature)])
            with torch.no_grad():
                assert policy.logprobs([row])[0].tolist() == pytest.approx(reply.logprobs, abs=2e-5)


def test_a_seeded_request_is_answered_the_same_whoever_else_asks(tokenizer):
    import asyncio

    async def together(engine):
        body = {"messages": [{"role": "user", "content": "Compute 1 + 1."}], "max_tokens": 12}
        return await asyncio.gather(engine.chat(body | {"seed": 7}), *(engine.chat(body) for _ in range(5)))

    with TorchEngine(make_model(tokenizer, seed=1), tokenizer) as engine:
        alone = ask(engine, "Compute 1 + 1.", seed=7, tools=None)
        crowded = asyncio.run(together(engine))[0]
    assert crowded.response_ids == alone.response_ids


def test_greedy_is_the_likeliest_token_each_time(tokenizer):
    model = make_model(tokenizer, seed=1)
    with TorchEngine(model, tokenizer) as engine:
        reply = ask(engine, "What is 2 + 3?", temperature=0)
    ids = list(reply.prompt_ids)
    for token in reply.response_ids:
        with torch.no_grad():
            assert int(model(torch.tensor([ids])).logits[0, -1].argmax()) == token
        ids.append(token)
