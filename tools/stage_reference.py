"What the docs site must not say wrongly is generated here: the API from docstrings, the protocol from OpenAPI, the schema from the migrations."

import importlib
import inspect
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def write(path: Path, text: str) -> None:
    "A page, and the folders it stands in."
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def toctree(title: str, said: str, pages: list[str], *, hidden: bool = False) -> str:
    "A page that leads to others, which may be listed in what it says already."
    how = ":hidden:" if hidden else ":maxdepth: 1"
    return f"# {title}\n\n{said}\n\n```{{toctree}}\n{how}\n\n" + "\n".join(pages) + "\n```\n"


# the API


def modules() -> list[str]:
    "The public modules, as their notebooks name them."
    found = [
        p.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        for p in sorted((ROOT / "agentlightning_nb").rglob("*.py"))
        if not p.name.startswith("_")
    ]
    return [name for name in found if (there := imported(name)) is not None and hasattr(there, "__all__")]


def imported(name: str) -> Any:
    "The module, or None where it needs an extra that the docs are built without."
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as e:
        if (e.name or "").partition(".")[0] in ("verl", "vllm", "ray", "tensordict"):
            return None
        raise


def signature(thing: Any) -> str:
    "The head of a definition as its source has it, comments on parameters included."
    lines: list[str] = []
    for line in inspect.getsource(thing).splitlines():
        lines.append(line)
        if line.rstrip().endswith(":") and (len(lines) > 1 or line.lstrip().startswith(("def", "class", "async"))):
            break
    return inspect.cleandoc("\n".join(line for line in lines if not line.lstrip().startswith("@")))


VERBS = ("agentlightning_nb.verbs.", "agentlightning_nb.remote.")  # whose classes a store and its client are made of


def methods(cls: type) -> Iterator[tuple[str, Any]]:
    "The public methods and properties of a class, those of verbs before its own, and `__init__` where that was written by hand."
    *verbs, base = [None, *(b for b in cls.__mro__[1:] if b.__module__.startswith(VERBS))]
    told: set[str] = set()
    for owner in filter(None, (base, *verbs, cls)):
        for name, value in vars(owner).items():
            function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            written = inspect.isfunction(function) and function.__code__.co_filename == inspect.getsourcefile(owner)
            if written and name not in told and (name == "__init__" or not name.startswith("_")):
                told.add(name)
                yield name, function


def documented(name: str, thing: Any, level: int) -> Iterator[str]:
    "Heading, signature and docstring of a function or class, then of its methods."
    yield f"{'#' * level} `{name}`\n\n```python\n{signature(thing)}\n```\n\n{inspect.cleandoc(thing.__doc__ or '')}\n"
    for attribute, method in methods(thing) if inspect.isclass(thing) else ():
        yield from documented(f"{name}.{attribute}", method, level + 1)


def first_sentence(text: str | None) -> str:
    "The sentence of a docstring that stands in tables."
    paragraph = " ".join((text or "").strip().partition("\n\n")[0].split())
    return re.split(r"(?<=\.) (?=[A-Z`])", paragraph)[0].replace("|", "\\|")


def table(head: str, rows: list[str]) -> str:
    "A markdown table; each row has its cells between bars."
    return f"| {head} |\n|{'---|' * (head.count('|') + 1)}\n" + "\n".join(f"| {row} |" for row in rows) + "\n"


def public(module: Any) -> list[tuple[str, Any]]:
    "The functions and classes that a module defines for others; what bears the module's name first."
    things = [(symbol, getattr(module, symbol)) for symbol in module.__all__]
    mine = [
        (n, t) for n, t in things if inspect.getmodule(t) is module and (inspect.isclass(t) or inspect.isfunction(t))
    ]
    last = module.__name__.rpartition(".")[2].replace("_", "")
    return sorted(mine, key=lambda pair: not pair[0].lower().endswith(last))


FRONT = (  # what most programs need: a name, and the room it stands in
    ("LitAgent", "litagent"),
    ("rollout", "litagent"),
    ("Trainer", "trainer"),
    ("TrainingRun", "run"),
    ("LLM", "types"),
    ("PromptTemplate", "types"),
    ("emit_reward", "tracer"),
    ("span", "tracer"),
    ("LightningStore", "store"),
    ("LightningClient", "client"),
    ("AgentLightningServer", "server"),
    ("GRPO", "algorithms"),
    ("APO", "algorithms"),
    ("GEPA", "algorithms"),
    ("SFT", "algorithms"),
    ("ScriptedModel", "testing"),
)

