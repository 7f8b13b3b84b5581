"""Puts everything the docs site is made of into one folder, for Sphinx: `python tools/stage_docs.py FOLDER`.

The guides come from docs/ as they are. Tutorials and rooms are the notebooks, without the cells that only nbdev needs. Each example has a page
of its README and its code; tools/stage_reference.py writes what is looked up."""

import ast
import json
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stage_reference import protocol, schema, stage_api, toctree, write

ROOT = Path(__file__).resolve().parents[1]
NBS = ROOT / "nbs"
WIDGET, PLOTLY = "application/vnd.jupyter.widget-view+json", "application/vnd.plotly.v1+json"
DRAWN = """{
    const place = document.currentScript.previousElementSibling, figure = %s;
    addEventListener("DOMContentLoaded", () => Plotly.newPlot(place, figure.data, figure.layout, { responsive: true, displaylogo: false }));
}"""  # the library is loaded at the end of the page
SETUP = ("#| default_exp", "#| hide", "#|hide")


# notebooks


def shown_output(output: dict[str, Any]) -> dict[str, Any]:
    "An output as the site can show it: a widget by its static twin, a plotly figure by the local library."
    data = {k: v for k, v in output.get("data", {}).items() if k != WIDGET}
    if PLOTLY in data:
        figure = json.dumps(data.pop(PLOTLY)).replace("</", "<\\/")
        data["text/html"] = f'<div class="plotly-figure"></div><script>{DRAWN % figure}</script>'
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


PATH = ("quickstart", "core_concepts", "rl_on_one_gpu", "prompt_optimisation", "sft_from_rollouts", "debug_a_run")


def tutorials() -> list[Path]:
    "The tutorials, in the order in which they are read."
    return sorted(NBS.glob("tutorials/*.ipynb"), key=lambda p: ([*PATH, p.stem].index(p.stem), p.stem))


def stage_notebooks(folder: Path) -> None:
    "Tutorials, and the rooms that the package is made of."
    for path in tutorials():
        stage_notebook(path, folder / "tutorials" / path.name)
    said = "Notebooks that were run as they stand; `make lab` opens the first one."
    write(folder / "tutorials" / "index.md", toctree("Tutorials", said, [p.stem for p in tutorials()]))
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


def titled(folder: Path, pages: Iterable[str]) -> list[str]:
    "A line for each page: its title, and what leads to it."
    texts = [(page, folder / f"{page}.md") for page in pages]
    heads = [
        (p, f.read_text(encoding="utf-8").splitlines()[0].lstrip("# ") if f.exists() else p.rpartition("/")[2])
        for p, f in texts
    ]
    return [f"- [{title}]({page}.html)" for page, title in heads]


def llms(folder: Path, api: list[tuple[str, str]]) -> str:
    "The site in one text for coding assistants, by the convention of llms.txt."
    parts = {
        "Guides": titled(folder, sorted(p.stem for p in (ROOT / "docs").glob("*.md"))),
        "Tutorials": titled(folder, (f"tutorials/{p.stem}" for p in tutorials())),
        "Wrap your agent": titled(folder, sorted(f"wrap/{p.stem}" for p in (folder / "wrap").glob("*.md"))),
        "Examples": titled(folder, sorted(f"examples/{p.stem}" for p in (folder / "examples").glob("*.md"))),
        "Reference": titled(folder, ("api/names", "protocol", "schema")),
        "API": [f"- [{page}](api/{page}.html): {said.partition(chr(10))[0]}" for page, said in api],
    }
    head = "# agentlightning_nb\n\n> Train AI agents from a notebook: wrap any agent, watch it learn, keep the whole run as one file.\n"
    return "\n".join([head, *(f"## {title}\n\n" + "\n".join(lines) + "\n" for title, lines in parts.items())])


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
    write(folder / "llms.txt", llms(folder, pages))
    import plotly

    shutil.copy(Path(plotly.__file__).parent / "package_data" / "plotly.min.js", folder / "_static")


if __name__ == "__main__":
    stage(Path(sys.argv[1]))
