"Sampling by graphs, probabilities that agree, updates in half precision, and an agent that learns, on a GPU."

import asyncio
import os
from copy import deepcopy
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from agentlightning_nb.algorithms.grpo import GRPO  # noqa: E402
from agentlightning_nb.demo import CalculatorAgent  # noqa: E402
from agentlightning_nb.engines.decoding import ReferenceDecoder, differs  # noqa: E402
from agentlightning_nb.engines.flat import WORTH, FlatDecoder  # noqa: E402
from agentlightning_nb.engines.torch import Torch, TorchEngine  # noqa: E402
from agentlightning_nb.engines.vllm import VLLM  # noqa: E402
from agentlightning_nb.rl.options import Memory  # noqa: E402
from agentlightning_nb.rl.policy import Policy  # noqa: E402
from agentlightning_nb.rl.rows import rows_of  # noqa: E402
from agentlightning_nb.rl.tiny import calculator_tasks, make_model, make_tiny, make_tokenizer  # noqa: E402
from agentlightning_nb.trainer import Trainer  # noqa: E402
from agentlightning_nb.types import Triplet  # noqa: E402

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def small(grouped: bool = False):
    "A model on the GPU, with heads that share keys or without."
    from transformers import Qwen2Config, Qwen2ForCausalLM

    if not grouped:
        return make_model(make_tokenizer()).eval().to("cuda")
    torch.manual_seed(0)
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2}
    config = Qwen2Config(vocab_size=600, hidden_size=128, intermediate_size=256, max_position_embeddings=2048, **heads)
    return Qwen2ForCausalLM(config).eval().to("cuda")


@pytest.mark.parametrize("grouped", [False, True])
def test_graphs_give_the_scores_of_the_yardstick_while_rows_come_and_go(grouped):
    model = small(grouped)
    assert differs(FlatDecoder(model), ReferenceDecoder(model), 400) < 1e-4
    flat, exact = FlatDecoder(model), ReferenceDecoder(model)
    draw = torch.Generator().manual_seed(1)
    for rows in ([[5, 9, 11], [7, 7, 7, 7, 3]], [[4, 4]]):
        for decoder in (flat, exact):
            decoder.add(rows)
        for _ in range(WORTH + 4):
            n = exact._size()
            tokens = torch.randint(1, 400, (n,), generator=draw).to("cuda")
            torch.testing.assert_close(
                flat.step(tokens).log_softmax(-1), exact.step(tokens).log_softmax(-1), atol=1e-4, rtol=0
            )
        assert flat.replayed is not None and flat.replayed.cache is flat.cache, "no step was replayed"
    for decoder in (flat, exact):
        decoder.keep([0, 2])
    for _ in range(WORTH + 4):
        tokens = torch.randint(1, 400, (2,), generator=draw).to("cuda")
        torch.testing.assert_close(
            flat.step(tokens).log_softmax(-1), exact.step(tokens).log_softmax(-1), atol=1e-4, rtol=0
        )


def rows_from(engine: TorchEngine, n: int, new: int = 40):
    async def ask():
        return await asyncio.gather(
            *(engine.complete({"prompt": [5, 9, 11 + i % 2], "max_tokens": new, "ignore_eos": True}) for i in range(n))
        )

    return [
        row
        for r in asyncio.run(ask())
        for row in rows_of([Triplet(r.prompt_ids, r.response_ids, r.logprobs, temperature=1.0)])
    ]


@pytest.mark.parametrize("grouped", [False, True])
def test_engine_and_trainer_agree_after_updates(grouped):
    model, tokenizer = small(grouped), make_tokenizer()
    policy = Policy(model, tokenizer)
    with TorchEngine(model, tokenizer) as engine:
        for step in range(5):
            rows = rows_from(engine, 8)
            logp, _, _ = policy.logprobs(rows)
            sampled = torch.tensor([p for r in rows for p, m in zip(r.behaviour_logprobs, r.mask, strict=True) if m])
            assert (logp.detach().cpu() - sampled).abs().max() < 1e-4, f"after {step} updates"
            with engine.paused():
                told = policy.update([replace(r, advantage=(-1.0) ** i) for i, r in enumerate(rows)])
            assert told["grad_norm"] > 0 and told["peak_memory_mb"] > 0


@pytest.mark.parametrize("alike", [False, True])
def test_gradients_are_those_of_the_cpu(alike):
    model, tokenizer = small(grouped=True), make_tokenizer()
    with TorchEngine(model, tokenizer) as engine:
        rows = rows_from(engine, 6, 8 if alike else 40)
    if alike:  # a group whose answers are the same but for their ends
        rows = [replace(r, token_ids=rows[0].token_ids[:-2] + r.token_ids[-2:]) for r in rows for _ in "ab"]
    found = []
    for there in (model, deepcopy(model).to("cpu")):
        policy = Policy(there, tokenizer)
        assert (policy.batch(rows).until is not None) == alike
        policy.logprobs(rows)[0].sum().backward()
        found.append(torch.cat([p.grad.flatten().cpu() for p in there.parameters()]))
    assert (found[0] - found[1]).norm() / found[1].norm() < 1e-4


def test_half_precision_keeps_the_weights_whole():
    model, tokenizer = small(grouped=True), make_tokenizer()
    policy = Policy(model, tokenizer, memory=Memory(dtype="bfloat16"))
    engine = Torch(copy=True, dtype="bfloat16").open(model, tokenizer)
    try:
        told = policy.update([replace(r, advantage=(-1.0) ** i) for i, r in enumerate(rows_from(engine, 8))])
    finally:
        engine.close()
    assert engine.model.dtype == torch.bfloat16 and {p.dtype for p in model.parameters()} == {torch.float32}
    assert told["grad_norm"] > 0 and told["logprob_gap"] < 0.05


def test_the_demo_learns(tmp_path):
    model, tokenizer = make_tiny()
    algorithm = GRPO(model, tokenizer, max_steps=40, eval_every=40, memory=Memory(device="cuda"))
    tasks, held_out = calculator_tasks(2000), calculator_tasks(100, seed=1, held_out=True)
    with Trainer(n_workers=64, store=tmp_path / "run.db") as trainer:
        run = trainer.fit(CalculatorAgent(), algorithm=algorithm, tasks=tasks, val_tasks=held_out, progress=False)
        rewards = [m["value"] for m in trainer.store.query_metrics(run.run_id, name="reward")]
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.4, rewards


@pytest.mark.timeout(900)
@pytest.mark.skipif(not os.environ.get("AGENTLIGHTNING_VLLM_PYTHON"), reason="AGENTLIGHTNING_VLLM_PYTHON names no vLLM")
def test_what_vllm_samples_is_what_learns(tmp_path):
    model, tokenizer = make_tiny()
    half = VLLM(dtype="bfloat16", arguments=("--gpu-memory-utilization", "0.3"))
    algorithm = GRPO(model, tokenizer, max_steps=40, engine=half, memory=Memory(device="cuda"))
    with Trainer(n_workers=64, store=tmp_path / "run.db") as trainer:
        run = trainer.fit(CalculatorAgent(), algorithm=algorithm, tasks=calculator_tasks(2000), progress=False)
        told = {
            name: [m["value"] for m in trainer.store.query_metrics(run.run_id, name=name)]
            for name in ("reward", "logprob_gap")
        }
    assert run.step == 40 and max(told["logprob_gap"]) < 0.05, told["logprob_gap"]
    assert sum(told["reward"][-5:]) / 5 > sum(told["reward"][:5]) / 5 + 0.4, told["reward"]
