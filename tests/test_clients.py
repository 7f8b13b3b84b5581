"Agents of other frameworks through the proxy, unchanged: what they do and what the store then holds."

import asyncio
import json

import pytest
from test_proxy import IDS, LOGPROBS, PROMPT, Parrot, place  # noqa: F401


def holds(p, dialect, streamed=False):
    "The one span of the attempt, with exact tokens."
    (span,) = p.spans()
    a = span.attributes
    assert (a["prompt_token_ids"], a["response_token_ids"], a["response_logprobs"]) == (PROMPT, IDS, LOGPROBS)
    assert (a["agl.dialect"], a["agl.streamed"]) == (dialect, streamed)
    return json.loads(a["gen_ai.input.messages"])


@pytest.mark.parametrize("streamed", [False, True])
def test_openai_agents_speaks_responses(place, streamed):  # noqa: F811
    agents = pytest.importorskip("agents")
    agents.set_tracing_disabled(True)
    p = place(Parrot())

    async def run():
        import openai

        async with p.client(openai.AsyncOpenAI) as client:
            model = agents.OpenAIResponsesModel(model="tiny", openai_client=client)
            agent = agents.Agent(name="a", instructions="Be short.", model=model)
            if not streamed:
                return (await agents.Runner.run(agent, "2+2?")).final_output
            result = agents.Runner.run_streamed(agent, "2+2?")
            async for _ in result.stream_events():
                pass
            return result.final_output

    assert asyncio.run(run()) == "four and done"
    assert [m["content"] for m in holds(p, "responses", streamed)] == ["Be short.", "2+2?"]


@pytest.mark.parametrize("responses", [False, True])
def test_langgraph_speaks_chat_or_responses(place, responses):  # noqa: F811
    graph = pytest.importorskip("langgraph.graph")
    chat = pytest.importorskip("langchain_openai")
    p = place(Parrot())
    options = {"base_url": p.base_url, "api_key": p.token, "max_retries": 0, "use_responses_api": responses}
    model = chat.ChatOpenAI(model="tiny", **options)
    building = graph.StateGraph(graph.MessagesState)
    building.add_node("ask", lambda state: {"messages": [model.invoke(state["messages"])]})
    building.add_edge(graph.START, "ask")
    answer = building.compile().invoke({"messages": [("user", "2+2?")]})["messages"][-1]
    assert (answer.text if isinstance(answer.text, str) else answer.text()) == "four and done"
    assert [m["content"] for m in holds(p, "responses" if responses else "chat")] == ["2+2?"]


def test_anthropics_client_speaks_messages(place):  # noqa: F811
    anthropic = pytest.importorskip("anthropic")
    p = place(Parrot())
    client = anthropic.Anthropic(base_url=p.base_url, api_key=p.token, max_retries=0)
    with client.messages.stream(model="tiny", max_tokens=9, messages=[{"role": "user", "content": "2+2?"}]) as told:
        assert told.get_final_text() == "four and done"
    assert [m["content"] for m in holds(p, "messages", True)] == ["2+2?"]
