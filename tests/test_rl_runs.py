"Runs of GRPO with real parts and a model that has learned nothing: they resume bit for bit, are replayed from the file, and train whom they should."

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import aiohttp  # noqa: E402

from agentlightning_nb.algorithms.grpo import GRPO  # noqa: E402
from agentlightning_nb.algorithms.replay import replay  # noqa: E402
from agentlightning_nb.errors import NotFoundError  # noqa: E402
from agentlightning_nb.litagent import rollout  # noqa: E402
from agentlightning_nb.rl.options import Lora, Memory  # noqa: E402
from agentlightning_nb.rl.tiny import make_model, make_tokenizer  # noqa: E402
from agentlightning_nb.rl.weights import load_model  # noqa: E402
from agentlightning_nb.tracer import emit_reward  # noqa: E402
from agentlightning_nb.trainer import Trainer  # noqa: E402


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


async def say(llm, messages, agent=None, **options):
    headers = {"Authorization": f"Bearer {llm.api_key}"} | ({"x-agent-name": agent} if agent else {})
    async with aiohttp.ClientSession(headers=headers) as session:
        body = {"model": llm.model, "messages": messages} | options
        async with session.post(f"{llm.base_url}/chat/completions", json=body) as reply:
            reply.raise_for_status()
            return (await reply.json())["choices"][0]["message"]


def even(message):
    return float(len(message["content"] or "") % 2 == 0)


@rollout
async def two_turns(task, llm):
    asked = [{"role": "user", "content": task.input}]
    asked += [await say(llm, asked), {"role": "user", "content": "again"}]
    return even(await say(llm, asked))


def small(tokenizer, **options):
    usual = {"n": 4, "batch_size": 2, "max_tokens": 6, "truncated": "train", "eval_every": 2, "lr_end": 1.0}
    return GRPO(make_model(tokenizer, seed=3), tokenizer, **usual | options)


def fit(folder, algorithm, agent=two_turns, n_workers=4, **options):
    Path(folder).mkdir(exist_ok=True)
    with Trainer(n_workers=n_workers, store=Path(folder, "run.db")) as trainer:
        run = trainer.fit(agent, algorithm=algorithm, tasks=["a", "b", "c"], progress=False, **options)
        rows = trainer.store.query_training_rows(run_id=run.run_id)
        again = replay(trainer.store, run.run_id, run.step - 1) if run.status == "succeeded" else None
        return run, rows, again


def weights(run):
    model, _ = load_model(run.resources["weights"].path)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_a_run_that_was_interrupted_ends_with_the_very_same_weights(tokenizer, tmp_path):
    whole, _, again = fit(tmp_path / "a", small(tokenizer), n_workers=1, max_steps=4)
    half, _, _ = fit(tmp_path / "b", small(tokenizer), n_workers=1, max_steps=2)
    other = make_model(tokenizer, seed=9)  # what is given to a resumed run is not what it goes on with
    rest, _, _ = fit(
        tmp_path / "b",
        GRPO(other, tokenizer, n=4, batch_size=2, max_tokens=6, truncated="train", lr_end=1.0),
        n_workers=1,
        max_steps=4,
        resume=half.run_id,
    )
    assert (whole.step, rest.step) == (4, 4) and not torch.equal(weights(whole), weights(half))
    assert torch.equal(weights(whole), weights(rest))
    assert again.same and again.grad_norm == again.stored_grad_norm > 0


def test_replay_says_when_a_step_does_not_come_out_the_same(tokenizer, tmp_path):
    with Trainer(n_workers=4, store=tmp_path / "run.db") as trainer:
        run = trainer.fit(two_turns, algorithm=small(tokenizer), tasks=["a", "b"], max_steps=3, progress=False)
        found = replay(trainer.store, run.run_id, 2)
        assert found.same and (found.loss, found.grad_norm) == (found.stored_loss, found.stored_grad_norm)
        moved = tmp_path / "moved"
        Path(run.resources["weights"].path).parent.rename(moved)
        model, _ = load_model(moved / "step-00002")
        with torch.no_grad():
            model.lm_head.weight.mul_(1.5)
        model.save_pretrained(moved / "step-00002")
        assert not replay(trainer.store, run.run_id, 2, folder=moved).same
        with pytest.raises(NotFoundError, match="no finished step 7"):
            replay(trainer.store, run.run_id, 7)


