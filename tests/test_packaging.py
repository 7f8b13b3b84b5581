"What is built and installed is what the two configuration files say."

import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

import agentlightning_nb

ROOT = Path(__file__).parents[1]
CORE_LIMIT_MB = 60


def settings():
    parser = ConfigParser(delimiters=["="], interpolation=None)
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    return parser["DEFAULT"]


def test_settings_and_pyproject_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    ini = settings()
    assert project["project"]["name"] == ini["lib_name"]
    assert project["project"]["description"] == ini["description"]
    assert project["tool"]["nbdev"]["lib_path"] == ini["lib_path"]
    assert ini["version"] == agentlightning_nb.__version__


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return next(out.glob("*.whl")), next(out.glob("*.tar.gz"))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_wheel_and_sdist_are_whole(built):
    wheel, sdist = built
    in_wheel = zipfile.ZipFile(wheel).namelist()
    for name in ("static/curve.js", "static/run.js", "widgets/run.py", "rl/losses.py", "storage/writer.py", "cli.py"):
        assert f"agentlightning_nb/{name}" in in_wheel
    entry = next(n for n in in_wheel if n.endswith("entry_points.txt"))
    assert "agentlightning = agentlightning_nb.cli:main" in zipfile.ZipFile(wheel).read(entry).decode()
    with tarfile.open(sdist) as kept:
        assert any(n.endswith("/settings.ini") for n in kept.getnames())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_core_installs_alone_and_small(built, tmp_path):
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    size = lambda: sum(p.stat().st_size for p in (tmp_path / "env").rglob("*") if p.is_file()) / 1e6  # noqa: E731
    empty = size()
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-compile", str(built[0])], check=True, timeout=500)
    grown = size() - empty
    subprocess.run([python, "-m", "agentlightning_nb.cli", "--help"], check=True, timeout=60, cwd=tmp_path)
    assert grown < CORE_LIMIT_MB, f"the core takes {grown:.0f} MB"


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_the_extra_gpu_resolves(python, tmp_path):
    uv = Path(sys.executable).parent / "uv"
    if not uv.exists():
        pytest.skip("uv is not installed")
    asked = settings()["requirements"].split() + settings()["gpu_requirements"].split()
    (tmp_path / "asked.in").write_text("\n".join(asked).replace(";sys_platform", "; sys_platform"), encoding="utf-8")
    command = [uv, "pip", "compile", "-q", "--python-version", python, "--python-platform", "x86_64-manylinux_2_28"]
    done = subprocess.run([*command, tmp_path / "asked.in"], capture_output=True, text=True, timeout=300)
    if done.returncode and any(
        word in done.stderr for word in ("dns error", "connect", "timed out", "Failed to fetch")
    ):
        pytest.skip("no network")
    assert done.returncode == 0, done.stderr[-2000:]
    found = dict(
        line.split(";")[0].strip().split("==") for line in done.stdout.splitlines() if "==" in line and "#" not in line
    )
    assert found["verl"] == "0.9.1" and found["ray"].startswith("2.") and "vllm" in found and "transferqueue" in found
