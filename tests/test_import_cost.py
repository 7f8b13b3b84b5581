"Importing the core loads nothing heavy."

import subprocess
import sys
from pathlib import Path

import pytest

import agentlightning_nb

PACKAGE = Path(agentlightning_nb.__file__).parent
HEAVY = [
    "torch",
    "transformers",
    "ray",
    "vllm",
    "verl",
    "ipywidgets",
    "anywidget",
    "IPython",
    "pandas",
    "plotly",
    "numpy",
    "openai",
    "litellm",
    "google.protobuf",
    "opentelemetry.proto",
]
ENGINE = (
    "engines/torch",
    "engines/pushed",
    "engines/vllm",
    "engines/vllm_engine",
    "engines/batch",
    "engines/cached",
    "engines/decoding",
    "engines/flat",
    "engines/sampler",
    "engines/shared",
    "engines/sampling",
)
TRAIN = (
    "rl",
    *ENGINE,
    "algorithms/grpo",
    "algorithms/learning",
    "algorithms/replay",
    "algorithms/sft",
    "algorithms/team",
    "instructed",
)  # the extra `train`
GPU = ("algorithms/verl", "verl/data", "verl/cpu_plugin", "verl/cpu_vllm")  # the extra `gpu`
NOTEBOOK = ("widgets", "magics")  # the extra `notebook`


def core_rooms() -> list[str]:
    names = [p.relative_to(PACKAGE).with_suffix("").as_posix() for p in PACKAGE.rglob("*.py")]
    kept = [n for n in names if not n.startswith((*TRAIN, *GPU, *NOTEBOOK)) and not n.endswith(("__init__", "_modidx"))]
    return ["agentlightning_nb", *sorted("agentlightning_nb." + n.replace("/", ".") for n in kept)]


def test_the_core_imports_nothing_heavy():
    probe = f"""
import importlib, sys
sys.modules.update(dict.fromkeys({HEAVY!r}))  # None: importing one of them raises
for room in {core_rooms()!r}:
    importlib.import_module(room)
"""
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]


LEAN = [("", "sqlite3"), (".types", "sqlite3"), (".litagent", "sqlite3"), (".workers.processes", "sqlite_utils")]


@pytest.mark.parametrize(("room", "absent"), LEAN, ids=[room for room, _ in LEAN])
def test_what_every_agent_and_every_worker_imports_stays_small(room, absent):
    told = f"sum(m.split('.')[0] in {HEAVY!r} for m in sys.modules), {absent!r} in sys.modules"
    probe = f"import sys, agentlightning_nb{room}; print({told})"
    out = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60, check=True).stdout
    assert out.split() == ["0", "False"]


def test_the_package_itself_gives_the_nouns_without_importing_more_than_asked():
    code = """
import sys, agentlightning_nb as agl
assert not [m for m in sys.modules if m.startswith("agentlightning_nb.")]
assert {"Trainer", "LitAgent", "rollout", "GRPO"} <= set(dir(agl))
from agentlightning_nb import LitAgent, rollout
assert "agentlightning_nb.trainer" not in sys.modules
for names in agl.ROOMS.values():
    for name in names:
        if name not in ("GRPO", "SFT"):
            assert getattr(agl, name).__name__ == name
try:
    agl.Trianer
except AttributeError as e:
    assert "Trianer" in str(e)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
