"The panels in JupyterLab: run all, pause, open a group, compare versions, and a page that is loaded again comes back."

from pathlib import Path

import pytest

lab = pytest.importorskip("lab")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(lab.chromium() is None, reason="no chromium"),
    pytest.mark.timeout(240),
]
SHOTS = Path(__file__).parents[1] / "artefacts"
CELLS = [
    f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import time
import panels_store
from agentlightning_nb.litagent import rollout
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.types import PromptTemplate
from agentlightning_nb.widgets.groups import groups
store = panels_store.filled()
%load_ext agentlightning_nb
""",
    """
@rollout
def agent(task):
    time.sleep(0.1)
    return 0.5

class Rewrites:
    def optimize_step(self, rollout_results, resources_version):
        return {"resources": {"system": PromptTemplate("Be brief. " * len(rollout_results))}}

trainer = Trainer(n_workers=2)
run = trainer.start(agent, algorithm=Rewrites(), tasks=["a", "b"], max_steps=200)
run
""",
    "a, b = [v.resources_id for v in store.query_resources()][2:4]\nget_ipython().run_line_magic('lightning', f'diff {a} {b} --store store')",
    "groups(store, 'run-2')",
    "%lightning compare run-1 run-2 --store store",
]


def test_panels_work_in_jupyterlab_and_come_back(tmp_path):
    from test_browser import notebook_of

    SHOTS.mkdir(exist_ok=True)
    work, scratch = tmp_path / "work", tmp_path / "scratch"
    work.mkdir(), scratch.mkdir()
    (work / "panels.ipynb").write_text(notebook_of(CELLS))
    with lab.browser() as browser, lab.server(work, scratch) as url:
        page = browser.new_page(viewport={"width": 1200, "height": 1100})
        page.set_default_timeout(60_000)
        notebook = lab.Notebook(page, url, "panels.ipynb")
        notebook.run_all()
        notebook.wait()
        page.get_by_role("button", name="pause").click()
        page.wait_for_function("() => /^paused/.test(document.querySelector('.agl-text')?.textContent)")
        page.locator(".agl-ways button", has_text="versions").click()
        page.locator(".agl-version").first.wait_for()
        diff = page.locator(".agl-diff", has_text="sampling_parameters.temperature").first
        diff.wait_for()
        page.locator(".agl-against tbody tr").nth(1).wait_for()
        row = page.locator(".agl-of tbody tr").first
        row.scroll_into_view_if_needed()
        row.click()
        column = page.locator(".agl-column").first
        column.wait_for()
        page.wait_for_timeout(300)
        page.screenshot(path=SHOTS / "lab-group.png")
        diff.scroll_into_view_if_needed()
        page.wait_for_timeout(300)
        page.screenshot(path=SHOTS / "lab-diff.png")
        assert notebook.failures() == [] and notebook.errors == [] and notebook.elsewhere == []
        notebook.come_back()
        page.locator(".agl-column").first.wait_for()  # the group that was open
        page.locator(".agl-version").first.wait_for()  # the versions of the run that is paused
        page.locator(".agl-diff", has_text="sampling_parameters.temperature").first.wait_for()
        page.locator(".agl-against tbody tr").nth(1).wait_for()
        page.locator(".agl-back button").first.click()
        page.get_by_role("button", name="stop").click()
        page.wait_for_function("() => /^(stopped|succeeded)/.test(document.querySelector('.agl-text')?.textContent)")
        page.screenshot(path=SHOTS / "lab-reloaded.png")
        assert page.locator(".jp-Notebook img").count() == 0
        page.close()
