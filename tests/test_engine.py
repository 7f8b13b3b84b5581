"The engine in the kernel: what it answers, to whom, and what happens when something breaks."

import asyncio
import json
import threading
from copy import deepcopy

import openai
import pytest
from waiting import until, until_here

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from agentlightning_nb.engines.batch import Scores  # noqa: E402
from agentlightning_nb.engines.requests import ContextLengthError  # noqa: E402
from agentlightning_nb.engines.torch import TorchEngine  # noqa: E402
from agentlightning_nb.errors import BadRequestError, ServerError  # noqa: E402
from agentlightning_nb.rl.tiny import TOOLS, make_model, make_tokenizer  # noqa: E402
from agentlightning_nb.server import AgentLightningServer  # noqa: E402
from agentlightning_nb.store import LightningStore  # noqa: E402
from agentlightning_nb.types import LLM  # noqa: E402

TOKENIZER = make_tokenizer()
ASKED = {"messages": [{"role": "user", "content": "What is 2 + 3?"}], "max_tokens": 12}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = make_model(TOKENIZER, seed=1)
    with torch.no_grad():
        for p in made.parameters():
            p *= 4  # so that answers differ
    return made


@pytest.fixture
def engine(model):
    with TorchEngine(model, TOKENIZER, version="rs-1") as made:
        yield made


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 30))


def ask(engine, session=None, **options):
    return run(engine.chat(ASKED | options, session=session))


def logprobs_by_the_model(model, reply, temperature=1.0):
    ids = torch.tensor([reply.prompt_ids + reply.response_ids])
    with torch.no_grad():
        logp = torch.log_softmax(model(ids).logits[0] / temperature, -1)
    return [logp[len(reply.prompt_ids) - 1 + i, t].item() for i, t in enumerate(reply.response_ids)]


# what is answered


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_logprobs_are_the_models_own(engine, model, temperature):
    reply = ask(engine, temperature=temperature)
    assert reply.logprobs == pytest.approx(logprobs_by_the_model(model, reply, temperature), abs=2e-5)


def test_several_choices_differ_and_a_seed_repeats_them(engine):
    one, two = ask(engine, n=3, seed=5), ask(engine, n=3, seed=5)
    texts = [[c["message"]["content"] for c in r.body["choices"]] for r in (one, two)]
    assert texts[0] == texts[1] and len(set(texts[0])) > 1
    assert one.body["usage"]["prompt_tokens"] == len(one.prompt_ids)
    assert ask(engine, seed=5).response_ids == one.response_ids  # the first choice is what a single one would be


def test_a_seed_is_answered_the_same_in_any_company(engine):
    alone = ask(engine, seed=9)

    async def crowd():
        others = [asyncio.ensure_future(engine.chat(ASKED | {"max_tokens": n})) for n in range(1, 20)]
        seeded = await engine.chat(ASKED | {"seed": 9})
        await asyncio.gather(*others)
        return seeded

    assert [run(crowd()).response_ids for _ in range(3)] == [alone.response_ids] * 3


def test_alternatives_are_the_likeliest_tokens(engine):
    content = ask(engine, temperature=0, logprobs=True, top_logprobs=3).body["choices"][0]["logprobs"]["content"]
    for entry in content:
        assert len(entry["top_logprobs"]) == 3
        assert entry["top_logprobs"][0]["token"] == entry["token"]  # greedy
        assert entry["top_logprobs"][0]["logprob"] >= entry["top_logprobs"][1]["logprob"]


def test_a_stop_string_ends_the_answer_and_is_not_shown(engine):
    free = ask(engine, seed=1, max_tokens=30).body["choices"][0]["message"]["content"]
    stop = free[4:6]
    reply = ask(engine, seed=1, max_tokens=30, stop=[stop, "never"])
    choice = reply.body["choices"][0]
    assert choice["finish_reason"] == "stop" and choice["message"]["content"] == free[: free.index(stop)]
    assert len(reply.logprobs) == len(reply.response_ids)


def test_a_streamed_answer_is_the_whole_one(engine):
    async def streamed(**options):
        return [item async for item in engine.stream(ASKED | {"n": 2, "seed": 4} | options)]

    for options in ({}, {"stop": ["e", "1"]}):
        *chunks, reply = run(streamed(**options))
        whole = ask(engine, n=2, seed=4, **options)
        for i, choice in enumerate(whole.body["choices"]):
            parts = [c for chunk in chunks for c in chunk["choices"] if c["index"] == i]
            told = "".join(c["delta"].get("content") or "" for c in parts)
            assert told == choice["message"]["content"] and parts[-1]["finish_reason"] == choice["finish_reason"]
        assert chunks[-1]["usage"] == whole.body["usage"] and reply.response_ids == whole.response_ids


