"""Several vLLM servers as one engine, over stand-ins that speak vLLM's routes and load what is pushed: nobody is asked who has other weights,
a conversation stays where it is, and one that dies is missed by nobody."""

import asyncio
import os
import signal
import sys
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
from waiting import until, until_here

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.torch import save_file  # noqa: E402

from agentlightning_nb.engines import vllm as room  # noqa: E402
from agentlightning_nb.engines.process import ServerProcess  # noqa: E402
from agentlightning_nb.engines.vllm import VLLM  # noqa: E402
from agentlightning_nb.errors import BadRequestError, ServerError  # noqa: E402
from agentlightning_nb.magics import Lightning  # noqa: E402
from agentlightning_nb.rl.tiny import make_tokenizer  # noqa: E402
from agentlightning_nb.server import AgentLightningServer  # noqa: E402
from agentlightning_nb.store import LightningStore  # noqa: E402
from agentlightning_nb.trainer import Trainer  # noqa: E402

pytestmark = pytest.mark.skipif(os.name != "posix", reason="process groups are of POSIX")
TOKENIZER = make_tokenizer()
STANDIN = Path(__file__).with_name("vllm_standin.py")
ASKED = {"messages": [{"role": "user", "content": "What is 2 + 3?"}], "max_tokens": 6, "ignore_eos": True}


class Table(torch.nn.Module):
    "A model whose next token depends on the last one only."

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.table = torch.nn.Embedding.from_pretrained(torch.randn(len(TOKENIZER), len(TOKENIZER)) * 3)
        self.config = SimpleNamespace(max_position_embeddings=256, save_pretrained=lambda folder: None)
        self.device, self.dtype = torch.device("cpu"), torch.float32

    def get_input_embeddings(self):
        return self.table

    def get_output_embeddings(self):
        return None

    def forward(self, input_ids, use_cache=False):
        return SimpleNamespace(logits=self.table(input_ids))


