"""A room-booking agent that gets better by its prompt: a search criticises what went wrong and rewrites system prompt and tool description.

Without a hosted model it runs on a *simulated* one, which says so: its answers follow rules that stand in the prompt, and so does its criticism."""

import json
import random
import re
import ssl
import zlib

import httpx2
import openai

from agentlightning_nb.algorithms.apo import APO
from agentlightning_nb.algorithms.prompts import Budget
from agentlightning_nb.litagent import rollout
from agentlightning_nb.testing import Answer, Call, ScriptedModel
from agentlightning_nb.tracer import emit_message
from agentlightning_nb.types import LLM, PromptTemplate, ToolDefinition

TLS = ssl.create_default_context()  # made once: a client of its own for each rollout would spend 40 ms on it
ROOMS = {
    "Ada": (4, {"screen"}),
    "Bell": (8, {"screen", "phone"}),
    "Curie": (2, set()),
    "Darwin": (12, {"screen", "phone", "whiteboard"}),
    "Euler": (6, {"whiteboard"}),
    "Fermi": (4, {"phone"}),
}  # seats and equipment
TOO_SMALL = "the room was too small"
LACKS = "the room lacked something that was asked for"
TAKEN = "the room was taken"
TOO_LARGE = "a smaller room would have done"


def resources(model: str) -> dict:
    "Where the search begins."
    parameters = {"type": "object", "properties": {"room": {"type": "string"}}, "required": ["room"]}
    system = PromptTemplate("You book rooms. Rooms: {rooms}")
    return {"system": system, "book": ToolDefinition("book", "Book a room.", parameters), "llm": LLM(model)}


def prompt_search(model: str, *, small: bool = False) -> APO:
    "How it is searched; the same model works and writes."
    return APO(
        model=model,
        beam_width=2,
        branches=4,
        max_steps=2 if small else 6,
        budget=Budget(rollouts=150 if small else 1500),
    )


def tasks(n: int, *, seed: int, held_out: bool = False) -> list[dict]:
    "n requests, with the rooms that are right for each."
    rng = random.Random(f"{seed}/{held_out}")
    return [request(rng) for _ in range(n)]


def request(rng: random.Random) -> dict:
    "A request that at least one room can meet."
    while True:
        people, taken = rng.randint(1, 10), rng.sample(sorted(ROOMS), rng.randint(0, 3))
        needs = rng.sample(["screen", "phone", "whiteboard"], rng.choice([0, 1, 1, 2]))
        given = {"people": people, "needs": needs, "taken": taken}
        if any(problem(given, room) in (None, TOO_LARGE) for room in ROOMS):
            return given


def problem(given: dict, room: str) -> str | None:
    "What is wrong with a room; None for the right one."
    seats, equipment = ROOMS.get(room, (0, set()))
    if seats < given["people"]:
        return TOO_SMALL
    if not set(given["needs"]) <= equipment:
        return LACKS
    if room in given["taken"]:
        return TAKEN
    others = (r for r in ROOMS if ROOMS[r][0] < seats)
    return TOO_LARGE if any(problem(given, r) is None for r in others) else None


@rollout
async def agent(task, llm, system, book):
    given = task.input
    wish = f"{given['people']} people, with {' and '.join(given['needs']) or 'nothing'}. Taken: {', '.join(given['taken']) or 'none'}."
    rooms = "; ".join(
        f"{name}, {seats} seats, {', '.join(sorted(has)) or 'bare'}" for name, (seats, has) in ROOMS.items()
    )
    messages = [{"role": "system", "content": system.format(rooms=rooms)}, {"role": "user", "content": wish}]
    function = {"name": book.name, "description": book.description, "parameters": book.parameters}
    http = httpx2.AsyncClient(verify=TLS)
    async with openai.AsyncOpenAI(base_url=llm.base_url, api_key=llm.api_key, http_client=http) as client:
        tools = [{"type": "function", "function": function}]
        reply = await client.chat.completions.create(model=llm.model, messages=messages, tools=tools, **llm.sampling)
    room = booked(reply.choices[0].message)
    wrong = problem(given, room)
    if wrong is not None:
        emit_message(f"{room or 'Nothing'} was booked: {wrong}.")
    return {None: 1.0, TOO_LARGE: 0.3}.get(wrong, 0.0)


def booked(message) -> str:
    "The room of a booking, or nothing."
    try:
        return str(json.loads(message.tool_calls[0].function.arguments)["room"])
    except (TypeError, ValueError, KeyError):
        return ""


# a simulated model, for those without a hosted one: it heeds what its prompt says, and nothing else

RULES = {
    TOO_SMALL: "Count the people: the room must have a seat for each.",
    LACKS: "Check the equipment that is asked for.",
    TAKEN: "Never book a room that is taken.",
    TOO_LARGE: "Book the smallest room that will do.",
}


def simulated() -> ScriptedModel:
    "A model of rules; its name begins with `sim-`, and whatever it says is marked as simulated."
    return ScriptedModel(said, name="sim-clerk")


def said(body: dict) -> str | Answer:
    text = body["messages"][-1]["content"]
    if "keeps the rewards low" in text:
        missed = [rule for wrong, rule in RULES.items() if wrong in text]
        return "The texts should say: " + " ".join(drawn(text).sample(missed, min(1, len(missed))))
    if "A reviewer says about them:" in text:
        return edited(*text.split("A reviewer says about them:"))
    return Answer(calls=(Call("book", {"room": chosen(body, text)}),))


def drawn(text: str) -> random.Random:
    return random.Random(zlib.crc32(text.encode()))


def edited(texts: str, review: str) -> str:
    "The system prompt with the rules of the review."
    (system,) = re.findall(r'<text name="system">(.*?)</text>', texts, re.DOTALL)
    fresh = [rule for rule in RULES.values() if rule in review and rule not in system]
    return f'<text name="system">{" ".join([system, *fresh])}</text>'


def chosen(body: dict, wish: str) -> str:
    "The room that the heeded rules leave, by chance where they leave several."
    system = body["messages"][0]["content"]
    people, taken = int(wish.split()[0]), re.findall(r"[A-Z]\w+", wish.split("Taken:")[1])
    needs = {thing for thing in ("screen", "phone", "whiteboard") if thing in wish}
    left = [
        name
        for name, (seats, has) in ROOMS.items()
        if (RULES[TOO_SMALL] not in system or seats >= people)
        and (RULES[LACKS] not in system or needs <= has)
        and (RULES[TAKEN] not in system or name not in taken)
    ]
    if RULES[TOO_LARGE] in system:
        least = min((ROOMS[name][0] for name in left), default=0)
        left = [name for name in left if ROOMS[name][0] == least]
    return drawn(wish + system).choice(left) if left else ""
