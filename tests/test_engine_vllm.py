"""vLLM beside the kernel, for real: the same probabilities as the trainer's after every push, and no way to lose them without a word.

It runs where vLLM is: in this environment, or in the one whose Python AGENTLIGHTNING_VLLM_PYTHON names."""

import asyncio
import importlib.util
import os
import signal
import socket
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp import ClientSession
from waiting import until

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from agentlightning_nb.algorithms.grpo import GRPO  # noqa: E402
from agentlightning_nb.engines import pushed  # noqa: E402
from agentlightning_nb.engines.process import ServerProcess  # noqa: E402
from agentlightning_nb.engines.pushed import weights_of, write_checkpoint  # noqa: E402
from agentlightning_nb.engines.torch import TorchEngine  # noqa: E402
from agentlightning_nb.engines.vllm import VLLM  # noqa: E402
from agentlightning_nb.errors import ServerError  # noqa: E402
from agentlightning_nb.litagent import rollout  # noqa: E402
from agentlightning_nb.rl.tiny import make_model, make_tokenizer  # noqa: E402
from agentlightning_nb.trainer import Trainer  # noqa: E402

TOKENIZER = make_tokenizer()
ASKED = {"messages": [{"role": "user", "content": "What is 2 + 3?"}], "max_tokens": 12}
HERE = bool(os.environ.get("AGENTLIGHTNING_VLLM_PYTHON") or importlib.util.find_spec("vllm"))
ARGUMENTS = ("--enforce-eager", "--max-num-seqs", "64")
ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"}
cluster = pytest.mark.skipif(not HERE, reason="vLLM is not here")


def sharp_model(seed=1):
    made = make_model(TOKENIZER, seed=seed)
    with torch.no_grad():
        for p in made.parameters():
            p *= 4  # so that answers differ
    return made.eval()


@pytest.fixture(scope="module")
def engine():
    with opened() as made:
        yield made


def opened():
    return VLLM(arguments=ARGUMENTS, environment=ENVIRONMENT).open(sharp_model(), TOKENIZER)


def process_of(engine):
    return engine.replicas.each[0].process


def kill_server_of(replica):
    "The server itself, not its guard."
    subprocess.run(["pkill", "-KILL", "-P", str(replica.process._process.pid)], check=True)


def below(pid):
    "The processes that this one and its children have started."
    told = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(a): int(b) for a, b in map(str.split, told.splitlines())}
    found, last = set(), {pid}
    while last:
        last = {child for child, parent in parents.items() if parent in last}
        found |= last
    return found


def is_alive(pid):
    try:  # a zombie that nobody has waited for yet does not count
        return open(f"/proc/{pid}/stat").read().split(") ")[1][0] != "Z"
    except OSError:
        return False


def ask(engine, session=None, **options):
    return asyncio.run(asyncio.wait_for(engine.chat(ASKED | options, session=session), 200))


@rollout
async def talker(task, llm):
    async with ClientSession(headers={"Authorization": f"Bearer {llm.api_key}"}) as session:
        body = {"model": llm.model, "messages": [{"role": "user", "content": task.input}]}
        async with session.post(f"{llm.base_url}/chat/completions", json=body | llm.sampling) as reply:
            return float(len((await reply.json())["choices"][0]["message"]["content"]) % 3)


def logprobs_by(model, reply, temperature=1.0):
    with torch.no_grad():
        logits = model(torch.tensor([reply.prompt_ids + reply.response_ids])).logits[0]
    logp = torch.log_softmax(logits / temperature, -1)
    return [logp[len(reply.prompt_ids) - 1 + i, t].item() for i, t in enumerate(reply.response_ids)]


def test_adapters_are_added_and_the_models_own_weights_stay():
    peft = pytest.importorskip("peft")
    base = sharp_model()
    before = deepcopy(base.state_dict())
    model = peft.get_peft_model(base, peft.LoraConfig(target_modules=["q_proj", "down_proj"]))
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights)
    sent = weights_of(model)
    assert sent.keys() == before.keys() and "lm_head.weight" in sent
    plain = make_model(TOKENIZER, seed=1)
    plain.load_state_dict(sent)
    ids = torch.tensor([[5, 6, 7, 8]])
    assert torch.allclose(plain.eval()(ids).logits, model.eval()(ids).logits, atol=1e-4)
    assert all(
        torch.equal(t, before[n.replace("base_layer.", "")]) for n, t in base.state_dict().items() if "lora" not in n
    )


def test_where_vllm_is_not_the_error_says_so(tmp_path):
    nowhere = tmp_path / "python"
    nowhere.write_text("#!/bin/sh\necho No module named vllm; exit 1\n")
    nowhere.chmod(0o755)
    with pytest.raises(ServerError, match="vLLM ended while it started(?s:.*)No module named vllm"):
        VLLM(python=str(nowhere)).open(make_model(TOKENIZER), TOKENIZER)


def group_lives(group):
    try:
        os.killpg(group, signal.SIGCONT)
    except ProcessLookupError:
        return False
    return True