def test_text_and_ids_can_be_completed(engine, model):
    body = {"prompt": "What is", "max_tokens": 5, "seed": 2, "logprobs": 1}
    reply = run(engine.complete(body))
    assert reply.logprobs == pytest.approx(logprobs_by_the_model(model, reply), abs=2e-5)
    assert run(engine.complete(body | {"prompt": reply.prompt_ids})).response_ids == reply.response_ids
    several = run(engine.complete({"prompt": ["What", "is"], "max_tokens": 3, "n": 2}))
    assert [c["index"] for c in several.body["choices"]] == [0, 1, 2, 3]
    with pytest.raises(BadRequestError, match="token ids below"):
        run(engine.complete({"prompt": [10**6]}))


@pytest.mark.parametrize(
    "options, words",
    [
        ({"temperature": -1}, "temperature is -1"),
        ({"n": 0}, "n is 0"),
        ({"seed": "x"}, "seed is 'x'"),
        ({"stop": [1]}, "stop is"),
        ({"presence_penalty": 1}, "presence_penalty is 1"),
        ({"messages": []}, "messages must be"),
        ({"max_tokens": 1.5}, "max_tokens is 1.5"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(engine, options, words):
    with pytest.raises(BadRequestError, match=words):
        ask(engine, **options)


def test_a_prompt_that_is_too_long_is_refused_as_openai_does(engine):
    with pytest.raises(ContextLengthError, match="maximum context length is 256 tokens.*resulted in"):
        ask(engine, messages=[{"role": "user", "content": "1 " * 200}])
    assert ask(engine, max_tokens=10_000, ignore_eos=True).body["choices"][0]["finish_reason"] == "length"


# turns


def test_the_next_turn_reads_its_tail_only_and_is_the_same(model):
    told = {"role": "user", "content": "And 4 + 5? " * 3}
    with (
        TorchEngine(model, TOKENIZER, reuse_from=8) as engine,
        TorchEngine(model, TOKENIZER, reuse_from=10**6) as plain,
    ):
        replies = []
        for each in (engine, plain):
            first = ask(each, session="at-1", seed=3)
            messages = [*ASKED["messages"], first.body["choices"][0]["message"], told]
            replies.append(ask(each, session="at-1", seed=3, messages=messages))
            assert replies[-1].prompt_ids[: len(first.prompt_ids) + len(first.response_ids)] == [
                *first.prompt_ids,
                *first.response_ids,
            ]
        assert engine.sampler.reused > 0 and plain.sampler.reused == 0
    assert replies[0].response_ids == replies[1].response_ids
    assert replies[0].logprobs == pytest.approx(logprobs_by_the_model(model, replies[0]), abs=2e-5)


def test_nothing_computed_with_old_weights_is_reused(model):
    mine = deepcopy(model)
    with TorchEngine(mine, TOKENIZER, reuse_from=8) as engine:
        first = ask(engine, session="at-1")
        with engine.paused(), torch.no_grad():
            for p in mine.parameters():
                p *= 0.5
        messages = [*ASKED["messages"], first.body["choices"][0]["message"], ASKED["messages"][0]]
        second = ask(engine, session="at-1", messages=messages)
        assert engine.sampler.reused == 0
    assert second.logprobs == pytest.approx(logprobs_by_the_model(mine, second), abs=2e-5)


def test_what_prompts_begin_with_is_read_once_until_weights_change(model):
    system = {"role": "system", "content": "You answer in one word. " * 4}
    asked = [[system, {"role": "user", "content": f"What is {i} + 3?"}] for i in range(4)]
    mine = deepcopy(model)

    async def all_of(engine):
        together = await asyncio.gather(*(engine.chat(ASKED | {"messages": m}) for m in asked[:3]))
        return [*together, await engine.chat(ASKED | {"messages": asked[3]})]

    with TorchEngine(mine, TOKENIZER, gather_s=0.2) as engine:
        for saved in (1, 2):
            for reply in run(all_of(engine)):
                assert reply.logprobs == pytest.approx(logprobs_by_the_model(mine, reply), abs=5e-5)
            assert engine.sampler._decoder.saved >= 3 * saved * 16  # the first of each round reads it
            with engine.paused(), torch.no_grad():
                for p in mine.parameters():
                    p *= 0.7


def test_agents_that_take_turns_in_one_session_each_keep_their_ids(engine):
    others = {"role": "user", "content": "Write a poem about tea."}
    one = ask(engine, session="s")
    two = ask(engine, session="s", messages=[others])
    for reply, asked in ((one, ASKED["messages"][0]), (two, others)):
        more = ask(engine, session="s", messages=[asked, reply.body["choices"][0]["message"], asked])
        seen = reply.prompt_ids + reply.response_ids
        assert more.prompt_ids[: len(seen)] == seen


# company


def test_requests_join_and_leave_while_others_decode(engine):
    async def staggered():
        long = asyncio.ensure_future(engine.chat(ASKED | {"max_tokens": 200, "ignore_eos": True}))
        await until_here(lambda: engine.sampler.running)
        short = [await engine.chat(ASKED | {"max_tokens": 2}) for _ in range(3)]
        return long.done(), short, await long

    done, short, long = run(staggered())
    assert not done and len(long.response_ids) == 200 and all(len(r.response_ids) <= 2 for r in short)


def test_a_caller_who_leaves_frees_the_slot(engine):
    async def leave():
        call = asyncio.ensure_future(engine.chat(ASKED | {"max_tokens": 230, "ignore_eos": True}))
        await until_here(lambda: engine.sampler.running)
        call.cancel()
        await until_here(lambda: not engine.sampler.running)
        return engine.sampled

    assert run(leave()) < 200


def test_a_caller_whose_loop_has_closed_harms_nobody(engine):
    async def begin():
        asyncio.ensure_future(engine.chat(ASKED | {"max_tokens": 60, "ignore_eos": True}))
        await until_here(lambda: engine.sampler.running)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    loop.close()
    assert ask(engine).response_ids


# weights


def test_draining_finishes_what_is_under_way_with_the_old_weights(model):
    other = deepcopy(model)
    with torch.no_grad():
        for p in other.parameters():
            p *= 0.9
    with TorchEngine(deepcopy(model), TOKENIZER, version="rs-1") as engine:

        async def pushed():
            body = ASKED | {"max_tokens": 100, "ignore_eos": True}
            before = asyncio.ensure_future(engine.chat(body))
            await until_here(lambda: engine.sampler.running)
            pushing = asyncio.ensure_future(asyncio.to_thread(engine.push, other, "rs-2"))
            await until_here(lambda: engine.sampler._holding)
            after = asyncio.ensure_future(engine.chat(body))
            return await before, await after, await pushing

        before, after, _ = run(pushed())
    assert (before.version, after.version) == ("rs-1", "rs-2")
    for reply, weights in ((before, model), (after, other)):
        assert reply.logprobs == pytest.approx(logprobs_by_the_model(weights, reply), abs=5e-5)


def test_draining_gives_up_in_time_and_lets_everyone_go_on(engine):
    async def stuck():
        call = asyncio.ensure_future(engine.chat(ASKED | {"max_tokens": 240, "ignore_eos": True}))
        await until_here(lambda: engine.sampler.running)

        def drain():
            with engine.paused(drain=True, timeout_s=0.0):
                pass

        with pytest.raises(ServerError, match="still under way"):
            await asyncio.to_thread(drain)
        return await call

    assert len(run(stuck()).response_ids) > 100


# faults


def break_once(engine, error, when=lambda batch: True):
    "The next forward pass ends with this error."
    whole, left = engine.sampler._draw, [error]

    def broken(scores, batch):
        if left and when(batch):
            raise left.pop()
        return whole(scores, batch)

    engine.sampler._draw = broken


def test_a_batch_that_breaks_is_tried_again_and_answered_the_same(engine):
    alone = ask(engine, seed=3)
    break_once(engine, RuntimeError("a bit flipped"))

    async def crowd():
        return await asyncio.gather(*(engine.chat(ASKED | {"seed": 3}) for _ in range(3)))

    assert [r.response_ids for r in run(crowd())] == [alone.response_ids] * 3


def test_who_breaks_alone_is_told_why(engine):
    break_once(engine, RuntimeError("a bit flipped"))
    with pytest.raises(ServerError, match="RuntimeError: a bit flipped"):
        ask(engine)
    assert ask(engine).response_ids  # and the next is answered


def test_out_of_memory_halves_the_batch_and_everyone_is_answered(engine, caplog):
    break_once(engine, torch.OutOfMemoryError("full"), when=lambda batch: len(batch) > 4)

    async def crowd():
        return await asyncio.gather(*(engine.chat(ASKED) for _ in range(8)))

    assert len(run(crowd())) == 8 and engine.sampler.max_batch <= 4
    assert "Out of memory: from now on at most" in caplog.text


def test_a_thread_that_dies_fails_its_calls_and_is_started_again(engine):
    break_once(engine, SystemExit("killed"))
    with pytest.raises(ServerError, match="thread ended: SystemExit: killed"):
        ask(engine)
    assert ask(engine).response_ids


def test_closing_fails_those_who_wait_and_leaves_no_thread(model):
    before = threading.active_count()
    engine = TorchEngine(model, TOKENIZER).start()

    async def closed():
        calls = [asyncio.ensure_future(engine.chat(ASKED | {"max_tokens": 240, "ignore_eos": True})) for _ in "ab"]
        await until_here(lambda: engine.sampler.running)
        await asyncio.to_thread(engine.close)
        return await asyncio.gather(*calls, return_exceptions=True)

    assert [type(e) for e in run(closed())] == [ServerError] * 2
    until(lambda: threading.active_count() <= before)
    with pytest.raises(ServerError, match="closed"):
        ask(engine)


# tools


def test_tools_are_shown_unless_none_may_be_called(engine):
    shown = ask(engine, tools=TOOLS, max_tokens=1).prompt_ids
    hidden = ask(engine, tools=TOOLS, tool_choice="none", max_tokens=1).prompt_ids
    assert "calculator" in TOKENIZER.decode(shown) and "calculator" not in TOKENIZER.decode(hidden)


@pytest.mark.parametrize(
    "teaches, text",
    [
        ("<tool_call>", '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'),
        ('<|python_tag|> "parameters":', '{"name": "add", "parameters": {"a": 1}}'),
        ("[TOOL_CALLS]", '[TOOL_CALLS][{"name": "add", "arguments": {"a": 1}, "id": "x"}]'),
        ("[TOOL_CALLS]", '[TOOL_CALLS]add[ARGS]{"a": 1}'),
    ],
)
def test_a_call_in_the_templates_own_format_is_found_whole_and_streamed(model, teaches, text):
    tokenizer = deepcopy(TOKENIZER)
    tokenizer.chat_template = f"{{# {teaches} #}}" + tokenizer.chat_template.replace("<tool_call>", "")
    if teaches == "[TOOL_CALLS]":
        tokenizer.add_special_tokens({"additional_special_tokens": ["[TOOL_CALLS]"]})
    ids = [*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    wide = deepcopy(model)
    wide.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with TorchEngine(wide, tokenizer) as engine:
        speak(engine, ids)
        choice = ask(engine, tools=TOOLS, max_tokens=99).body["choices"][0]

        async def streamed():
            return [item async for item in engine.stream(ASKED | {"tools": TOOLS, "max_tokens": 99})]

        chunks = run(streamed())[:-1]
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] is None
    (call,) = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "add" and json.loads(call["function"]["arguments"]) == {"a": 1}
    deltas = [c["delta"] for chunk in chunks for c in chunk["choices"]]
    assert not any(d.get("content") for d in deltas)
    assert [d["tool_calls"][0]["function"]["name"] for d in deltas if "tool_calls" in d] == ["add"]


def speak(engine, ids):
    "Have the model say these ids: the likeliest token is forced, everything else is as always."
    whole = engine.sampler._draw

    def forced(scores, batch):
        place = torch.tensor([ids[len(r.response_ids)] for r in batch])
        return whole(Scores(torch.full_like(scores.whole(), -1e9).scatter(1, place[:, None], 0.0)), batch)

    engine.sampler._draw = forced


# behind the proxy


def test_the_proxy_serves_completions_and_a_prompt_too_long_is_openais_error(engine):
    with LightningStore() as store, AgentLightningServer(store, upstream=engine, token="t") as server:
        version = store.add_resources({"llm": LLM("policy", sampling={"max_tokens": 3})})

        def attempt():
            claimed = store.start_rollout("x", resources_id=version.resources_id)
            url = f"{server.url}/rollout/{claimed.rollout_id}/attempt/{claimed.attempt.attempt_id}/v1"
            return claimed.rollout_id, openai.OpenAI(base_url=url, api_key="t", max_retries=0)

        rollout_id, client = attempt()
        answer = client.completions.create(model="policy", prompt="What is", n=2)
        assert [c.index for c in answer.choices] == [0, 1] and answer.usage.completion_tokens == 6
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model="policy", messages=[{"role": "user", "content": "1 " * 300}])
        assert caught.value.code == "context_length_exceeded" and caught.value.param == "messages"
        (triplet,) = store.query_triplets([rollout_id])[rollout_id]
        assert (triplet.policy_version, len(triplet.response_ids)) == ("rs-1", 3)

        store.update_resources(version.resources_id, {"llm": LLM("policy", sampling={"max_tokens": 5})})
        _, client = attempt()  # the version has new contents now
        assert client.completions.create(model="policy", prompt="What is").usage.completion_tokens == 5
