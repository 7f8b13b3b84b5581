"What a researcher does in JupyterLab: a rollout opens by itself, a thumb is kept, a reward is tried anew, words are found, the page is loaded again."

import importlib.util
import json
from pathlib import Path

import pytest

SHOTS = Path(__file__).parents[1] / "artefacts"
pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

if missing := [
    name for name in ("playwright", "jupyterlab", "anywidget", "plotly") if importlib.util.find_spec(name) is None
]:
    pytest.skip(f"not installed: {', '.join(missing)}", allow_module_level=True)

import lab  # noqa: E402

if lab.chromium() is None:
    pytest.skip("there is no chromium", allow_module_level=True)

CELLS = [
    """
from agentlightning_nb.litagent import rollout
from agentlightning_nb.testing import ScriptedModel
from agentlightning_nb.tracer import emit_reward, span
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.types import LLM, AgentLightningTask
import aiohttp

seen = []

@rollout
async def agent(task, llm):
    with span("look up", {"town": "Oslo"}) as looking:
        looking.set("result", "9 °C, rain")
    asked = {"model": llm.model, "messages": [{"role": "user", "content": task.context}]}
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {llm.api_key}"}) as session:
        async with session.post(f"{llm.base_url}/chat/completions", json=asked) as answer:
            said = (await answer.json())["choices"][0]["message"]["content"]
    seen.append(task)
    emit_reward({"warm": (len(seen) * 7 % 11) / 10}, why="A raincoat <b>is</b> right at 9 °C.")

trainer = Trainer(n_workers=2, upstream=ScriptedModel(lambda request: "The green raincoat.", name="sim-coats"))
""",
    """
one = await trainer.dev(agent, AgentLightningTask(context="Which coat in Bergen?"), {"llm": LLM("sim-coats")})
one
""",
    """
done = trainer.evaluate_rollouts(agent, [AgentLightningTask(context="Which coat" + "?" * i) for i in range(8)], {"llm": LLM("sim-coats")}, n=2)
trainer.store.rescore(lambda rollout: min(1.0, 1.4 * rollout.final_reward) if rollout.final_reward > 0.3 else 0.5)
""",
    "%lightning rollouts --sort best",
]


def notebook(cells):
    code = [
        {"cell_type": "code", "id": f"c{i}", "metadata": {}, "source": c, "outputs": [], "execution_count": None}
        for i, c in enumerate(cells)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return json.dumps({"cells": code, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5})


def test_a_rollout_is_opened_judged_rescored_found_and_comes_back(tmp_path):
    SHOTS.mkdir(exist_ok=True)
    root, scratch = tmp_path / "root", tmp_path / "scratch"
    root.mkdir()
    scratch.mkdir()
    (root / "look.ipynb").write_text(notebook(CELLS), encoding="utf-8")
    with lab.server(root, scratch) as url, lab.browser() as browser:
        page = browser.new_page(viewport={"width": 1200, "height": 1500})
        page.set_default_timeout(60_000)
        outputs = page.locator(".jp-CodeCell")
        inspector, rescored, table = (outputs.nth(i).locator(".jp-OutputArea") for i in (1, 2, 3))
        book = lab.Notebook(page, url, "look.ipynb")
        book.run_all()
        book.wait()
        assert book.failures() == []
        inspector.get_by_text("The green raincoat.").wait_for()
        inspector.get_by_text("A raincoat <b>is</b> right at 9 °C.").wait_for()
        inspector.get_by_label("thumb up").click()
        inspector.locator("[aria-label='thumb up'][aria-pressed=true]").wait_for()
        rescored.locator("table").wait_for()
        rescored.locator(".js-plotly-plot .scatterlayer").wait_for()
        inspector.scroll_into_view_if_needed()
        page.screenshot(path=SHOTS / "lab-inspector.png")
        rescored.locator(".js-plotly-plot").scroll_into_view_if_needed()
        page.screenshot(path=SHOTS / "lab-rescored.png")
        table.get_by_label("search").fill("raincoat bergen")
        table.get_by_text("1 of 1", exact=True).wait_for()
        table.locator(".agl-list tbody tr").click()
        table.locator("[aria-label='thumb up'][aria-pressed=true]").wait_for()
        table.get_by_role("tab", name="Trace").click()
        table.locator(".agl-span", has_text="look up").wait_for()
        table.scroll_into_view_if_needed()
        page.screenshot(path=SHOTS / "lab-table.png")
        book.come_back()
        inspector.get_by_text("The green raincoat.").wait_for()
        assert book.errors == [] and book.elsewhere == []
