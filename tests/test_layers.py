"A room imports only from the rows above its own; the rooms of one package may import each other."

import ast
from importlib import import_module
from pathlib import Path

import pytest

import agentlightning_nb

PACKAGE = Path(agentlightning_nb.__file__).parent
ROWS = [
    "errors types conventions ports background callers migrations readable asgi logs metrics express lane kin witness",
    "storage events",
    "adapters cluster verbs remote",
    "datasets rescoring",
    "store client tracer litagent otlp dialects",
    "views",
    "collected steering runner optimising rl engines verl proxied proxy api routes servers event_routes plots page twins page_routes described export",
    "workers server algorithms run loggers testing simulated rewards",
    "hub driving measuring once",
    "trainer widgets",
    "doctor commands",
    "doctor_cluster",
    "magics demo instructed",
    "cli",
]
ROW = {room: i for i, rooms in enumerate(ROWS) for room in rooms.split()}
BESIDE = {
    ("types", "errors"),
    ("ports", "errors"),
    ("background", "ports"),
    ("background", "errors"),
    ("migrations", "errors"),
    ("migrations", "readable"),
    ("witness", "kin"),
    ("asgi", "errors"),
}
BESIDE |= {("logs", "asgi"), ("callers", "asgi"), ("express", "asgi"), ("express", "errors")}
BESIDE |= {
    ("lane", "asgi"),
    ("lane", "errors"),
    ("lane", "express"),
    ("lane", "logs"),
    ("callers", "lane"),
    ("background", "callers"),
}
BESIDE |= {
    ("litagent", "tracer"),
    ("proxy", "engines"),
    ("proxy", "proxied"),
    ("proxied", "engines"),
    ("engines", "rl"),
    ("verl", "rl"),
    ("verl", "engines"),
    ("optimising", "runner"),
    ("optimising", "engines"),
    ("simulated", "testing"),
    ("page_routes", "page"),
    ("described", "page"),
    ("page_routes", "routes"),
    ("routes", "api"),
    ("export", "page"),
    ("twins", "page"),
    ("page", "plots"),
    ("instructed", "demo"),
}  # inside one row, in this direction only


def rooms():
    return sorted(p for p in PACKAGE.rglob("*.py") if p.name != "_modidx.py" and p != PACKAGE / "__init__.py")


def room_of(module: str) -> str:
    "`agentlightning_nb.rl.losses` belongs to the room `rl`."
    return module.split(".")[1] if "." in module else ""


def imported(path: Path) -> set[str]:
    "The rooms that a module imports, at its top or inside a function."
    found: set[str] = set()
    package = ["agentlightning_nb", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{module}.{a.name}" for a in node.names} if module == "agentlightning_nb" else {module}
    return {room_of(m) for m in found if m.startswith("agentlightning_nb.")} - {""}


@pytest.mark.parametrize("path", rooms(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_room_imports_only_from_above(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert room in ROW, f"{room} stands in no row; give it one here and in the brief"
    for other in imported(path) - {room, "__version__"}:
        assert ROW[other] < ROW[room] or (room, other) in BESIDE, f"{room} imports {other}"


def test_display_never_imports_algorithms():
    for path in [
        PACKAGE / "page.py",
        *(path for room in ("plots", "views", "widgets") for path in (PACKAGE / room).glob("*.py")),
    ]:
        assert not path.exists() or not imported(path) & {"algorithms", "trainer", "server"}, path.name


def test_what_shows_itself_is_known_by_the_module_that_it_is_in():
    interactive = pytest.importorskip("IPython.core.interactiveshell")
    formatter = interactive.InteractiveShell().display_formatter
    shell = type("Shell", (), {"display_formatter": formatter})()
    for name in ("register_magic_function", "set_hook"):
        setattr(shell, name, lambda *_, **__: None)
    agentlightning_nb.load_ipython_extension(shell)
    known = {
        name
        for one in (*formatter.formatters.values(), formatter.mimebundle_formatter, formatter.ipython_display_formatter)
        for name in one.deferred_printers
        if name[0].startswith("agentlightning_nb")
    }
    found = {(module, name, getattr(import_module(module), name).__module__) for module, name in known}
    assert len(known) == 3 and all(module == really for module, _, really in found), found
