"Takes the picture of the README: a real training run in JupyterLab, in Chromium, while it goes on. `python tools/picture_of_run.py`, about two minutes; fonts-inter and fonts-jetbrains-mono make it prettier."

import argparse
import json
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HERE / "tests"))

import lab  # noqa: E402

CELLS = [
    """
from agentlightning_nb.algorithms.grpo import GRPO
from agentlightning_nb.demo import CalculatorAgent
from agentlightning_nb.rl.tiny import calculator_tasks
from agentlightning_nb.trainer import Trainer
""",
    """
trainer = Trainer(n_workers=128)
tasks, val_tasks = calculator_tasks(2000), calculator_tasks(100, seed=1, held_out=True)

run = trainer.start(CalculatorAgent(), algorithm=GRPO(), tasks=tasks, val_tasks=val_tasks, max_steps=60)
run
""",
]
STEP = """([least]) => { const said = document.querySelector(".agl-text")?.textContent || "";
    return +(said.match(/running · step (\\d+)/)?.[1] || 0) >= least && /\\(128 rollouts\\)/.test(document.querySelector(".agl-at").textContent); }"""
LOOK = """
:root { --jp-ui-font-family: Inter, "Liberation Sans", sans-serif !important; --jp-code-font-family: "JetBrains Mono", "Liberation Mono", monospace !important; }
.jp-Cell, .jp-Cell .jp-Collapser { border-color: transparent !important; box-shadow: none !important; outline: none !important; }
.jp-Collapser, .jp-cell-toolbar { visibility: hidden; } .jp-OutputPrompt, .jp-InputPrompt { flex-basis: 44px !important; width: 44px !important; min-width: 0 !important; }
"""


def notebook() -> str:
    "The two cells as a notebook."
    cells = [
        {
            "cell_type": "code",
            "id": f"c{i}",
            "metadata": {},
            "source": c.strip(),
            "outputs": [],
            "execution_count": None,
        }
        for i, c in enumerate(CELLS)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5})


def take(out: Path, *, theme: str, width: int, scale: float, least: int, timeout_s: float) -> None:
    "Run the notebook, wait for a step, and keep the picture of its second cell."
    with tempfile.TemporaryDirectory() as folder:
        root, scratch = Path(folder, "root"), Path(folder, "scratch")
        root.mkdir(), scratch.mkdir()
        (root / "learning.ipynb").write_text(notebook())
        with lab.server(root, scratch) as url, lab.browser() as browser:
            page = browser.new_page(viewport={"width": width, "height": 1250}, device_scale_factor=scale)
            book = lab.Notebook(page, url, "learning.ipynb")
            page.evaluate(
                f"window.jupyterapp.commands.execute('apputils:change-theme', {{theme: 'JupyterLab {theme}'}})"
            )
            for side in ("left", "right"):
                page.evaluate(f"window.jupyterapp.shell.collapse{side.title()}()")
            page.add_style_tag(content=LOOK)
            book.run_all()
            page.wait_for_function(STEP, arg=[least], timeout=1000 * timeout_s)
            cell = page.locator(".jp-CodeCell").nth(1)
            cell.scroll_into_view_if_needed()
            page.wait_for_timeout(400)
            cell.screenshot(path=out)
            page.get_by_role("button", name="stop").click()
            page.wait_for_function(
                "() => /^(stopped|succeeded)/.test(document.querySelector('.agl-text')?.textContent)"
            )
            if book.failures() or book.errors:
                raise SystemExit(f"Something failed in it: {book.failures() + book.errors}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "docs" / "_static" / "run.png")
    parser.add_argument("--theme", choices=("Light", "Dark"), default="Light")
    parser.add_argument("--width", type=int, default=1120, help="of the window, in pixels of CSS")
    parser.add_argument("--scale", type=float, default=1.5)
    parser.add_argument("--step", type=int, default=35, help="the picture is taken when the run is there")
    parser.add_argument("--timeout", type=float, default=400.0, help="seconds")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    take(args.out, theme=args.theme, width=args.width, scale=args.scale, least=args.step, timeout_s=args.timeout)
    print(f"{args.out}: {args.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
