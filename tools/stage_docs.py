"""Puts everything the docs site is made of into one folder, for Sphinx: `python tools/stage_docs.py FOLDER`.

The guides come from docs/ as they are. Tutorials and rooms are the notebooks, without the cells that only nbdev needs. What must not
drift is generated: a page for each example, the API from docstrings, the protocol from OpenAPI, the schema from the migrations."""

import ast
import importlib
import inspect
import json
import re
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NBS = ROOT / "nbs"
WIDGET, PLOTLY = "application/vnd.jupyter.widget-view+json", "application/vnd.plotly.v1+json"
SETUP = ("#| default_exp", "#| hide", "#|hide")


def write(path: Path, text: str) -> None:
    "A page, and the folders it stands in."
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def toctree(title: str, said: str, pages: list[str]) -> str:
    "A page that leads to others."
    return f"# {title}\n\n{said}\n\n```{{toctree}}\n:maxdepth: 1\n\n" + "\n".join(pages) + "\n```\n"


# notebooks


def shown_output(output: dict[str, Any]) -> dict[str, Any]:
    "An output as the site can show it: a widget by its static twin, a plotly figure by the local library."
    data = {k: v for k, v in output.get("data", {}).items() if k != WIDGET}
    if PLOTLY in data:
        figure = json.dumps(data.pop(PLOTLY)).replace("</", "<\\/")
        drawn = f"Plotly.newPlot(document.currentScript.previousElementSibling, {figure})"
        data["text/html"] = f'<div class="plotly-figure"></div><script>{drawn}</script>'
    return {**output, "data": data} if "data" in output else output


def shown_cell(cell: dict[str, Any]) -> dict[str, Any] | None:
    "A cell without its directives, or None for one that readers need not see."
    source = "".join(cell["source"])
    if cell["cell_type"] != "code":
        return None if source.startswith("---\n") else cell
    if source.startswith(SETUP):
        return None
    lines = [line for line in source.splitlines(keepends=True) if not line.startswith("#|")]
    return {**cell, "source": lines, "outputs": [shown_output(o) for o in cell["outputs"]]}


def stage_notebook(source: Path, target: Path) -> None:
    "A notebook as a page."
    notebook = json.loads(source.read_text(encoding="utf-8"))
    notebook["cells"] = [shown for cell in notebook["cells"] if (shown := shown_cell(cell)) is not None]
    notebook["metadata"].pop("widgets", None)
    write(target, json.dumps(notebook))


def stage_notebooks(folder: Path) -> None:
    "Tutorials, and the rooms that the package is made of."
    tutorials = sorted(
        NBS.glob("tutorials/*.ipynb"), key=lambda p: (p.stem != "quickstart", p.stem != "core_concepts", p.stem)
    )
    for path in tutorials:
        stage_notebook(path, folder / "tutorials" / path.name)
    said = "Notebooks that were run as they stand; `make lab` opens the first one."
    write(folder / "tutorials" / "index.md", toctree("Tutorials", said, [p.stem for p in tutorials]))
    rooms = [p.relative_to(NBS) for p in sorted(NBS.rglob("*.ipynb"))]
    rooms = [p for p in rooms if p.parts[0] not in ("tutorials", "index.ipynb") and ".ipynb_checkpoints" not in p.parts]
    for room in rooms:
        stage_notebook(NBS / room, folder / "rooms" / room)
    said = "The package is written as notebooks: prose, a small exported cell, its proof. These are they, in layers from below."
    write(folder / "rooms" / "index.md", toctree("Rooms", said, [room.with_suffix("").as_posix() for room in rooms]))


# examples


def stage_examples(folder: Path) -> None:
    "A page for each client, with the whole file in it, and one for each example, with its README and its agent."
    names = []
    for path in sorted((ROOT / "examples" / "clients").glob("*.py")):
        title, said, code = parted(path)
        write(folder / "wrap" / f"{path.stem}.md", f"# {title}\n\n{said}\n\n```python\n{code}\n```\n")
        names.append(path.stem)
    said = (
        "Point your agent's own client at `llm.base_url`: every model call is then recorded with its rollout, unchanged otherwise. "
        "Each page is a whole program from `examples/clients/`, run by the tests under a simulated model."
    )
    first = [
        "plain_function",
        "openai_chat",
        "langgraph_react",
        "autogen_agentchat",
        "openai_agents_sdk",
        "claude_agent",
    ]
    write(
        folder / "wrap" / "index.md", toctree("Wrap your agent", said, [*first, *(n for n in names if n not in first)])
    )
    names = sorted(path.parent.name for path in (ROOT / "examples").glob("*/agent.py"))
    for name in names:
        readme = (ROOT / "examples" / name / "README.md").read_text(encoding="utf-8")
        code = parted(ROOT / "examples" / name / "agent.py")[2]
        write(folder / "examples" / f"{name}.md", f"{readme}\n## The agent\n\n```python\n{code}\n```\n")
    readme = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    said = re.sub(r"\]\((\w+)/README\.md\)", lambda m: f"]({m[1] if m[1] in names else '../wrap/index'}.md)", readme)
    title, _, rest = said.partition("\n")
    write(folder / "examples" / "index.md", toctree(title.lstrip("# "), rest.strip(), names))


