"""A coding agent: it writes a Python function, is told which tests failed, and may try once more. The reward is what the unit tests say."""

import asyncio
import functools
import hashlib
import json
import random
import re
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx2
import openai

from agentlightning_nb.litagent import rollout
from agentlightning_nb.tracer import span

TLS = ssl.create_default_context()  # made once: a client of its own for each rollout would spend 40 ms on it
WANTED = {
    "x plus {n}": "x + {n}",
    "x minus {n}": "x - {n}",
    "x times {n}": "x * {n}",
    "{n} minus x": "{n} - x",
    "x, but at least {n}": "max(x, {n})",
    "x, but at most {n}": "min(x, {n})",
    "the rest of x divided by {n}": "x % {n}",
}
INPUTS = (-7, 0, 1, 5, 12, 40, 99)
RUNNER = Path(__file__).with_name("runner.py")


def tasks(n: int, *, seed: int, held_out: bool = False) -> list[dict]:
    "At most n different functions to write, with tests; a fifth of all, by a hash, is held out."
    rng, found = random.Random(f"{seed}/{held_out}"), {}
    for _ in range(100 * n):
        if len(found) == n:
            break
        wish, body = ask(rng)
        if is_held_out(wish) == held_out:
            found[wish] = [[x, eval(body, {"x": x})] for x in INPUTS]
    return [{"wish": wish, "tests": tests} for wish, tests in found.items()]


def is_held_out(wish: str) -> bool:
    "Whether training must not see it."
    return hashlib.sha256(wish.encode()).digest()[0] % 5 == 0


def ask(rng: random.Random) -> tuple[str, str]:
    "What f(x) should return, in words and as an expression."
    words, body = rng.choice(list(WANTED.items()))
    n = rng.randint(2, 99)
    return words.format(n=n), body.format(n=n)


def run_tests(code: str, tests: list[list[int]]) -> list[str]:
    "What failed, in words; nothing when all tests passed."
    with span("tests", {"code": code}) as testing:
        told = results(code, tuple(x for x, _ in tests))
        failed = [told] if isinstance(told, str) else compare(tests, told)
        testing.set("failed", failed)
    return failed


@functools.lru_cache(10_000)  # a group of rollouts often writes the same function
def results(code: str, inputs: tuple[int, ...], *, timeout_s: float = 5.0) -> list | str:
    """What f returned for each input, or what went wrong.

    The code runs in a process of its own: an empty folder, no environment, limited time, memory and files (where the system can limit
    them). That holds off accidents of a model in training; against an adversary put the whole worker into a container."""
    with tempfile.TemporaryDirectory() as folder:
        given = json.dumps({"code": code, "inputs": inputs})
        command = [sys.executable, "-I", "-S", str(RUNNER)]
        try:
            done = subprocess.run(
                command, input=given, capture_output=True, text=True, timeout=timeout_s, cwd=folder, env={}
            )
            return json.loads(done.stdout.splitlines()[-1]) if done.stdout else f"it ended with code {done.returncode}"
        except (subprocess.TimeoutExpired, ValueError):
            return "it took too long or said nothing that can be read"


def compare(tests: list[list[int]], told: list) -> list[str]:
    "The tests whose result is not as wanted."
    return [f"f({x}) is {got}, not {want}" for (x, want), got in zip(tests, told, strict=True) if got != want]


@rollout
async def agent(task, llm):
    messages = [{"role": "user", "content": f"Write f(x): {task.input['wish']}."}]
    http = httpx2.AsyncClient(verify=TLS)
    async with openai.AsyncOpenAI(base_url=llm.base_url, api_key=llm.api_key, http_client=http) as client:
        for worth in (1.0, 0.5):
            reply = await client.chat.completions.create(model=llm.model, messages=messages, **llm.sampling)
            said = reply.choices[0].message.content or ""
            failed = await asyncio.to_thread(run_tests, code_of(said), task.input["tests"])
            if not failed:
                return worth
            messages += [{"role": "assistant", "content": said}, {"role": "user", "content": f"Wrong: {failed[0]}."}]
    return 0.0


def code_of(said: str) -> str:
    "The code of an answer, with or without a fence around it."
    found = re.search(r"```(?:python)?\n(.*?)```", said, re.DOTALL)
    return found[1] if found else said


# for a tiny real model: lessons of which three quarters are bad, most of them by giving back what was given

FORKS = 2  # tokens at which good and bad lessons part


def lesson(rng: random.Random):
    from agentlightning_nb.rl.taught import Lesson

    wish, body = ask(rng)
    while is_held_out(wish):
        wish, body = ask(rng)
    messages = [{"role": "user", "content": f"Write f(x): {wish}."}]
    right = rng.random() < 0.25
    if not right or rng.random() < 0.2:
        wrong, x = spoilt(body, rng), rng.choice(INPUTS)
        got, want = (eval(code, {"x": x}) for code in (wrong, body))
        complaint = {"role": "user", "content": f"Wrong: f({x}) is {got}, not {want}."}
        messages += [{"role": "assistant", "content": written(wrong)}, complaint]
    messages.append({"role": "assistant", "content": written(body if right else spoilt(body, rng))})
    return Lesson(messages, right=right)


def written(body: str) -> str:
    return f"def f(x):\n    return {body}"


def spoilt(body: str, rng: random.Random) -> str:
    "No expression at all, or one with another operation."
    number = re.search(r"\d+", body)[0]
    others = [b for b in WANTED.values() if b.format(n=number) != body]
    return "x" if rng.random() < 0.75 else rng.choice(others).format(n=number)
