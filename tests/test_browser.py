"The curve as a reader sees it: in a page from disk, and in JupyterLab while a run goes on."

import importlib.util
import json
from pathlib import Path

import pytest

from agentlightning_nb.page import curve_page
from agentlightning_nb.views import RewardCurve, RewardPoint

SHOTS = Path(__file__).parents[1] / "artefacts"
pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

if missing := [name for name in ("playwright", "jupyterlab", "anywidget") if importlib.util.find_spec(name) is None]:
    pytest.skip(f"not installed: {', '.join(missing)}", allow_module_level=True)

import lab  # noqa: E402

if lab.chromium() is None:
    pytest.skip("there is no chromium", allow_module_level=True)


@pytest.fixture(scope="module")
def browser():
    SHOTS.mkdir(exist_ok=True)
    with lab.browser() as opened:
        yield opened


def example(title="Reward"):
    train = [RewardPoint(i, "train", 1 - 0.9**i, 0.4 * 0.92**i, 128, int(i == 3)) for i in range(41)]
    val = [RewardPoint(i, "val", 1 - 0.88**i, 0.2, 64, 0) for i in range(0, 41, 10)]
    return curve_page(RewardCurve("run-1", (*train, *val)), title)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_draws_from_disk_without_the_network(browser, tmp_path, scheme):
    path = tmp_path / "curve.html"
    path.write_text(example("</script><img src=x onerror=alert(1)>"), encoding="utf-8")
    assert path.stat().st_size < 100_000
    page = browser.new_page(viewport={"width": 900, "height": 520}, color_scheme=scheme)
    errors, asked = [], []
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.on("request", lambda r: asked.append(r.url))
    page.goto(path.as_uri())
    page.locator("polyline.agl-train").wait_for()
    page.locator("svg").focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator(".agl-at").inner_text().startswith("step 40: train 0.985")
    page.keyboard.press("ArrowLeft")
    assert page.locator(".agl-at").inner_text().startswith("step 39")
    assert page.locator("img").count() == 0 and errors == []
    assert not [url for url in asked if url.startswith("http")]
    page.screenshot(path=SHOTS / f"page-{scheme}.png")
    page.close()


CELLS = [
    """
from agentlightning_nb.litagent import rollout
from agentlightning_nb.trainer import Trainer
import time

@rollout
def agent(task):
    time.sleep(0.15)
    return min(1.0, 0.1 + done[0] / 8)

done = [0]

class Counting:
    def optimize_step(self, rollout_results, resources_version):
        done[0] += 1
        return {"resources": {}}
""",
    """
trainer = Trainer(n_workers=4)
run = trainer.start(agent, algorithm=Counting(), tasks=[{"x": i} for i in range(8)], max_steps=12)
run
""",
    "one = (await trainer.dev(agent, {'x': '<img src=x onerror=alert(1)>'}))\none",
    "_ = await run",
]


def notebook_of(cells):
    made = [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": f"c{i}",
            "metadata": {},
            "outputs": [],
            "source": c.strip(),
        }
        for i, c in enumerate(cells)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return json.dumps({"cells": made, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5})


def test_a_run_is_seen_to_learn_in_jupyterlab(browser, tmp_path):
    work, scratch = tmp_path / "work", tmp_path / "scratch"
    work.mkdir(), scratch.mkdir()
    (work / "live.ipynb").write_text(notebook_of(CELLS))
    with lab.server(work, scratch) as url:
        page = browser.new_page(viewport={"width": 1200, "height": 1000})
        notebook = lab.Notebook(page, url, "live.ipynb")
        notebook.run_all()
        text = page.locator(".agl-text").first
        page.wait_for_function("() => /running · step [1-9]/.test(document.querySelector('.agl-text')?.textContent)")
        page.get_by_role("button", name="pause").click()
        page.wait_for_function("() => /^paused/.test(document.querySelector('.agl-text')?.textContent)", timeout=20_000)
        page.screenshot(path=SHOTS / "lab-paused.png")
        page.get_by_role("button", name="resume").click()
        notebook.wait()
        page.wait_for_function("() => /succeeded · step 12/.test(document.querySelector('.agl-text')?.textContent)")
        assert page.locator("polyline.agl-train").first.get_attribute("points").count(",") == 12
        assert page.get_by_role("button", name="stop").count() == 0
        opened = (
            page.locator(".jp-CodeCell").nth(2).locator(".jp-OutputArea")
        )  # the rollout shows itself in the inspector
        opened.get_by_text("No model call was recorded").wait_for()
        assert page.locator(".jp-Notebook img").count() == 0
        assert notebook.failures() == [] and notebook.errors == [] and notebook.elsewhere == [], text.inner_text()
        page.screenshot(path=SHOTS / "lab-done.png")
