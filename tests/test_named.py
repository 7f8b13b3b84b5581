"What the README, the docs, the examples' READMEs and the notebooks name is there: files, commands, flags, routes, functions, parameters."

import ast
import builtins
import configparser
import json
import re
import runpy
import shlex
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WRITTEN = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "benchmarks/RESULTS.md",
    "docs/*.md",
    "examples/**/README.md",
)
PAGES = sorted(p for pattern in (*WRITTEN, "nbs/**/*.ipynb") for p in ROOT.glob(pattern) if "checkpoints" not in str(p))
SOURCES = ("agentlightning_nb/**/*.py", "examples/**/*.py", "benchmarks/*.py", "tools/**/*.py", "setup.py")
ENDS = (".py", ".md", ".ipynb", ".toml", ".ini", ".js", ".css", ".json", ".html", ".txt")

# names of other projects, and of readers' own things, that our pages speak of
FOREIGN = """
    agentlightning agl LightningStoreClient MongoDB cell head fn url mypackage agents Agent NAME FIRST R A id ids card
    PRAGMA user_version gpt backup copy executemany OTLPSpanExporter Authorization Bearer Retry After text
    art anthropic autogen agentchat ext langgraph langchain llama index core llms like claude sdk smolagents datasets Dataset gepa
    RAY_AUTH_MODE RAY_ADDRESS HTTPS_PROXY PYTHONHASHSEED OTEL_RESOURCE_ATTRIBUTES OTEL_EXPORTER_OTLP_ENDPOINT google rpc Status
    AGENTLIGHTNING_VLLM_PYTHON actor_rollout_ref gpu_memory_utilization max_actor_ckpt_to_keep pytest llms txt sqlite3
    Request Id load_ext solve input_messages n_runners train_dataset val_dataset initial_resources dashboard
    branch_factor beam_rounds gradient_batch_size val_batch_size PYTHON nice MLFLOW_TRACKING_URI TRACKIO_DIR
    ActorDiedError EngineDeadError
"""
OTHERS = {"AgentResource"}  # takes any field
ELSEWHERE = ("/tmp/", "/proc", "~/", "NAME.files/", "run.db", "run.files")  # paths that are no files of ours
FOREIGN_TOOLS = ("ray ", "sqlite3 ", "pytest ")
FOREIGN_FLAGS = {"--gpu-memory-utilization", "--middleware"}  # of vLLM
FOREIGN_FILES = {"train.py", "raycluster.yaml"}


# what there is


@cache
def trees() -> list[tuple[Path, ast.Module]]:
    paths = sorted({path for pattern in SOURCES for path in ROOT.glob(pattern)})
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in paths if path.name != "_modidx.py"]


def docstring_of(node: ast.AST) -> ast.AST | None:
    body = getattr(node, "body", None)
    first = body[0] if isinstance(body, list) and body else None
    return first.value if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) else None


def words_of(tree: ast.AST) -> set[str]:
    "Every identifier in code, and every word in its strings, docstrings aside."
    found, told = set(), {id(docstring_of(node)) for node in ast.walk(tree)}
    for node in ast.walk(tree):
        found |= {
            getattr(node, field)
            for field in ("id", "attr", "arg", "name")
            if isinstance(getattr(node, field, None), str)
        }
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            found |= set(re.findall(r"\w+", node.value))
        if isinstance(node, ast.alias | ast.ImportFrom):
            found |= set(re.findall(r"\w+", getattr(node, "name", None) or getattr(node, "module", None) or ""))
    return found


@cache
def vocabulary() -> frozenset[str]:
    found = {word for path, tree in trees() for word in words_of(tree) | set(path.with_suffix("").parts)}
    packed = configparser.ConfigParser()
    packed.read(ROOT / "settings.ini")
    found |= {word for value in packed["DEFAULT"].values() for word in re.findall(r"\w+", value)}
    return frozenset(
        found | set(FOREIGN.split()) | set(dir(builtins)) | set(sys.stdlib_module_names) | {"True", "False", "None"}
    )


@cache
def flags() -> frozenset[str]:
    return frozenset(
        w
        for _, t in trees()
        for n in ast.walk(t)
        if isinstance(n, ast.Constant)
        for w in re.findall(r"--[a-z][\w-]*", str(n.value))
    )


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str] | None:
    a = node.args
    return None if a.kwarg else {one.arg for one in (*a.posonlyargs, *a.args, *a.kwonlyargs)}


def constructed_by(node: ast.ClassDef) -> set[str] | None:
    "The parameters of a class: those of its `__init__`, else its annotated fields; None where any will do or a base class has more."
    made = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
    fields = {
        part.target.id for part in node.body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
    }
    return parameters(made[0]) if made else fields or None