class Adapted(Table):
    "The same with an adapter as peft keeps one, which is a table that is added."

    def __init__(self, seed=0):
        super().__init__()
        self.delta = torch.nn.Parameter(torch.randn(len(TOKENIZER), len(TOKENIZER)) * seed)
        self.peft_config = {"default": SimpleNamespace(r=8, bias="none")}
        self.active_adapters = ["default"]

    def get_base_model(self):
        return self.base()

    def base(self):
        return Table()

    def save_pretrained(self, folder, save_embedding_layers):
        folder.mkdir()
        save_file({"delta": self.delta.detach()}, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text("{}")

    def forward(self, input_ids, use_cache=False):
        return SimpleNamespace(logits=self.table(input_ids) + self.delta[input_ids])


@pytest.fixture
def python(tmp_path):
    "A Python of an environment with vLLM, as far as the engine can see; it fails to start while there is a file `broken` beside it."
    path = tmp_path / "python"
    broken = tmp_path / "broken"
    path.write_text(
        f'#!/bin/sh\n[ -e {broken} ] && echo it is broken && exit 1\nexec {sys.executable} {STANDIN} "$@"\n'
    )
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def engine(python):
    with VLLM(python=python, replicas=2, start_timeout_s=60).open(Table(), TOKENIZER) as made:
        yield made


def run(*coroutines):
    async def together():
        return await asyncio.gather(*coroutines)

    return asyncio.run(asyncio.wait_for(together(), 60))


def chat(engine, session=None, **options):
    return engine.chat(ASKED | options, session=session)


def greedy_of(model, reply):
    ids = reply.prompt_ids[-1:]
    with torch.no_grad():
        while len(ids) <= len(reply.response_ids):
            ids.append(int(model(torch.tensor(ids)).logits[-1].argmax()))
    return ids[1:]


def kill(replica):
    "The server itself, not its guard."
    guard = replica.process._process.pid
    children = Path(f"/proc/{guard}/task/{guard}/children")
    if not children.exists():
        pytest.skip("no table of processes here")
    for pid in children.read_text().split():
        os.kill(int(pid), signal.SIGKILL)


def test_a_conversation_stays_at_one_replica_and_new_ones_are_spread(engine):
    asked = [[{"role": "user", "content": f"What is {i} + 3?"}] for i in range(8)]
    first = run(*(chat(engine, f"at-{i}", messages=messages) for i, messages in enumerate(asked)))
    for i in (0, 2, 1, 3, 5, 7, 4, 6):
        more = [*asked[i], first[i].body["choices"][0]["message"], *asked[i]]
        run(chat(engine, f"at-{i}", messages=more), chat(engine, f"at-{i}", messages=more, n=2))
    seen = [replica.post("/seen") for replica in engine.replicas.each]
    assert [len(prompts) for prompts in seen] == [16, 16]
    for reply in first:  # the later turns of each are where its first one was
        at = [sum(p[: len(reply.prompt_ids)] == reply.prompt_ids for p in prompts) for prompts in seen]
        assert sorted(at) == [0, 4]


def test_a_push_reaches_all_and_each_is_compared(engine):
    for seed in (1, 2, 3):
        model = Table(seed)
        engine.push(model, f"rs-{seed}")
        assert engine.check(model) < 1e-5
        replies = run(*(chat(engine, f"at-{i}", temperature=0) for i in range(4)))
        assert {r.version for r in replies} == {f"rs-{seed}"}
        assert all(r.response_ids == greedy_of(model, r) for r in replies)
    assert all(len(r.post("/seen")) == 6 for r in engine.replicas.each) and engine.restarts == 0


def test_one_that_dies_is_missed_by_nobody_and_comes_back_with_what_was_pushed_meanwhile(engine):
    first, second = engine.replicas.each
    for replica in (first, second):
        replica.post("/fault", {"slow": 0.05})

    async def streamed(session):
        return [item async for item in engine.stream(ASKED | {"max_tokens": 30, "temperature": 0}, session=session)][-1]

    async def while_one_dies():
        streams = [asyncio.create_task(streamed(f"at-{i}")) for i in range(4)]
        await until_here(lambda: first.post("/seen") and second.post("/seen"))
        await asyncio.sleep(0.3)  # some tokens have come
        kill(first)
        return await asyncio.gather(*streams)

    replies = asyncio.run(asyncio.wait_for(while_one_dies(), 60))
    assert all(r.response_ids == greedy_of(Table(), r) and len(r.response_ids) == 30 for r in replies)
    assert (first.restarts, second.restarts) == (1, 0) and len(second.post("/seen")) == 4
    engine.push(Table(5), "rs-5")  # it may still be on its way
    until(lambda: first.state == "up")
    assert len(engine.replicas.up) == 2 and engine.check(Table(5)) < 1e-5
    run(*(chat(engine, f"new-{i}") for i in range(2)))
    assert len(first.post("/seen")) == 1


def test_one_that_does_not_take_the_weights_is_started_again_while_the_other_goes_on(engine):
    first, second = engine.replicas.each
    first.post("/fault", {"deaf": True})
    engine.push(Table(1), "rs-1")
    assert "differ from the trainer's" in first.why and first.state == "down"
    reply, *_ = run(chat(engine, temperature=0))
    assert reply.version == "rs-1" and reply.response_ids == greedy_of(Table(1), reply)
    until(lambda: first.state == "up")
    assert engine.check(Table(1)) < 1e-5 and second.restarts == 0


def test_metrics_and_the_status_name_each_replica(engine):
    first, second = engine.replicas.each
    first.restarts, second.state, second.why = 2, "out", "it is broken"
    with AgentLightningServer(LightningStore(), upstream=engine) as server:
        asked = urllib.request.Request(f"{server.url}/metrics", headers={"Authorization": f"Bearer {server.token}"})
        told = urllib.request.urlopen(asked, timeout=20).read().decode()
        assert 'agentlightning_replica_up{replica="vLLM 1 of 2"} 1\n' in told
        assert 'agentlightning_replica_up{replica="vLLM 2 of 2"} 0\n' in told
        assert 'agentlightning_replica_restarts_total{replica="vLLM 1 of 2"} 2\n' in told
    for names in ({"engine": engine}, {"trainer": Trainer(upstream=engine)}):
        told = repr(Lightning(names)("status"))
        assert "vLLM 1 of 2: up, 0 calls, 2 restarts. vLLM 2 of 2: out, it is broken" in told


def test_when_none_takes_the_weights_the_push_fails(engine):
    for replica in engine.replicas.each:
        replica.post("/fault", {"deaf": True})
    with pytest.raises(ServerError, match=r"vLLM \d of 2 differ from the trainer's by"):
        engine.push(Table(1), "rs-1")
    for replica in engine.replicas.each:
        replica.post("/fault", {})
    engine.push(Table(1), "rs-1")
    assert engine.check(Table(1)) < 1e-5


def test_one_that_cannot_be_started_again_stays_out_and_the_last_one_says_why(engine, tmp_path):
    (tmp_path / "broken").touch()
    first, second = engine.replicas.each
    kill(first)
    until(lambda: not first.alive)
    run(*(chat(engine, f"at-{i}") for i in range(4)))
    until(lambda: first.state == "out")
    assert "it is broken" in first.why and [row["state"] for row in engine.standing()] == ["out", "up"]
    engine.push(Table(1), "rs-1")
    kill(second)
    with pytest.raises(ServerError, match="No replica is left(?s:.*)it is broken"):
        run(chat(engine))
    with pytest.raises(ServerError, match="No replica is left"):
        engine.push(Table(2), "rs-2")


def test_a_request_that_kills_is_not_passed_on_for_ever(python):
    deadly = {"DEADLY": str(TOKENIZER("7", add_special_tokens=False).input_ids[-1])}
    with VLLM(python=python, replicas=2, environment=deadly).open(Table(), TOKENIZER) as engine:
        with pytest.raises(ServerError, match="cannot be reached|hung up"):
            run(chat(engine, messages=[{"role": "user", "content": "7"}]))
        assert engine.restarts == 3  # the third time it is the request's fault
        assert run(chat(engine))[0].response_ids
        until(lambda: len(engine.replicas.up) == 2)


def test_calls_wait_while_the_only_one_comes_back(python):
    with VLLM(python=python).open(Table(), TOKENIZER) as engine:
        (only,) = engine.replicas.each
        kill(only)
        reply, *_ = run(chat(engine, temperature=0), chat(engine))
        assert reply.response_ids == greedy_of(Table(), reply) and (only.restarts, only.name) == (1, "vLLM")


def test_an_adapter_is_pushed_by_itself_under_a_new_name_each_time(python):
    with VLLM(python=python, replicas=2).open(Adapted(1), TOKENIZER) as engine:
        assert engine.rank == 8 and engine.check(Adapted(1)) < 1e-5
        weights = (engine.folder / "model.safetensors").read_bytes()
        for seed in (2, 3):
            model = Adapted(seed)
            engine.push(model, f"rs-{seed}")
            assert engine.check(model) < 1e-5
        assert (engine.folder / "model.safetensors").read_bytes() == weights
        assert [r.post("/reset_prefix_cache", {}) for r in engine.replicas.each] == [
            {"adapters": [engine.replicas.each[0].model]}
        ] * 2
        kill(engine.replicas.each[0])
        until(lambda: not engine.replicas.each[0].alive)
        reply, *_ = run(chat(engine, temperature=0))
        assert reply.response_ids == greedy_of(model, reply)
        until(lambda: engine.restarts == 1 and len(engine.replicas.up) == 2)
        assert engine.check(model) < 1e-5


def test_servers_elsewhere_are_given_the_weights_over_http(python, tmp_path):
    from agentlightning_nb.engines.pushed import write_weights

    write_weights(Table(9), tmp_path)
    command = [python, "--model", str(tmp_path), "--served-model-name", "theirs", "--port", "{port}"]
    made = [ServerProcess(command, name=f"node{i}", environment={"VLLM_API_KEY": "k"}) for i in range(2)]
    with made[0], made[1]:
        with pytest.raises(ServerError, match="401"):
            VLLM(replicas=[made[0].url], key="another").open(Table(), TOKENIZER)
        options = VLLM(replicas=[s.url + "/v1" for s in made], key="k", start_timeout_s=20)
        with options.open(Table(), TOKENIZER) as engine:
            (tmp_path / "model.safetensors").unlink()
            engine.push(Table(1), "rs-1")
            assert engine.check(Table(1)) < 1e-5
            assert made[0].url.removeprefix("http://") in engine.replicas.each[0].name
            kill(SimpleNamespace(process=made[0]))
            replies = run(*(chat(engine, f"at-{i}", temperature=0) for i in range(4)))
            assert all(r.response_ids == greedy_of(Table(1), r) for r in replies)
            assert [r.state for r in engine.replicas.each] == ["down", "up"]
        assert made[1].answers()  # somebody else's


@pytest.mark.parametrize(
    "options",
    [
        {"replicas": 0},
        {"replicas": True},
        {"replicas": -2},
        {"replicas": []},
        {"replicas": "http://node1:8000"},
        {"replicas": ["node1:8000"], "key": "k"},
        {"replicas": ["http://node1:8000", "http://node1:8000/v1"], "key": "k"},
        {"replicas": ["http://node1:8000"], "key": "k", "tensor_parallel": 2},
        {"tensor_parallel": 0},
    ],
)
def test_nonsense_is_refused_in_words(options):
    with pytest.raises(BadRequestError, match="VLLM: (replicas|tensor_parallel)"):
        VLLM(**options)


def test_a_model_is_given_once_and_a_key_is_not_shown(python):
    assert "secret" not in repr(VLLM(replicas=["http://node1:8000"], key="secret"))
    with pytest.raises(BadRequestError, match="no model; give VLLM"):
        VLLM().open()
    with pytest.raises(BadRequestError, match="leave it out"):
        VLLM(model="somewhere").open(Table(), TOKENIZER)
    with VLLM(python, model=Table(), tokenizer=TOKENIZER).open() as engine:
        assert run(chat(engine))[0].response_ids


def test_servers_elsewhere_need_a_key(monkeypatch):
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    with pytest.raises(BadRequestError, match="need a key"):
        VLLM(replicas=["http://node1:8000"])


def test_each_replica_has_gpus_of_its_own_counted_from_the_last(monkeypatch):
    monkeypatch.setattr(room.torch.cuda, "device_count", lambda: 8)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert VLLM(replicas=3, tensor_parallel=2).devices() == ["2,3", "4,5", "6,7"]
    assert VLLM(replicas=7).devices() == list("1234567")
    assert VLLM(replicas=2, environment={"CUDA_VISIBLE_DEVICES": "0,5,6"}).devices() == ["5", "6"]
    with pytest.raises(BadRequestError, match=r"5 replicas of 2 GPUs need 10 GPUs; there are 8 \(0, 1"):
        VLLM(replicas=5, tensor_parallel=2).open(Table(), TOKENIZER)
    command = VLLM(tensor_parallel=2).command(Path("m"), name="p", dtype="bfloat16", context=9, rank=16)
    assert " ".join(command).count("--tensor-parallel-size 2 --max-lora-rank 16 --enable-lora") == 1
