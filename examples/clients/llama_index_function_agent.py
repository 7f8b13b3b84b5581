"""An agent of LlamaIndex with a tool; it streams each of its calls.

    pip install llama-index-core llama-index-llms-openai-like 'agentlightning_nb[notebook]'
    OPENAI_BASE_URL=http://localhost:8001/v1 OPENAI_API_KEY=... MODEL=my-model python examples/clients/llama_index_function_agent.py

Every model call passes the proxy of this process on its way there and is recorded with its rollout.
"""

import os

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.llms.openai_like import OpenAILike

from agentlightning_nb.litagent import rollout
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.types import LLM

TASKS = [{"question": "What is 17 * 23?", "answer": "391"}, {"question": "What is 40 + 2?", "answer": "42"}]


def multiply(a: int, b: int) -> int:
    "a times b"
    return a * b


@rollout
async def agent(task, llm):
    options = {"is_chat_model": True, "is_function_calling_model": True, "context_window": 8192}
    model = OpenAILike(model=llm.model, api_base=llm.base_url, api_key=llm.api_key, **options)
    calculating = FunctionAgent(tools=[multiply], llm=model, system_prompt="Be brief.")
    said = await calculating.run(task.input["question"])
    return float(task.input["answer"] in str(said))


if __name__ == "__main__":
    with Trainer(n_workers=2, upstream=os.environ["OPENAI_BASE_URL"]) as trainer:
        rewards = trainer.evaluate(agent, TASKS, {"llm": LLM(os.environ.get("MODEL", "gpt-5-mini"))})
        print(rewards[["input", "reward", "status", "error"]])