def parted(path: Path) -> tuple[str, str, str]:
    "Title and text of a module's docstring, and the code after it."
    text = path.read_text(encoding="utf-8")
    title, _, said = (ast.get_docstring(ast.parse(text)) or path.stem).partition("\n")
    return title.rstrip("."), said.strip(), text.split('"""', 2)[2].strip()


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


def methods(cls: type) -> Iterator[tuple[str, Any]]:
    "The public methods and properties that a class defines itself, and its `__init__` where that was written by hand."
    for name, value in vars(cls).items():
        function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        written = inspect.isfunction(function) and function.__code__.co_filename == inspect.getsourcefile(cls)
        if written and (name == "__init__" or not name.startswith("_")):
            yield name, function


def documented(name: str, thing: Any, level: int) -> Iterator[str]:
    "Heading, signature and docstring of a function or class, then of its methods."
    yield f"{'#' * level} `{name}`\n\n```python\n{signature(thing)}\n```\n\n{inspect.cleandoc(thing.__doc__ or '')}\n"
    for attribute, method in methods(thing) if inspect.isclass(thing) else ():
        yield from documented(f"{name}.{attribute}", method, level + 1)


def stage_api(folder: Path) -> list[tuple[str, str]]:
    "A page for each module; the names of the pages with their first sentence."
    told = []
    for name in modules():
        module = importlib.import_module(name)
        said = (inspect.getdoc(module) or "").strip()
        parts = [f"# {name.removeprefix('agentlightning_nb.')}\n\n{said}\n\n`from {name} import …`\n"]
        for symbol in module.__all__:
            thing = getattr(module, symbol)
            if getattr(thing, "__module__", None) == name and (inspect.isclass(thing) or inspect.isfunction(thing)):
                parts += documented(symbol, thing, 2)
        write(folder / "api" / f"{name.removeprefix('agentlightning_nb.')}.md", "\n".join(parts))
        told.append((name.removeprefix("agentlightning_nb."), said))
    index = toctree("API", "Every public name, from its docstring.", [page for page, _ in told])
    write(folder / "api" / "index.md", index)
    return told


# what must not drift


def protocol() -> str:
    "The routes of the server, from its own OpenAPI description."
    from agentlightning_nb.server import create_app
    from agentlightning_nb.store import LightningStore

    with LightningStore() as store:
        described = create_app(store).openapi()
    rows = []
    for path, by in sorted(described["paths"].items()):
        for method, operation in by.items():
            said = operation.get("description") or operation.get("summary") or ""
            rows.append(f"| `{method.upper()} {path}` | {said.splitlines()[0] if said else ''} |")
    head = "# The wire protocol\n\nWhat the server answers. A running server describes itself in full at `/openapi.json` and `/docs`.\n\n"
    return head + "| route | what for |\n|---|---|\n" + "\n".join(rows) + "\n"


def schema() -> str:
    "Tables and views of a store's file, from the migrations."
    from agentlightning_nb.migrations import migrate

    conn = sqlite3.connect(":memory:", isolation_level=None)
    version = migrate(conn)
    parts = [
        f"# The file's schema\n\nVersion {version} of the SQLite file behind a `LightningStore`. Views are for people; tables may grow columns.\n"
    ]
    listed = conn.execute(
        "SELECT type, name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%' ORDER BY type, name"
    )
    for kind, name in listed.fetchall():
        columns = conn.execute(f'PRAGMA table_info("{name}")').fetchall()
        rows = "\n".join(f"| `{column[1]}` | {column[2].lower()} |" for column in columns)
        parts.append(f"## {name} ({kind})\n\n| column | type |\n|---|---|\n{rows}\n")
    conn.close()
    return "\n".join(parts)


def llms(pages: list[tuple[str, str]]) -> str:
    "The site in one text for coding assistants, by the convention of llms.txt."
    guides = [
        (p.stem, p.read_text(encoding="utf-8").splitlines()[0].lstrip("# "))
        for p in sorted((ROOT / "docs").glob("*.md"))
    ]
    lines = [
        "# agentlightning_nb",
        "",
        "> Train AI agents from a notebook: wrap any agent, watch it learn, keep the whole run as one file.",
        "",
        "## Guides",
        "",
    ]
    lines += [f"- [{title}]({stem}.html)" for stem, title in guides]
    lines += ["", "## API", ""] + [
        f"- [{page}](api/{page}.html): {said.splitlines()[0] if said else ''}" for page, said in pages
    ]
    return "\n".join(lines) + "\n"


def stage(folder: Path) -> None:
    "Everything, into a folder that is made anew."
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", folder)
    stage_notebooks(folder)
    stage_examples(folder)
    pages = stage_api(folder)
    write(folder / "protocol.md", protocol())
    write(folder / "schema.md", schema())
    write(folder / "changelog.md", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    write(folder / "llms.txt", llms(pages))
    import plotly

    shutil.copy(Path(plotly.__file__).parent / "package_data" / "plotly.min.js", folder / "_static")


if __name__ == "__main__":
    stage(Path(sys.argv[1]))
