"A small store with everything that the panels show: two runs, a lineage with a merge, groups with tokens, hostile text."

import json

from agentlightning_nb.store import LightningStore
from agentlightning_nb.types import LLM, AttemptError, PromptTemplate, Span, ToolDefinition

HOSTILE = "</script><img src=x onerror=alert(1)>\u202eevil"
QUESTIONS = (
    "How much is 281 + 64?",
    "What is 58 * 15?",
    "Compute 128 + 641.",
    "330 - 849 = ?",
    "Tell me a riddle about salt.",
)
PROMPTS = (
    "Answer the question.",
    "Answer the question with a number.",
    "Answer the question with a number and nothing else. Use the calculator for every product.",
    "Answer the question with a number. Think before you answer.",
    f"Answer the question with a number and nothing else. Use the calculator; think before you answer. {HOSTILE}",
)
PARENTS = ((), (0,), (1,), (1,), (2, 3))
WORTH = (0.2, 0.4, 0.7, 0.5, 0.9)  # of each version


def filled() -> LightningStore:
    "The store."
    store = LightningStore()
    ids = lineage(store)
    for run, algorithm, versions in (("run-1", "GRPO", ids[:4]), ("run-2", f"GEPA {HOSTILE}", ids)):
        store.add_run(run, algorithm=algorithm)
        for step, version in enumerate(versions):
            for t, question in enumerate(QUESTIONS):
                for i in range(4):
                    answered(
                        store,
                        run,
                        step,
                        version,
                        t,
                        question,
                        good=(i + t + step) / 8 < WORTH[ids.index(version)] - 0.15 * (run == "run-1"),
                        i=i,
                    )
            store.add_metrics(run, step, {"reward": WORTH[step], "loss": 1 / (step + 1)})
    store.update_run("run-1", status="succeeded", end=True)
    return store


def lineage(store) -> list[str]:
    "Five versions, the last with two parents."
    ids: list[str] = []
    for i, (prompt, parents) in enumerate(zip(PROMPTS, PARENTS, strict=True)):
        schema = {"type": "object", "properties": {"expression": {"type": "string"}} if i > 1 else {}}
        made = {
            "prompt": PromptTemplate(prompt),
            "calculator": ToolDefinition(
                "calculator", "Compute an expression." if i < 2 else "Compute one arithmetic expression.", schema
            ),
            "llm": LLM("policy", sampling={"temperature": 1.0 if i < 3 else 0.7}),
        }
        note = "initial" if not parents else "merge of both" if len(parents) > 1 else f"after {WORTH[i]:g} of the tasks"
        ids.append(store.add_resources(made, parents=[ids[p] for p in parents], note=note).resources_id)
    return ids


def answered(store, run, step, version, t, question, *, good, i) -> str:
    "A rollout that computes, or guesses, or fails."
    known = {"run_id": run, "step": step, "task_id": f"task-{t}", "resources_id": version, "mode": "train"}
    at = store.start_rollout({"question": question}, group_id=f"{run}/{step}/{t}", worker_id="w", **known).attempt
    ids = {"rollout_id": at.rollout_id, "attempt_id": at.attempt_id}
    chat = [{"role": "system", "content": "You answer."}, {"role": "user", "content": question}]
    call = {"id": "c", "function": {"name": "calculator", "arguments": '{"expression": "58*15"}'}}
    replies = [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "assistant", "content": f"It is {345 + t}, exactly."},
    ]
    if not good:
        replies = [{"role": "assistant", "content": f"It is {300 + i}, I guess. {HOSTILE if i == 3 else ''}".strip()}]
    for n, reply in enumerate(replies):
        told = {
            "gen_ai.operation.name": "chat",
            "gen_ai.input.messages": json.dumps(chat),
            "gen_ai.output.messages": json.dumps([reply]),
        }
        told |= {
            "prompt_token_ids": [1, 2, *range(n)],
            "response_token_ids": [5, 60 if good else 61 + i, 7],
            "response_logprobs": [-0.1, -0.4 if good else -1.6, -0.1],
        }
        store.add_span(Span(**ids, name="chat policy", attributes=told, start_time=1.0 + n, end_time=1.5 + n))
        chat += [reply, {"role": "tool", "tool_call_id": "c", "content": "870"}]
    if t == 4 and i == 0:
        store.finish_attempt(
            *ids.values(), status="failed", error=AttemptError(type="KeyError", message=HOSTILE, traceback=HOSTILE)
        )
    else:
        store.finish_attempt(*ids.values(), reward=float(good), rewards={"style": 0.5})
    return at.rollout_id