@cluster
@pytest.mark.cluster
@pytest.mark.timeout(900)
class TestForReal:
    "In the order of the tests; each leaves the engine as the next one finds it."

    @pytest.mark.parametrize("temperature", [1.0, 0.6])
    def test_logprobs_are_those_of_what_was_sampled_from(self, engine, temperature):
        reply = ask(engine, temperature=temperature)
        assert reply.logprobs == pytest.approx(logprobs_by(sharp_model(), reply, temperature), abs=1e-4)

    def test_greedy_answers_are_those_of_the_engine_in_the_kernel(self, engine):
        with TorchEngine(sharp_model(), TOKENIZER) as ours:
            for options in ({}, {"stop": ["e"]}, {"logprobs": True, "top_logprobs": 2}):
                a, b = (ask(e, temperature=0, **options) for e in (engine, ours))
                assert a.response_ids == b.response_ids
                choices = [r.body["choices"][0] for r in (a, b)]
                assert choices[0]["message"] == choices[1]["message"]
                assert choices[0]["finish_reason"] == choices[1]["finish_reason"]

    def test_a_stream_is_the_whole_answer_and_a_seed_repeats_it(self, engine):
        async def streamed():
            return [item async for item in engine.stream(ASKED | {"seed": 4, "n": 2})]

        *chunks, reply = asyncio.run(asyncio.wait_for(streamed(), 200))
        whole = ask(engine, seed=4, n=2)
        assert reply.response_ids == whole.response_ids and len(reply.logprobs) == len(reply.response_ids)
        told = [c["delta"].get("content") or "" for chunk in chunks for c in chunk["choices"] if c["index"] == 0]
        assert "".join(told) == whole.body["choices"][0]["message"]["content"]

    def test_a_turn_extends_the_one_before_by_identity(self, engine):
        first = ask(engine, session="at-1")
        messages = [*ASKED["messages"], first.body["choices"][0]["message"], ASKED["messages"][0]]
        second = ask(engine, session="at-1", messages=messages)
        seen = first.prompt_ids + first.response_ids
        assert second.prompt_ids[: len(seen)] == seen

    def test_probabilities_are_the_trainers_after_each_of_fifty_updates(self, engine):
        model = sharp_model()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        ids = torch.tensor([[5, 6, 7, 8, 9, 10, 11]])
        for step in range(50):
            model(ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            engine.push(model, f"rs-{step}")  # compares, and raises beyond 1e-5
            assert engine.check(model) <= 1e-5
        reply = ask(engine)
        assert reply.version == "rs-49" and reply.logprobs == pytest.approx(logprobs_by(model, reply), abs=1e-4)

    def test_a_head_that_was_not_sent_is_found_out(self, engine, monkeypatch):
        whole = pushed.weights_of
        headless = lambda m, **o: {n: t for n, t in whole(m, **o).items() if n != "lm_head.weight"}  # noqa: E731
        monkeypatch.setattr(pushed, "weights_of", headless)
        with pytest.raises(ServerError, match="differ from the trainer's"):
            engine.push(sharp_model(seed=2), "rs-headless")
        monkeypatch.undo()
        engine.push(sharp_model(seed=2), "rs-2")

    def test_grpo_trains_what_it_samples_from(self, engine, monkeypatch):
        monkeypatch.setattr(engine, "close", lambda: None)  # the trainer closes what it was given
        opened = SimpleNamespace(open=lambda model, *_, **__: engine.push(model, None) or engine)
        with Trainer(n_workers=8) as trainer:
            options = {
                "n": 4,
                "batch_size": 2,
                "max_steps": 4,
                "staleness": 1,
                "truncated": "train",
            }  # most answers are
            made = GRPO(sharp_model(seed=3), TOKENIZER, engine=opened, **options)
            run = trainer.fit(talker, algorithm=made, tasks=["What is 1 + 2?", "3 + 4 = ?"], progress=False)
        assert run.status == "succeeded" and run.step == 4 and 0 <= run.latest["staleness"] <= 1
        assert engine.version == run.version and engine.check(made.model) <= 1e-5
        assert run.latest["logprob_gap"] < 0.2 and run.latest["grad_norm"] > 0

    def test_it_comes_back_with_the_current_weights_when_it_is_killed(self, engine):
        engine.push(sharp_model(seed=2), "rs-2")
        kill_server_of(engine.replicas.each[0])
        reply = ask(engine)
        assert engine.restarts == 1 and reply.version == "rs-2"
        assert reply.logprobs == pytest.approx(logprobs_by(sharp_model(seed=2), reply), abs=1e-4)

    def test_closing_leaves_no_port_and_no_process(self, engine):
        port, guard = process_of(engine).port, process_of(engine)._process.pid
        engine.close()
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
        until(lambda: not group_lives(guard))  # the killed are still to be buried by the system
        with pytest.raises(ServerError, match="closed"):
            ask(engine)


@cluster
@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(1500)
class TestSeveral:
    "Each test starts servers of its own, a minute or two."

    def test_twenty_pushes_are_in_both_replicas_and_one_is_killed_in_between(self):
        model, ids = sharp_model(), torch.tensor([[5, 6, 7, 8, 9, 10, 11]])
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        with VLLM(replicas=2, arguments=ARGUMENTS, environment=ENVIRONMENT).open(model, TOKENIZER) as engine:
            first, second = engine.replicas.each
            for step in range(20):
                model(ids, labels=ids).loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                if step == 10:
                    kill_server_of(first)
                engine.push(model, f"rs-{step}")
                assert engine.check(model) <= 1e-5 and second.state == "up"
                replies = [ask(engine, f"at-{step}-{i}") for i in range(2)]
                for reply in replies:
                    assert reply.version == f"rs-{step}"
                    assert reply.logprobs == pytest.approx(logprobs_by(model, reply), abs=1e-4)
            until(lambda: first.state != "down", 600)
            assert [r.state for r in engine.replicas.each] == ["up", "up"] and engine.check(model) <= 1e-5
            assert (first.restarts, second.restarts) == (1, 0)
            engine.push(sharp_model(seed=2), "rs-20")
            assert engine.check(sharp_model(seed=2)) <= 1e-5

    def test_a_run_goes_on_while_one_of_two_replicas_is_killed(self):
        opened, rollouts = [], []

        @rollout
        async def talker_with_a_knife(task, llm):
            rollouts.append(task.task_id)
            if len(rollouts) == 20:  # in the third step
                kill_server_of(opened[0].replicas.each[0])
            return await talker.training_rollout(task, "", {"llm": llm})

        def open_two(model, tokenizer, **more):
            opened.append(VLLM(replicas=2, arguments=ARGUMENTS, environment=ENVIRONMENT).open(model, tokenizer, **more))
            return opened[0]

        how = {"n": 4, "batch_size": 2, "max_steps": 8, "truncated": "train"}
        with Trainer(n_workers=8) as trainer:
            made = GRPO(sharp_model(seed=3), TOKENIZER, engine=SimpleNamespace(open=open_two), **how)
            asked = ["What is 1 + 2?", "3 + 4 = ?"]
            run = trainer.fit(talker_with_a_knife, algorithm=made, tasks=asked, progress=False)
            failed = [m["value"] for m in trainer.store.query_metrics(run.run_id, name="failed")]
            gaps = [m["value"] for m in trainer.store.query_metrics(run.run_id, name="logprob_gap")]
            assert (run.status, run.step, failed) == ("succeeded", 8, [0.0] * 8)
            assert len(gaps) == 8 and max(gaps) < 1e-4 and opened[0].restarts == 1
            assert opened[0].check(made.model) <= 1e-5

    def test_an_adapter_is_pushed_by_itself(self):
        peft = pytest.importorskip("peft")
        model = peft.get_peft_model(sharp_model(), peft.LoraConfig(r=8, target_modules="all-linear"))
        trained = [p for name, p in model.named_parameters() if "lora_B" in name]
        with VLLM(arguments=ARGUMENTS, environment=ENVIRONMENT).open(model, TOKENIZER) as engine:
            assert engine.rank == 8
            for step in range(20):
                with torch.no_grad():
                    for p in trained:
                        p += torch.randn_like(p) * 0.05
                engine.push(model, f"rs-{step}")
                assert engine.check(model) <= 1e-5
            reply = ask(engine)
            assert reply.version == "rs-19"
            assert reply.logprobs == pytest.approx(logprobs_by(model, reply), abs=1e-4)
            kill_server_of(engine.replicas.each[0])
            reply = ask(engine)
            assert engine.restarts == 1 and reply.logprobs == pytest.approx(logprobs_by(model, reply), abs=1e-4)

    def test_one_that_was_started_elsewhere_takes_the_weights_over_http(self, tmp_path):
        write_checkpoint(sharp_model(seed=5), TOKENIZER, tmp_path)
        command = VLLM().command(tmp_path, name="theirs", dtype="float32", context=256)
        command += [*ARGUMENTS, "--middleware", "agentlightning_nb.engines.receiving.Receiving"]
        here = {"VLLM_API_KEY": "k", "VLLM_SERVER_DEV_MODE": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
        with ServerProcess(command, name="node1", environment=ENVIRONMENT | here) as node:
            with VLLM(replicas=[node.url], key="k").open(sharp_model(), TOKENIZER) as engine:
                (tmp_path / "model.safetensors").unlink()
                for seed in (2, 3):
                    engine.push(sharp_model(seed), f"rs-{seed}")
                    assert engine.check(sharp_model(seed)) <= 1e-5
                    reply = ask(engine)
                    assert reply.logprobs == pytest.approx(logprobs_by(sharp_model(seed), reply), abs=1e-4)
            assert node.answers()

    def test_a_killed_kernel_leaves_no_process_of_vllm(self):
        code = "import time, test_engine_vllm as t; e = t.opened(); print('up', flush=True); time.sleep(999)"
        here = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=here) as kernel:
            try:
                assert kernel.stdout.readline() == "up\n"
                family = below(kernel.pid)
                assert len(family) >= 4  # guard, API server, engine core, worker
            finally:
                kernel.kill()
        until(lambda: not any(map(is_alive, family)), 60)