def test_an_adapter_is_trained_kept_resumed_and_replayed(tokenizer, tmp_path):
    pytest.importorskip("peft")
    options = {"lora": Lora(rank=4), "lr": 1e-3}
    run, _, again = fit(tmp_path, small(tokenizer, **options), max_steps=2)
    assert run.status == "succeeded", run.reason
    assert again.same
    path = Path(run.resources["weights"].path)
    assert (path / "adapter_config.json").exists() and not list(path.glob("model*.safetensors"))
    before = make_model(tokenizer, seed=3)
    after, _ = load_model(path)
    inside = after.get_base_model().model.layers[0].self_attn.q_proj
    assert torch.equal(inside.base_layer.weight, before.model.layers[0].self_attn.q_proj.weight)
    assert inside.lora_B["default"].weight.abs().sum() > 0
    rest, _, again = fit(tmp_path, small(tokenizer, **options), max_steps=4, resume=run.run_id)
    assert rest.step == 4 and again.same


def test_a_model_of_another_family_is_trained_through_transformers(tokenizer, tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=128, eos_token_id=tokenizer.eos_token_id
    )
    usual = {"n": 4, "batch_size": 2, "max_tokens": 6, "truncated": "train", "memory": Memory(checkpointing=True)}
    run, rows, again = fit(tmp_path, GRPO(GPT2LMHeadModel(config), tokenizer, **usual), max_steps=2)
    assert run.status == "succeeded", run.reason
    assert again.same and any(r.logprobs for r in rows)


def test_only_the_named_agents_calls_are_trained(tokenizer, tmp_path):
    @rollout
    async def team(task, llm):
        draft = await say(llm, [{"role": "user", "content": task.input}], agent="writer")
        await say(llm, [{"role": "user", "content": "Good?"}], agent="critic")
        return even(draft)

    run, rows, again = fit(tmp_path, small(tokenizer, trained_agents=("writer",)), agent=team, max_steps=2)
    assert run.status == "succeeded", run.reason
    assert len(rows) == 16 and all(len(r.calls) == 1 for r in rows) and again.same
    with pytest.warns(
        RuntimeWarning, match="No call of editor was recorded in this step. Those who called: critic, policy, writer"
    ):
        fit(tmp_path / "b", small(tokenizer, trained_agents=("editor",)), agent=team, max_steps=1)


def test_an_agent_that_meddles_with_the_sampling_is_found_out(tokenizer, tmp_path):
    @rollout
    async def meddling(task, llm):
        return even(await say(llm, [{"role": "user", "content": task.input}], top_p=0.8))

    with pytest.warns(RuntimeWarning, match="sampled with top_p=0.8.*let the agent leave the sampling to the run"):
        run, _, _ = fit(tmp_path, small(tokenizer), agent=meddling, max_steps=1)
    assert run.status == "failed"


def test_each_turn_can_have_its_own_credit_and_a_fork_is_seen_in_the_store(tokenizer, tmp_path):
    @rollout
    async def rewriting(task, llm):
        first = await say(llm, [{"role": "user", "content": task.input}])
        emit_reward(even(first), "first")
        return even(await say(llm, [{"role": "user", "content": "Something else."}]))

    run, rows, again = fit(tmp_path, small(tokenizer, credit="turn"), agent=rewriting, max_steps=2)
    assert run.status == "succeeded", run.reason
    assert again.same
    assert [r.fork.split(" from")[0] for r in rows[:2]] == ["", "ids differ"]
    firsts = {(r.rollout_id, r.position): r.advantage for r in rows}
    assert any(firsts[i, 0] != firsts[i, 1] for i, _ in firsts)
