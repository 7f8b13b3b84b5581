"""An agent of the Claude Agent SDK, whatever model is behind the proxy. Its own tools are switched off.

    pip install claude-agent-sdk 'agentlightning_nb[notebook]'
    OPENAI_BASE_URL=http://localhost:8001/v1 OPENAI_API_KEY=... MODEL=my-model python examples/clients/claude_agent.py

Every model call passes the proxy of this process on its way there and is recorded with its rollout.
"""

import os
import tempfile

from claude_agent_sdk import ClaudeAgentOptions, ResultMessage, query

from agentlightning_nb.litagent import rollout
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.types import LLM

TASKS = [{"question": "What is 17 * 23?", "answer": "391"}, {"question": "What is 40 + 2?", "answer": "42"}]


QUIET = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_TELEMETRY": "1"}


@rollout
async def agent(task, llm):
    said = ""
    with tempfile.TemporaryDirectory() as home:  # neither settings nor a log-in of yours
        env = QUIET | {"ANTHROPIC_BASE_URL": llm.base_url, "ANTHROPIC_API_KEY": llm.api_key, "CLAUDE_CONFIG_DIR": home}
        options = ClaudeAgentOptions(
            model=llm.model, system_prompt="Be brief.", tools=[], max_turns=2, env=env, cwd=home, setting_sources=[]
        )
        async for message in query(prompt=task.input["question"], options=options):
            if isinstance(message, ResultMessage):
                said = message.result or ""
    return float(task.input["answer"] in said)


if __name__ == "__main__":
    with Trainer(n_workers=2, upstream=os.environ["OPENAI_BASE_URL"]) as trainer:
        rewards = trainer.evaluate(agent, TASKS, {"llm": LLM(os.environ.get("MODEL", "gpt-5-mini"))})
        print(rewards[["input", "reward", "status", "error"]])
