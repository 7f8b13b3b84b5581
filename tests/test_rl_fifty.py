"Engine and trainer give the same tokens the same probabilities after each of fifty updates, whoever holds the head of the model."

import asyncio
import copy
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from transformers import LlamaForCausalLM  # noqa: E402

from agentlightning_nb.engines.torch import Torch  # noqa: E402
from agentlightning_nb.rl.policy import Policy, one_thread  # noqa: E402
from agentlightning_nb.rl.rows import rows_of  # noqa: E402
from agentlightning_nb.rl.tiny import make_model, make_tokenizer  # noqa: E402
from agentlightning_nb.types import Triplet  # noqa: E402

KINDS = [(tied, apart) for tied in (True, False) for apart in (False, True)]


def a_model(tokenizer, tied):
    made = make_model(tokenizer, seed=1)
    if not tied:
        config = copy.deepcopy(made.config)
        config.tie_word_embeddings = False
        torch.manual_seed(1)
        made = LlamaForCausalLM(config)
    return made.eval()


def sampled(engine, step):
    "Two rows that the engine samples at once."
    body = {"messages": [{"role": "user", "content": f"What is {step} + 3?"}], "max_tokens": 8}

    async def both():
        return await asyncio.gather(*(engine.chat(body | {"seed": 2 * step + i}) for i in range(2)))

    found = []
    for worth, reply in zip((1.0, -1.0), asyncio.run(asyncio.wait_for(both(), 60)), strict=True):
        (row,) = rows_of([Triplet(reply.prompt_ids, reply.response_ids, reply.logprobs, finish_reason="stop")])
        found.append(replace(row, advantage=worth))
    return found


def differences(tied, apart, updates=50):
    "The greatest difference of a sampled token's probability after each update; `apart` when the engine has a copy of the weights."
    tokenizer = make_tokenizer()
    policy, found = Policy(a_model(tokenizer, tied), tokenizer), []
    engine = Torch(copy=apart).open(policy.model, tokenizer)
    with one_thread(True), engine:
        for step in range(updates):
            rows = sampled(engine, step)
            with engine.paused():
                policy.update(rows)
            engine.push(policy.model, f"rs-{step}")
            for row in sampled(engine, step + 1):
                told = torch.tensor([p for p, m in zip(row.behaviour_logprobs, row.mask, strict=True) if m])
                with torch.no_grad():
                    found.append((told.exp() - policy.logprobs([row])[0].exp()).abs().max().item())
    moved = (
        policy.model.get_output_embeddings().weight - a_model(tokenizer, tied).get_output_embeddings().weight
    ).abs()
    return found, moved.max().item()


@pytest.mark.parametrize(("tied", "apart"), KINDS, ids=lambda kind: str(kind))
def test_probabilities_are_the_trainers_after_each_of_fifty_updates(tied, apart):
    found, moved = differences(tied, apart)
    assert len(found) == 100 and max(found) < 1e-5 and moved > 0.01
