"""A LangGraph agent with a tool.

    pip install langgraph langchain-openai 'agentlightning_nb[notebook]'
    OPENAI_BASE_URL=http://localhost:8001/v1 OPENAI_API_KEY=... MODEL=my-model python examples/clients/langgraph_react.py

Every model call passes the proxy of this process on its way there and is recorded with its rollout.
"""

import os

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from agentlightning_nb.litagent import rollout
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.types import LLM

TASKS = [{"question": "What is 17 * 23?", "answer": "391"}, {"question": "What is 40 + 2?", "answer": "42"}]


@tool
def multiply(a: int, b: int) -> int:
    "a times b"
    return a * b


@rollout
async def agent(task, llm):
    model = ChatOpenAI(model=llm.model, base_url=llm.base_url, api_key=llm.api_key).bind_tools([multiply])

    async def ask(state):
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("ask", ask)
    graph.add_node("tools", ToolNode([multiply]))
    graph.add_edge(START, "ask")
    graph.add_conditional_edges("ask", tools_condition)
    graph.add_edge("tools", "ask")
    done = await graph.compile().ainvoke({"messages": [("user", task.input["question"])]}, {"recursion_limit": 8})
    return float(task.input["answer"] in str(done["messages"][-1].content))


if __name__ == "__main__":
    with Trainer(n_workers=2, upstream=os.environ["OPENAI_BASE_URL"]) as trainer:
        rewards = trainer.evaluate(agent, TASKS, {"llm": LLM(os.environ.get("MODEL", "gpt-5-mini"))})
        print(rewards[["input", "reward", "status", "error"]])
