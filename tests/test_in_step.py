"Modules are what the notebooks export, and notebooks carry no noise. Both are tried on a copy."

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copy")
    ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    for name in ("nbs", "agentlightning_nb"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in ("pyproject.toml", "settings.ini", "setup.py", "README.md"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def changed(copy: Path, top: str, pattern: str) -> list[str]:
    "The files that differ between the copy and the checkout."
    files = {p.relative_to(copy) for p in (copy / top).rglob(pattern)}
    files |= {p.relative_to(ROOT) for p in (ROOT / top).rglob(pattern) if ".ipynb_checkpoints" not in p.parts}
    read = lambda p: p.read_bytes() if p.exists() else None  # noqa: E731
    return sorted(str(f) for f in files if read(copy / f) != read(ROOT / f))


def test_export_changes_nothing(copy):
    subprocess.run([BIN / "nbdev-export"], cwd=copy, check=True, timeout=100, capture_output=True)
    assert changed(copy, "agentlightning_nb", "*.py") == [], "run: nbdev-export"


def test_clean_changes_nothing(copy):
    subprocess.run([BIN / "nbdev-clean"], cwd=copy, check=True, timeout=100, capture_output=True)
    assert changed(copy, "nbs", "*.ipynb") == [], "run: nbdev-clean"


@pytest.mark.parametrize("path", sorted((ROOT / "nbs").rglob("*.ipynb")), ids=lambda p: p.stem)
def test_a_notebook_is_small_and_shows_no_error(path):
    if ".ipynb_checkpoints" in path.parts:
        pytest.skip("a checkpoint")
    assert path.stat().st_size < 200_000
    outputs = [o for c in json.loads(path.read_text(encoding="utf-8"))["cells"] for o in c.get("outputs", [])]
    assert not [o for o in outputs if o["output_type"] == "error"]
