"""Text to SQL on a real SQLite database: a LangGraph agent writes a query, reads its rows and answers; the reward is what the query returns."""

import hashlib
import json
import random
import sqlite3
import ssl
import threading

import httpx2
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from agentlightning_nb.litagent import rollout
from agentlightning_nb.tracer import emit_message

SCHEMA = "books(title, author, year, price, stock), orders(book, city, copies)"
CITIES = ("Oslo", "Rome", "Lima", "Cairo", "Kyoto", "Quito")
QUESTIONS = {
    "How many books cost more than {price}?": "SELECT count(*) FROM books WHERE price > {price}",
    "How many books cost less than {price}?": "SELECT count(*) FROM books WHERE price < {price}",
    "How many books were published after {year}?": "SELECT count(*) FROM books WHERE year > {year}",
    "How many books were published before {year}?": "SELECT count(*) FROM books WHERE year < {year}",
    "What does the dearest book from before {year} cost?": "SELECT max(price) FROM books WHERE year < {year}",
    "How many copies were ordered from {city}?": "SELECT sum(copies) FROM orders WHERE city = '{city}'",
    "How many orders of more than {copies} copies are there?": "SELECT count(*) FROM orders WHERE copies > {copies}",
}


def bookshop() -> sqlite3.Connection:
    "A shop with 300 books and 2,000 orders; its rows are made up, the same each time."
    rng, shop = (
        random.Random(0),
        sqlite3.connect("file:bookshop?mode=memory&cache=shared", uri=True, check_same_thread=False),
    )
    shop.execute("CREATE TABLE IF NOT EXISTS books (title TEXT, author TEXT, year INT, price INT, stock INT)")
    shop.execute("CREATE TABLE IF NOT EXISTS orders (book TEXT, city TEXT, copies INT)")
    books = [
        (f"Book {i}", f"Author {i % 40}", rng.randint(1800, 2020), rng.randint(5, 60), rng.randint(0, 9))
        for i in range(300)
    ]
    shop.executemany("INSERT INTO books VALUES (?, ?, ?, ?, ?)", books)
    orders = [(f"Book {rng.randrange(300)}", rng.choice(CITIES), rng.randint(1, 9)) for _ in range(2000)]
    shop.executemany("INSERT INTO orders VALUES (?, ?, ?)", orders)
    shop.execute("PRAGMA query_only = ON")  # an agent reads
    return shop


SHOP, ALONE = (
    bookshop(),
    threading.Lock(),
)  # one query at a time: handlers in Python and threads on one connection lock each other out


def rows_of(query: str) -> list[tuple]:
    "What a query returns, at most 20 rows; ValueError for what is no query, or takes too long."
    steps = iter(range(50))
    with ALONE:
        SHOP.set_progress_handler(lambda: next(steps, None) is None, 10_000)
        try:
            return SHOP.execute(query).fetchmany(20)
        except sqlite3.Error as e:
            raise ValueError(str(e)) from e


@tool
def run_sql(query: str) -> str:
    "Run one SQL query on the shop's database."
    try:
        rows = rows_of(query)
    except ValueError:
        return "error"
    return ", ".join(str(value) for row in rows for value in row)[:60]


def tasks(n: int, *, seed: int, held_out: bool = False) -> list[dict[str, str]]:
    "At most n different questions with the query that answers them; a fifth of all, by a hash, is held out."
    rng, found = random.Random(f"{seed}/{held_out}"), {}
    for _ in range(100 * n):
        if len(found) == n:
            break
        question, query = ask(rng)
        if is_held_out(question) == held_out:
            found[question] = query
    return [{"question": q, "query": query} for q, query in found.items()]


def is_held_out(question: str) -> bool:
    "Whether training must not see it."
    return hashlib.sha256(question.encode()).digest()[0] % 5 == 0


def ask(rng: random.Random) -> tuple[str, str]:
    "A question and its query."
    question, query = rng.choice(list(QUESTIONS.items()))
    values = {
        "price": rng.randint(6, 59),
        "year": rng.randint(1801, 2019),
        "city": rng.choice(CITIES),
        "copies": rng.randint(1, 8),
    }
    return question.format(**values), query.format(**values)


TLS = ssl.create_default_context()  # made once: a client of its own for each rollout would spend 40 ms on it


@rollout
async def agent(task, llm):
    http = {"http_client": httpx2.Client(verify=TLS), "http_async_client": httpx2.AsyncClient(verify=TLS)}
    model = ChatOpenAI(model=llm.model, base_url=llm.base_url, api_key=llm.api_key, **http, **llm.sampling).bind_tools(
        [run_sql]
    )

    async def write(state):
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("write", write)
    graph.add_node("tools", ToolNode([run_sql]))
    graph.add_edge(START, "write")
    graph.add_conditional_edges("write", tools_condition)
    graph.add_edge("tools", "write")
    asked = [("system", f"Answer with SQL. Tables: {SCHEMA}"), ("user", task.input["question"])]
    done = await graph.compile().ainvoke({"messages": asked}, {"recursion_limit": 6})
    return graded(done["messages"], task.input["query"])


def graded(messages: list, query: str) -> float:
    "1 when a query of the agent returned the right rows and its answer names the value; 0.2 when the query alone was right."
    wanted = rows_of(query)
    queries = [call["args"].get("query", "") for m in messages for call in getattr(m, "tool_calls", [])]
    if not any(returns(q, wanted) for q in queries):
        emit_message(f"No query returned {wanted}: {queries}")
        return 0.0
    return 1.0 if messages[-1].text.strip() == str(wanted[0][0]) else 0.2


def returns(query: str, wanted: list[tuple]) -> bool:
    try:
        return rows_of(query) == wanted
    except ValueError:
        return False


# for a tiny real model: lessons of which three quarters are bad, most of them by guessing

FORKS = 2  # tokens at which good and bad lessons part


def lesson(rng: random.Random):
    from agentlightning_nb.rl.taught import Lesson

    question, query = ask(rng)
    while is_held_out(question):
        question, query = ask(rng)
    asked = [{"role": "system", "content": f"Answer with SQL. Tables: {SCHEMA}"}, {"role": "user", "content": question}]
    right = rng.random() < 0.25
    if not right and rng.random() < 0.75:
        return Lesson([*asked, {"role": "assistant", "content": f"Maybe {rng.randint(0, 99)}."}], TOOLS, False)
    query = query if right else rng.choice(SPOILT)(query)
    result = run_sql.invoke({"query": query})
    function = {"name": "run_sql", "arguments": json.dumps({"query": query})}
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": function}]}
    told = {"role": "tool", "tool_call_id": "c", "content": result}
    return Lesson([*asked, call, told, {"role": "assistant", "content": result}], TOOLS, right)


TOOLS = [{"type": "function", "function": {"name": "run_sql", "description": "", "parameters": {"type": "object"}}}]
SPOILT = (
    lambda query: query.partition(" WHERE")[0],
    lambda query: query.replace(">", "=").replace("<", "="),
    lambda query: query.replace("books", "orders") if "books" in query else query.replace("orders", "books"),
    lambda query: query.replace("count(*)", "*").replace("sum", "max"),
)
