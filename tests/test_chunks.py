"Chunks that are passed on before they are read: their caller and the record get what they would have got of a chunk that is read."

import contextlib
import json

import pytest

from agentlightning_nb.engines.assembly import MANY, Assembly
from agentlightning_nb.engines.base import Heard
from agentlightning_nb.engines.chat import ChatTeller
from agentlightning_nb.engines.chunks import Skimmed, skimmed
from agentlightning_nb.engines.moulds import Mould, Moulded
from agentlightning_nb.engines.openai import read
from agentlightning_nb.engines.streams import Telling

TOKEN = {
    "token": 'a "logprobs": {"content": []}, "token_ids": [1]',
    "logprob": -0.5,
    "bytes": None,
    "top_logprobs": [{}],
}


def event(text="4", **more):
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None, "token_ids": [7, 8]}
    choice |= {"logprobs": {"content": [TOKEN, TOKEN]}} | more
    return said({"id": "c", "created": 1, "model": "m", "choices": [choice]})


def said(chunk):
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


ORDINARY = {
    "plain": event(),
    "no ids": event(token_ids=None),
    "no log-probabilities": event(logprobs=None),
    "neither": event(token_ids=None, logprobs=None),
    "a tool's call": event(delta={"tool_calls": [{"index": 1, "function": {"arguments": '"token_ids": [1]'}}]}),
    "reasoning, and a role": event(delta={"role": "assistant", "reasoning": "hm", "content": None, "refusal": "no"}),
    "another choice": event(index=1),
    "a broken index": event(index=0.5),
    "no index, and no delta": said({"choices": [{"token_ids": [7], "logprobs": None, "stop_reason": None}]}),
    "a text that looks like both": event('"token_ids": [1], "logprobs": {"content": []}'),
    "names of its own": event(delta={"content": "4", "token_ids": [1], "logprobs": {"content": [TOKEN, TOKEN]}}),
    "a name of its own": event(delta={"content": "4", "token_ids": "mine"}),
    "ids first": said({"choices": [{"token_ids": [7, 8], "logprobs": None, "delta": {"content": "4"}}]}),
    "an escaped name": event().replace(b'"token_ids"', b'"token\\u005fids"'),
    "bytes that are no UTF-8": event("x").replace(b'"x"', b'"\xff"'),
    "a number beyond all bounds": event(stop_reason=10**400),
    "no spaces": event().replace(b", ", b",").replace(b": ", b":"),
    "its usage": said(json.loads(event()[6:]) | {"usage": {"total_tokens": 3}, "system_fingerprint": "f"}),
}
OTHERS = {
    "the prompt": said(json.loads(event()[6:]) | {"prompt_token_ids": [1, 2]}),
    "the end": event(finish_reason="stop"),
    "usage alone": said({"choices": [], "usage": {"total_tokens": 3}}),
    "two choices": said({"choices": [{"index": i, "delta": {"content": "4"}} for i in range(2)]}),
    "an error": said({"error": {"message": "out of memory"}}),
    "an error beside a choice": said(json.loads(event()[6:]) | {"error": {"message": "out of memory"}}),
    "half a surrogate": event("\ud83d"),
    "no number": event().replace(b"-0.5", b"NaN"),
    "a comment": b": alive\n\n",
    "several lines": event().replace(b'"choices"', b'\ndata: "choices"'),
    "the last word": b"data: [DONE]\n\n",
}


@pytest.mark.parametrize("name", ORDINARY)
def test_most_chunks_need_not_be_read_at_once(name):
    assert skimmed(ORDINARY[name]).whole().raw == ORDINARY[name]


@pytest.mark.parametrize("name", OTHERS)
def test_the_others_are_read(name):
    assert skimmed(OTHERS[name]) is None


def heard(events, asked, skims):
    "What a caller and the record get."
    telling, assembly = Telling(ChatTeller(asked), Heard()), Assembly(brief=skims)
    told = b"".join(telling.now(read([one], assembly, skims)[0]) for one in events)
    return told, telling, assembly.reply()


def shown(told):
    "Events as their readers understand them, for whom null is nothing."
    chunks = [json.loads(e[5:].replace(b"\ndata:", b"").decode("utf-8", "replace")) for e in told.split(b"\n\n") if e]
    return [c | {"choices": [{k: v for k, v in one.items() if v is not None} for one in c["choices"]]} for c in chunks]


EVERYTHING = {"logprobs": True, "return_token_ids": True}


@pytest.mark.parametrize("asked", [{}, {"logprobs": True}, {"return_token_ids": True}, EVERYTHING], ids=str)
@pytest.mark.parametrize("name", [*ORDINARY, *OTHERS])
def test_a_caller_and_the_record_get_the_same(name, asked):
    events = [event("one"), (ORDINARY | OTHERS)[name], event("three"), OTHERS["the end"], event("late")]
    told, telling, reply = heard(events, asked, True)
    told_of_read, telling_of_read, reply_of_read = heard(events, asked, False)
    assert shown(told) == shown(told_of_read)
    assert reply.response_ids == reply_of_read.response_ids and reply.logprobs == reply_of_read.logprobs
    assert [c["message"] for c in reply.body["choices"]] == [c["message"] for c in reply_of_read.body["choices"]]
    assert {**reply.body, "choices": 0} == {**reply_of_read.body, "choices": 0}
    assert telling.held == telling_of_read.held and telling.teller.extras == telling_of_read.teller.extras
    if asked == EVERYTHING and name in ORDINARY:
        assert told.startswith(events[0] + events[1])


def test_however_many_there_are_the_record_has_them_all_at_any_time():
    assembly = Assembly(brief=True)
    for i in range(3 * MANY + 5):
        assert isinstance(read([event(f"{i} ")], assembly, True)[0][0], Skimmed if i == 0 else Moulded)
        if i in (0, MANY, 2 * MANY + 3):
            assert assembly.so_far().response_ids == [7, 8] * (i + 1)
    assert assembly.so_far().body["choices"][0]["message"]["content"] == "".join(f"{i} " for i in range(3 * MANY + 5))
    assert not assembly.complete


@pytest.mark.parametrize("name", [n for n in ORDINARY if Mould.of(skimmed(ORDINARY[n])) is not None])
def test_only_what_is_whole_and_alike_fits_a_mould(name):
    whole = ORDINARY[name]
    mould = Mould.of(skimmed(whole))
    assert mould.cast(whole).raw == whole
    for cut in range(len(whole)):
        assert mould.cast(whole[:cut]) is mould.cast(whole[cut + 1 :]) is None
        assert mould.cast(whole[:cut] + b'"' + whole[cut:]) is None
        with contextlib.suppress(ValueError):  # whatever fits says what it seems to say
            if piece := mould.cast(whole[:cut] + whole[cut + 1 :]):
                read = json.loads(piece.raw[5:])["choices"][0]
                assert mould.whole([piece]) == (
                    read["delta"][mould.name],
                    read["token_ids"] or [] if "token_ids" in read else [],
                    [token["logprob"] for token in (read.get("logprobs") or {}).get("content") or []],
                )
