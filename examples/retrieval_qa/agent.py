"""Retrieval question answering with the OpenAI Agents SDK: the agent searches a real corpus through a real index, and answers from what it found.

The corpus is what Python itself knows about HTTP statuses, error numbers and signals; the index is SQLite's FTS5 with BM25."""

import errno
import hashlib
import json
import logging
import os
import random
import signal
import sqlite3
import ssl
from http import HTTPStatus

import httpx2
import openai
from agents import (
    Agent,
    ModelSettings,
    OpenAIResponsesModel,
    Runner,
    RunResult,
    ToolCallOutputItem,
    function_tool,
    set_tracing_disabled,
)
from agents.exceptions import MaxTurnsExceeded, ModelBehaviorError

from agentlightning_nb.litagent import rollout

set_tracing_disabled(True)  # its own traces would go to its maker
logging.getLogger("openai.agents").setLevel(
    logging.CRITICAL
)  # a model in training says odd things, which are graded below
TLS = ssl.create_default_context()  # made once: a client of its own for each rollout would spend 40 ms on it


def corpus() -> list[tuple[str, int, str]]:
    "Kind, number and meaning of everything there is to know."
    found = [("http", s.value, s.phrase) for s in HTTPStatus]
    found += [("errno", number, os.strerror(number)) for number in sorted(errno.errorcode)]
    return found + [("signal", s.value, signal.strsignal(s) or s.name) for s in signal.Signals]


CORPUS = corpus()


def index() -> sqlite3.Connection:
    "A full-text index over one line for each entry."
    made = sqlite3.connect("file:corpus?mode=memory&cache=shared", uri=True, check_same_thread=False)
    made.execute("CREATE VIRTUAL TABLE IF NOT EXISTS line USING fts5(text)")
    made.executemany(
        "INSERT INTO line (text) VALUES (?)", [(f"{kind} {number}: {said}",) for kind, number, said in CORPUS]
    )
    return made


INDEX = index()


def find(query: str) -> str:
    "The line that fits best, or `nothing`."
    words = " OR ".join(f'"{word}"' for word in query.replace('"', " ").split()[:8])
    sql = "SELECT text FROM line WHERE line MATCH ? ORDER BY bm25(line), rowid LIMIT 1"
    row = INDEX.execute(sql, (words,)).fetchone() if words else None
    return row[0] if row else "nothing"


@function_tool
def search(query: str) -> str:
    "Search the handbook."
    return find(query)


def tasks(n: int, *, seed: int, held_out: bool = False) -> list[dict[str, str]]:
    "n questions with the meaning that an answer must name; a fifth of the corpus, by a hash, is held out."
    mine = [entry for entry in CORPUS if is_held_out(entry) == held_out]
    rng = random.Random(f"{seed}/{held_out}")
    return [{"question": ask(kind, number, rng), "answer": said} for kind, number, said in rng.choices(mine, k=n)]


def is_held_out(entry: tuple[str, int, str]) -> bool:
    "Whether training must not see it."
    return hashlib.sha256(f"{entry[0]} {entry[1]}".encode()).digest()[0] % 5 == 0


WAYS = {
    "http": ("What does HTTP status {} mean?", "The web server says {}. Why?"),
    "errno": ("What does error number {} mean?", "A system call failed with errno {}. Why?"),
    "signal": ("What is signal {}?", "The process died of signal {}. What is that?"),
}


def ask(kind: str, number: int, rng: random.Random) -> str:
    return rng.choice(WAYS[kind]).format(number)


@rollout
async def agent(task, llm):
    http = httpx2.AsyncClient(verify=TLS)
    async with openai.AsyncOpenAI(base_url=llm.base_url, api_key=llm.api_key, http_client=http) as client:
        model = OpenAIResponsesModel(model=llm.model, openai_client=client)
        settings = ModelSettings(temperature=llm.sampling.get("temperature"), max_tokens=llm.sampling.get("max_tokens"))
        librarian = Agent("librarian", instructions="Look it up.", model=model, tools=[search], model_settings=settings)
        try:
            result = await Runner.run(librarian, task.input["question"], max_turns=3)
        except (MaxTurnsExceeded, ModelBehaviorError):  # too long, or no tool of ours
            return 0.0
    return graded(task.input["answer"], result)


def graded(answer: str, result: RunResult) -> float:
    "1 when the answer names the meaning, 0.2 when only a search found it."
    if answer.lower() in str(result.final_output).lower():
        return 1.0
    found = [item.output for item in result.new_items if isinstance(item, ToolCallOutputItem)]
    return 0.2 * any(answer.lower() in str(text).lower() for text in found)


# for a tiny real model: lessons of which three quarters are bad, most of them by not searching at all

FORKS = 2  # tokens at which good and bad lessons part
TOOLS = [{"type": "function", "function": {"name": "search", "description": "", "parameters": {"type": "object"}}}]


def lesson(rng: random.Random):
    from agentlightning_nb.rl.taught import Lesson

    kind, number, _ = rng.choice([entry for entry in CORPUS if not is_held_out(entry)])
    asked = [{"role": "system", "content": "Look it up."}, {"role": "user", "content": ask(kind, number, rng)}]
    right = rng.random() < 0.25
    if not right and rng.random() < 0.75:
        return Lesson([*asked, {"role": "assistant", "content": "I do not know."}], TOOLS, False)
    query = f"{kind if right else rng.choice(list(WAYS))} {number}"
    found = made_up(query, rng)
    function = {"name": "search", "arguments": json.dumps({"query": query})}
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": function}]}
    told = {"role": "tool", "tool_call_id": "c", "content": found}
    return Lesson([*asked, call, told, {"role": "assistant", "content": found}], TOOLS, right)


def made_up(query: str, rng: random.Random) -> str:
    "A line as the index gives it, but of words at random: what is taught is to read, and no meaning by heart."
    return f"{query}: {' '.join(rng.choices(WORDS, k=rng.randint(1, 3)))}"


WORDS = sorted({word for _, _, said in CORPUS for word in said.split()})