@cache
def takes() -> dict[str, set[str] | None]:
    "The parameters of every function and class at the top of a module of the package; where two share a name, either's."
    found: dict[str, set[str] | None] = {}
    for path, tree in trees():
        for node in tree.body if path.is_relative_to(ROOT / "agentlightning_nb") else ():
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                mine = constructed_by(node) if isinstance(node, ast.ClassDef) else parameters(node)
                before = found.get(node.name, set())
                found[node.name] = None if mine is None or before is None else mine | before
    return found


def things() -> dict[str, type]:
    "What the pages call by a name of their own."
    from agentlightning_nb.run import TrainingRun
    from agentlightning_nb.store import LightningStore
    from agentlightning_nb.trainer import Trainer

    return {"store": LightningStore, "trainer": Trainer, "run": TrainingRun}


# what the pages say


def told(page: Path) -> tuple[str, set[str]]:
    "The prose of a page, code blocks included, and the words of the code that runs on it."
    if page.suffix != ".ipynb":
        text = page.read_text(encoding="utf-8")
        return text, {word for block in fenced(text, "python") for word in re.findall(r"\w+", block)}
    cells = json.loads(page.read_text(encoding="utf-8"))["cells"]
    prose = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return prose, {
        word for cell in cells if cell["cell_type"] == "code" for word in re.findall(r"\w+", "".join(cell["source"]))
    }


def fenced(text: str, *languages: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S)
    return [block for language, block in found if language in languages]


def inline(text: str) -> list[str]:
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return [span for role, span in re.findall(r"(\{doc\})?(?<!`)`([^`\n]+)`(?!`)", prose) if not role]


# how they are compared


def wrong_file(said: str, page: Path) -> bool:
    if said.startswith(ELSEWHERE) or said in FOREIGN_FILES or not re.fullmatch(r"[\w.][\w./-]*", said):
        return False
    if not said.endswith(ENDS) and said.partition("/")[0] not in {p.name for p in ROOT.iterdir()}:
        return False
    return (
        not any((base / said).exists() for base in (ROOT, page.parent, ROOT / "nbs", ROOT / "agentlightning_nb"))
        and "/" in said
    )


def wrong_command(line: str) -> str | None:
    "What is wrong with a command of ours; None for a right one, and for those of others."
    words = shlex.split(line.split("  #")[0], comments=False)
    while words and "=" in words[0] and not words[0].startswith("-"):
        words = words[1:]  # settings of the environment
    if not words:
        return None
    tool, given = words[0], [word for word in words[1:] if word != "..."]
    if tool == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        return next((f"make {word}" for word in given if "=" not in word and f"\n{word}:" not in makefile), None)
    if tool == "agentlightning" and "|" not in line:
        return refused("agentlightning_nb.cli", given)
    if tool == "%lightning":
        return refused("agentlightning_nb.magics", given)
    if tool.endswith("python") and given and given[0].endswith(".py"):
        return wrong_script(given[0], given[1:])
    if tool == "pip" or tool.endswith("/pip"):
        extras = set((ROOT / "settings.ini").read_text(encoding="utf-8").split())
        asked = [
            e
            for word in given
            if word.startswith(("agentlightning_nb[", ".["))
            for e in word.split("[")[1][:-1].split(",")
        ]
        return next((f"extra {extra}" for extra in asked if f"{extra}_requirements" not in extras), None)
    return None


def refused(module: str, given: list[str]) -> str | None:
    parser = sys.modules.get(module) or __import__(module, fromlist=["make_parser"])
    try:
        parser.make_parser().parse_args(given)
    except SystemExit as e:
        return " ".join(given) if e.code and given[-1:] not in (["start"], ["worker"]) else None
    except Exception as e:  # the magics' parser raises
        return f"{given}: {e}" if given not in ([], ["--help"]) else None
    return None


def wrong_script(script: str, given: list[str]) -> str | None:
    "A script that is not there, or a flag that does not stand in it."
    if script in FOREIGN_FILES:
        return None
    if not (ROOT / script).exists():
        return script
    if script == "examples/train.py":
        try:
            runpy.run_path(str(ROOT / script))["make_parser"]().parse_args(given)
        except SystemExit:
            return f"{script} {' '.join(given)}"
    source = (ROOT / script).read_text(encoding="utf-8")
    return next((word for word in given if word.startswith("--") and f'"{word}"' not in source), None)


def wrong_code(code: str) -> list[str]:
    "Parameters and attributes that do not exist, in code that is shown but not run."
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            known = None if node.func.id in OTHERS else takes().get(node.func.id)
            found += [
                f"{node.func.id}({k.arg}=)" for k in node.keywords if known is not None and k.arg and k.arg not in known
            ]
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in things():
            owner = things()[node.value.id]
            known = {*dir(owner), *words_of_init(owner)}
            found += [f"{node.value.id}.{node.attr}"] if node.attr not in known else []
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("agentlightning_nb"):
            found += wrong_import(node)
    return found


