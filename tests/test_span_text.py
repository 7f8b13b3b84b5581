"Spans read as text are the spans read as records, whatever is in them."

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from agentlightning_nb.conventions.calls import normalised
from agentlightning_nb.conventions.waiting import at_last, can_wait
from agentlightning_nb.storage.incoming import arrived, as_told, incoming_of
from agentlightning_nb.storage.rows import to_json
from agentlightning_nb.storage.spans import span_of, span_row, span_text
from agentlightning_nb.types import Span

words = st.text(max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda v: st.lists(v, max_size=3) | st.dictionaries(words, v, max_size=3),
    max_leaves=6,
)
ids = st.lists(st.integers(0, 2**31 - 1), max_size=4)
spans = st.builds(
    Span,
    rollout_id=words,
    attempt_id=words,
    sequence_id=st.integers(0, 9),
    trace_id=words,
    span_id=words,
    parent_id=st.none() | words,
    name=words,
    status=st.fixed_dictionaries(
        {"status_code": st.sampled_from(["OK", "UNSET", "ERROR"]), "description": st.none() | words}
    ),
    attributes=st.dictionaries(words, values, max_size=3)
    | st.fixed_dictionaries({"prompt_token_ids": ids, "response_token_ids": ids})
    | st.builds(lambda n: {"response_token_ids": [1] * n, "response_logprobs": [-0.1] * n}, st.integers(1, 4)),
    events=st.lists(st.fixed_dictionaries({"name": words}, optional={"attributes": st.just({"a": 1})}), max_size=2),
    links=st.lists(st.fixed_dictionaries({"context": st.just({"trace_id": "t", "span_id": "s"})}), max_size=1),
    start_time=st.none() | st.floats(0, 2e9),
    end_time=st.none() | st.floats(0, 2e9),
    context=st.none() | st.just({"trace_id": "t", "span_id": "s"}),
    parent=st.none() | st.just({"trace_id": "t", "span_id": "s"}),
    resource=st.just({}) | st.just({"attributes": {"service.name": "x"}, "schema_url": "u"}),
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(spans)
def test_a_span_as_text_is_the_record_as_json(span):
    row = span_row(span)
    assert json.loads(span_text(row)) == json.loads(span_of(row).model_dump_json())


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(spans, max_size=3),
    st.sampled_from([{}, {"gen_ai.operation.name": "chat"}, {"gen_ai.usage.input_tokens": 3}]),
)
def test_a_span_that_arrives_as_json_is_kept_as_its_record_would_be(sent, said):
    told = [json.loads(s.model_dump_json()) for s in sent]
    told = [s | {"attributes": s["attributes"] | said} for s in told]
    found = arrived(json.dumps(told).encode())
    slow = [incoming_of(as_told(s)) for s in told]
    assert [span_of(i.row) for i in found.spans] == [span_of(i.row) for i in slow]
    assert [i[1:] for i in found.spans] == [i[1:] for i in slow]
    ids = lambda spans: [(s["span_id"], s["name"], s["sequence_id"]) for s in spans]  # noqa: E731
    assert ids(json.loads(found.answer())) == ids(told)


texts = st.text(max_size=5) | st.sampled_from(["", "7"])
parts = st.fixed_dictionaries({"type": st.sampled_from(["text", "text", "reasoning"]), "content": texts})
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "tool"]), "parts": st.lists(parts, min_size=1, max_size=2)},
        optional={"finish_reason": st.sampled_from(["stop", "tool_call", ""])},
    ),
    max_size=2,
).map(json.dumps)
chats = st.fixed_dictionaries(
    {},
    optional={
        "gen_ai.input.messages": messages | values,
        "gen_ai.output.messages": messages,
        "gen_ai.operation.name": texts,
        "gen_ai.request.model": texts | st.integers(0, 3),
        "gen_ai.request.temperature": texts | st.floats(0, 2),
        "gen_ai.usage.input_tokens": st.none() | st.integers(0, 9),
        "gen_ai.response.finish_reasons": st.none() | st.lists(texts, max_size=1),
        "gen_ai.tool.definitions": texts | st.just('[{"type":"function","name":"f"}]'),
        "x": values,
    },
)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(chats)
def test_what_waits_until_it_is_read_is_read_as_if_it_had_not_waited(attributes):
    if can_wait(attributes):
        assert at_last(json.loads(to_json(attributes))) == json.loads(to_json(normalised(attributes)))
