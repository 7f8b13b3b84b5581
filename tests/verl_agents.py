"Agents and tasks for the tests of verl: small, multi-turn, defined as one would in a notebook."

import contextlib
from pathlib import Path

import openai
import pytest

from agentlightning_nb.litagent import rollout
from agentlightning_nb.rl.rows import kept, rows_of
from agentlightning_nb.types import AgentLightningTask
from agentlightning_nb.verl.cpu import on_cpu

TASKS = [AgentLightningTask(context=f"What is {i} + {i + 3}?") for i in range(8)]


def options(**settings) -> dict:
    "Arguments of VERL for this machine; a cluster that RAY_ADDRESS names has its own resources."
    import os

    given = on_cpu(**settings)
    return given | ({"ray": {}} if os.environ.get("RAY_ADDRESS") else {})


def keeping(seen, held):
    "A session's method, and what it gives kept: tokens, mask and scores of each row as they lie in verl's queue."

    def kept_too(self, batch):
        found = seen(self, batch)
        names = ["input_ids", "prompts", "responses", "response_mask", "rollout_log_probs"]
        keys = [row.key for row, _ in found]
        data = self._queue.kv_batch_get(keys=keys, partition_id=batch.partition_id, select_fields=names)
        for i, (row, values) in enumerate(found):
            held.append((row, {n: data[n][i].tolist() for n in names}, values))
        return found

    return kept_too


def assert_same_trajectories(store, run_id, held):
    "What verl had of each row is what lies in the store, token for token and mask for mask."
    rollouts = {r.rollout_id: r for r in store.query_rollouts(run_id=run_id)}
    triplets = store.query_triplets(list({row.row.rollout_id for row, *_ in held}))
    for row, seen, _ in held:
        ours = rows_of(triplets[row.row.rollout_id])[row.position]
        start = ours.mask.index(1)
        assert seen["input_ids"] == seen["prompts"] + seen["responses"] == ours.token_ids
        assert seen["response_mask"] == ([0] * (len(ours.mask) - start) if row.dropped else kept(ours)[start:])
        assert seen["rollout_log_probs"] == pytest.approx(ours.behaviour_logprobs[start:], abs=1e-6)
        assert row.reward == rollouts[row.row.rollout_id].reward


def descendants(pid):
    "The processes below this one: what each is called, by its id."
    parents, named = {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, parent = (path / "stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(path.name)] = int(parent)
                named[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    found, new = {}, {pid}
    while new:
        new = {p for p, parent in parents.items() if parent in new}
        found |= {p: named[p] for p in new}
    return found


def alive(processes):
    "Those of these processes that still run."
    found = {}
    for pid, said in processes.items():
        with contextlib.suppress(OSError):
            now = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if now and (now == said or "::" in now and "::" in said):  # these change what they are called
                found[pid] = said
    return found


def digits(text: str | None) -> float:
    "The share of digits in a text of about twelve characters: something that a policy learns in a few steps."
    said = (text or "")[:12]
    return sum(c.isdigit() for c in said) / 12


@rollout
def asks_twice(task, llm):
    "Two turns of one conversation, then a question of its own that extends nothing."
    client = openai.OpenAI(base_url=llm.base_url, api_key=llm.api_key, max_retries=0, timeout=120)

    def say(messages):
        answer = client.chat.completions.create(model=llm.model, messages=messages, max_tokens=16)
        return answer.choices[0].message.content

    chat = [{"role": "user", "content": task.context}]
    first = say(chat)
    second = say([*chat, {"role": "assistant", "content": first}, {"role": "user", "content": "Sure?"}])
    other = say([{"role": "user", "content": "Say a number."}])
    return (digits(first) + digits(second) + digits(other)) / 3


@rollout
def asks_once(task, llm):
    "One turn."
    client = openai.OpenAI(base_url=llm.base_url, api_key=llm.api_key, max_retries=0, timeout=120)
    messages = [{"role": "user", "content": task.context}]
    answer = client.chat.completions.create(model=llm.model, messages=messages, max_tokens=16)
    return digits(answer.choices[0].message.content)