USED = (  # rooms that programs import
    "litagent",
    "tracer",
    "trainer",
    "run",
    "store",
    "client",
    "server",
    "types.tasks",
    "types.resources",
    "types.rollouts",
    "types.spans",
    "errors",
    "adapters",
    "datasets",
    "rewards",
    "rescoring",
    "loggers",
    "algorithms.base",
    "algorithms.grpo",
    "algorithms.team",
    "algorithms.curriculum",
    "algorithms.validation",
    "algorithms.replay",
    "algorithms.apo",
    "algorithms.gepa",
    "algorithms.sft",
    "algorithms.chain",
    "algorithms.verl",
    "rl.options",
    "rl.shaping",
    "rl.taught",
    "engines.torch",
    "engines.vllm",
    "engines.openai",
    "plots.runs",
    "plots.groups",
    "plots.rollouts",
    "plots.versions",
    "views.runs",
    "views.groups",
    "views.rollouts",
    "views.versions",
    "export",
    "magics",
    "doctor",
    "testing",
    "simulated",
    "demo",
)


def stage_api(folder: Path) -> list[tuple[str, str]]:
    "A page for each module, one with all names, and one that leads to them; the names of the pages with their first sentence."
    told, names = [], {}
    for name in modules():
        module, page = importlib.import_module(name), name.removeprefix("agentlightning_nb.")
        said = (inspect.getdoc(module) or "").strip()
        parts = [f"# {page}\n\n{said}\n\n`from {name} import …`\n"]
        for symbol, thing in public(module):
            parts += documented(symbol, thing, 2)
            names[f"{page}.{symbol}"] = (
                f"[`{symbol}`]({page}.md#{symbol.lower()}) | {page} | {first_sentence(thing.__doc__)}"
            )
        write(folder / "api" / f"{page}.md", "\n".join(parts))
        told.append((page, said))
    firsts = [
        row for name, room in FRONT for key, row in names.items() if key.startswith(room) and key.endswith(f".{name}")
    ]
    front = table("name | module | what it is", firsts)
    every = table(
        "name | module | what it is", [names[key] for key in sorted(names, key=lambda k: k.rpartition(".")[2].lower())]
    )
    said = f"Every public name, from its docstring. Most programs need these; [all names](names.md) have a page of their own.\n\n{front}"
    rooms = dict(told)
    listed = lambda pages: table("room | what for", [f"[{p}]({p}.md) | {first_sentence(rooms[p])}" for p in pages])  # noqa: E731
    others = [page for page in rooms if page not in USED]
    behind = (
        f"Rooms that the others are built of; [Rooms](../rooms/index) shows them with their proofs.\n\n{listed(others)}"
    )
    index = f"{said}\n\n## By room\n\n{listed(USED)}\nThe others stand [behind them](behind.md)."
    write(folder / "api" / "index.md", toctree("API", index, [*USED, "behind"], hidden=True))
    write(folder / "api" / "behind.md", toctree("Behind the API", behind, others, hidden=True))
    write(folder / "api" / "names.md", f"# All names\n\nEach leads to its contract.\n\n{every}")
    return told


# what must not drift


def protocol() -> str:
    "The routes of the server, from its own OpenAPI description, and the records that travel, from their models."
    from agentlightning_nb.server import create_app
    from agentlightning_nb.store import LightningStore

    with LightningStore() as store:
        described = create_app(store).openapi()["paths"]
    parts: dict[str, list[str]] = {}
    for path, by in described.items():
        for method, operation in by.items() if not path.startswith("/rollout/") else ():
            said = operation.get("description") or operation.get("summary")
            place = next(title for title, pattern in ROOMS.items() if re.match(pattern, path))
            parts.setdefault(place, []).append(f"`{method.upper()} {path}` | {first_sentence(said)}")
    routes = [f"## {title}\n\n{table('route | what for', parts[title])}" for title in ROOMS]
    return "\n".join([PROTOCOL, *routes, *records()])