@cache
def words_of_init(owner: type) -> frozenset[str]:
    "The attributes that an object gets when it is made, by its class or one above."
    ours = {cls.__name__ for cls in owner.__mro__ if cls.__module__.startswith("agentlightning_nb")}
    nodes = [n for _, tree in trees() for n in tree.body if isinstance(n, ast.ClassDef) and n.name in ours]
    stored = (n for node in nodes for n in ast.walk(node) if isinstance(n, ast.Attribute))
    return frozenset(n.attr for n in stored if isinstance(n.ctx, ast.Store))


def wrong_import(node: ast.ImportFrom) -> list[str]:
    path = ROOT / node.module.replace(".", "/")
    files = path.glob("*.py") if path.is_dir() else [path.with_suffix(".py")]
    known = {word for file in files if file.exists() for word in words_of(ast.parse(file.read_text(encoding="utf-8")))}
    return [f"{node.module}.{alias.name}" for alias in node.names if alias.name not in known]


@cache
def routes() -> frozenset[str]:
    from agentlightning_nb.server import create_app

    return frozenset(create_app(None).openapi()["paths"])


def wrong_span(said: str, page: Path, here: set[str]) -> list[str]:
    "What an inline code span names that does not exist."
    if said.startswith(("make ", "agentlightning ", "%lightning ", "pip ", "python ", ".venv/bin/")):
        return [found] if (found := wrong_command(said)) else []
    if said.startswith((*FOREIGN_TOOLS, *ELSEWHERE)) or " pytest " in said:
        return [] if (path := re.search(r"tests/\S+", said)) is None or (ROOT / path[0]).exists() else [path[0]]
    if wrong_file(said, page):
        return [said]
    if re.fullmatch(r"(GET |POST )?/[\w/{}]*", said):
        path = said.split()[-1]
        return (
            []
            if path.startswith(ELSEWHERE) or any(path in route for route in (*routes(), "/docs")) or "rollout" in path
            else [said]
        )
    if re.match(r"[\w.]+/[\w./]*$", said):
        return []  # a file, which is there
    gone = [
        flag
        for flag in re.findall(r"(?<!\w)--[a-z][\w-]*", said)
        if flag not in flags() and flag not in FOREIGN_FLAGS and flag not in here
    ]
    code = re.sub(r"(?<!\w)--[a-z][\w-]*|[:/.]//\S*|\d[\w.]*", " ", said)
    code = re.sub(r"(?<=[({,= ])([\"'])\w+\1", " ", code)  # a reader's own word in a call
    words = set(re.findall(r"[A-Za-z_]\w*", re.sub(r"https?://\S+", " ", code)))
    known = vocabulary() | here
    return gone + sorted(words - known) + wrong_code(said.replace("…", "..."))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_what_a_page_names_is_there(page):
    text, here = told(page)
    wrong = [f"`{span}`: {found}" for span in inline(text) for found in wrong_span(span, page, here)]
    wrong += [found for block in fenced(text, "", "python") for found in wrong_code(block)]
    joined = [line for block in fenced(text, "sh", "") for line in block.replace("\\\n", " ").splitlines()]
    wrong += [
        found
        for line in joined
        if re.match(r"[A-Z_]+=|make |agentlightning |python |pip |\.venv", line) and (found := wrong_command(line))
    ]
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text):
        wrong += [target] if not any((base / target).exists() for base in (page.parent, ROOT)) else []
    assert not wrong, f"{wrong} (a name of another project goes to FOREIGN)"


@pytest.mark.parametrize(
    "said, gone",
    [
        ("`Trainer(n_worker=2)`", "n_worker"),
        ("`store.rollout_df()`", "rollout_df"),
        ("`emit_rewards`", "emit_rewards"),
        ("`examples/calculator/agents.py`", "agents.py"),
        ("`agentlightning server begin`", "begin"),
        ("`--tiny`", "--tiny"),
        ("`GET /v1/agl/nothing`", "nothing"),
        ("```sh\npython examples/train.py calculator --tiny\n```", "--tiny"),
        ("```sh\nmake coffee\n```", "coffee"),
        ("```\nfrom agentlightning_nb.trainer import Train\n```", "Train"),
        ("```\npip install 'agentlightning_nb[gpus]'\n```", "gpus"),
        ("[a page](docs/nowhere.md)", "nowhere"),
    ],
)
def test_what_is_not_there_is_found(said, gone, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(said + "\n", encoding="utf-8")
    with pytest.raises(AssertionError, match=re.escape(gone)):
        test_what_a_page_names_is_there(page)
