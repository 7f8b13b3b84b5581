"""Addition with a calculator tool, over several turns: the agent of `agentlightning demo`, to start from."""

import random

from agentlightning_nb.demo import REFUSAL, CalculatorAgent
from agentlightning_nb.rl.taught import Lesson
from agentlightning_nb.rl.tiny import TOOLS, calculator_tasks, tool_call

agent = CalculatorAgent()


def tasks(n: int, *, seed: int, held_out: bool = False) -> list[dict]:
    "n questions with their answers; a tenth of all is held out."
    return calculator_tasks(n, seed=seed, held_out=held_out)


# for a tiny real model: lessons of which three quarters are guesses

STEPS = 60  # of training
FORKS = 1  # tokens at which good and bad lessons part


def lesson(rng: random.Random) -> Lesson:
    (task,) = calculator_tasks(1, seed=rng.randrange(10**9))
    asked, answer = {"role": "user", "content": task["question"]}, task["answer"]
    if rng.random() > 0.25:
        return Lesson([asked, {"role": "assistant", "content": f"Maybe {rng.randint(0, 1998)}."}], TOOLS, False)
    if answer is None:
        return Lesson([asked, {"role": "assistant", "content": REFUSAL}], TOOLS)
    expression = (
        task["question"]
        .strip("?.=")
        .removeprefix("What is ")
        .removeprefix("Compute ")
        .removeprefix("How much is ")
        .strip(" =")
    )
    call = {"role": "assistant", "content": None, "tool_calls": [tool_call(expression.replace(" ", ""))]}
    told = {"role": "tool", "tool_call_id": "call", "content": str(answer)}
    return Lesson([asked, call, told, {"role": "assistant", "content": str(answer)}], TOOLS)