ROOMS = {
    "Model calls": r"/v1/(chat|completions|responses|messages|embeddings|models)",
    "The queue": r"/v1/agl/(queues|waits|heartbeat)",
    "Rollouts and attempts": r"/v1/agl/rollouts",
    "Spans": r"/v1/(traces|agl/spans|agl/triplets)",
    "Resources, tasks and workers": r"/v1/agl/(resources|tasks|workers)",
    "Runs": r"/v1/agl/(run|metrics|training-rows)",
    "What people and judges say": r"/v1/agl/(annotations|verdicts)",
    "Reading along": r"/v1/agl/(events|views|tables|statistics)",
    "The server itself": "",
}
PROTOCOL = """# The wire protocol

What the server answers: JSON, field names as in the records below. A running server describes itself at `/openapi.json` and `/docs`.

- Model calls and `/v1/traces` are answered below `/rollout/{rollout_id}/attempt/{attempt_id}` too, by which they find their attempt; `llm.base_url` is such an address.
- A token guards everything but `/health`: `Authorization: Bearer TOKEN`, or `x-api-key`, or as the password in the URL.
- What goes wrong is `{"error": class, "detail": sentence}`: 401 for no token, 404 for an unknown id, 422 for a bad value, 409 for what the life cycle forbids.
- Pages have `items`, `limit`, `offset` and `total`; `sort_by` and `sort_order` choose their order.
- Fields that are not known are tolerated, so that clients of other versions work.
"""


def records() -> Iterator[str]:
    "A table of fields for each record."
    import pydantic

    from agentlightning_nb import types

    yield "## Records\n"
    for name in sorted(vars(types)):
        model = getattr(types, name)
        if inspect.isclass(model) and issubclass(model, pydantic.BaseModel):
            rows = [f"`{field}` | {kind_of(info)} | {default_of(info)}" for field, info in model.model_fields.items()]
            yield f"### {name}\n\n{inspect.getdoc(model) or ''}\n\n{table('field | kind | unless given', rows)}"


def kind_of(info: Any) -> str:
    "The type of a field as it is written."
    kind = info.annotation
    text = (
        kind.__name__ if inspect.isclass(kind) and not hasattr(kind, "__args__") else str(kind).replace("typing.", "")
    )
    return "`" + re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text).replace("|", "\\|") + "`"


def default_of(info: Any) -> str:
    "What a field is when nobody says."
    if info.is_required():
        return "needed"
    return (
        "made"
        if info.default_factory not in (None, dict, list)
        else f"`{info.get_default(call_default_factory=True)!r}`"
    )


def schema() -> str:
    "Tables and views of a store's file, from the migrations."
    from agentlightning_nb.migrations import migrate, migrations

    conn = sqlite3.connect(":memory:", isolation_level=None)
    migrate(conn)
    parts = [SCHEMA.format(version=len(migrations())), *(described(conn, *one) for one in listed(conn))]
    conn.close()
    return "\n".join(parts)


SCHEMA = """# The file's schema

Version {version} of the SQLite file behind a `LightningStore`. Views are for people, in Datasette or any SQLite tool; tables may grow columns. Texts that hold JSON
are JSON, times are seconds since 1970. Weights lie beside the file, in a folder of its name that ends in `.files`.
"""


def listed(conn: sqlite3.Connection) -> list[tuple[str, str, str]]:
    "Kind, name and definition of all tables and views."
    return conn.execute(
        "SELECT type, name, sql FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%' ORDER BY type, name"
    ).fetchall()


def described(conn: sqlite3.Connection, kind: str, name: str, sql: str) -> str:
    "Columns and indexes of a table; columns and query of a view."
    columns = conn.execute(f'PRAGMA table_info("{name}")').fetchall()
    rows = [f"`{c[1]}` | {c[2].lower()} | {'key' if c[5] else 'not null' if c[3] else ''}" for c in columns]
    found = f"## {name} ({kind})\n\n{table('column | type | ', rows)}"
    if kind == "view":
        return f"{found}\n```sql\n{inspect.cleandoc(sql)}\n```\n"
    indexes = [
        row[0]
        for row in conn.execute(
            "SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL", (name,)
        )
    ]
    return found + ("\n```sql\n" + ";\n".join(indexes) + "\n```\n" if indexes else "")
