"Every `%lightning` command in a kernel under JupyterLab: what it shows, light and dark, wide and narrow; tab completion; what a wrong word is told."

from pathlib import Path

import pytest

lab = pytest.importorskip("lab")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(lab.chromium() is None, reason="no chromium"),
    pytest.mark.timeout(300),
]
SHOTS = Path(__file__).parents[1] / "artefacts"
CELLS = {
    "begin": """
%load_ext agentlightning_nb
import aiohttp
from agentlightning_nb.litagent import rollout
from agentlightning_nb.testing import ScriptedModel
from agentlightning_nb.tracer import emit_reward
from agentlightning_nb.types import LLM, PromptTemplate

model = ScriptedModel(lambda request: "It is 42." if "42" in str(request) or "exactly" in str(request) else "Perhaps 41?", name="sim-words")
tasks = [f"What is {a} * {b}?" for a, b in ((6, 7), (2, 21), (3, 5), (42, 1))]
resources = {"llm": LLM("sim-words"), "system": PromptTemplate("Answer the question.")}

@rollout
async def agent(task, llm, system):
    asked = {"model": llm.model, "messages": [{"role": "system", "content": system.template}, {"role": "user", "content": task.input}]}
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {llm.api_key}"}) as session:
        async with session.post(f"{llm.base_url}/chat/completions", json=asked) as answer:
            said = (await answer.json())["choices"][0]["message"]["content"]
    emit_reward({"right": float("42" in said), "short": 0.5}, why=f"It said {said!r}.")

class Rewrites:
    def optimize_step(self, rollout_results, resources_version):
        return {"resources": {"system": PromptTemplate("Answer the question exactly, with a number.")}}

rewrites = Rewrites()
""",
    "help": "%lightning",
    "start": "%lightning start --upstream model",
    "fit": "%lightning fit agent --tasks tasks --algorithm rewrites --resources resources --steps 4 --workers 2",
    "status": "%lightning status",
    "rollouts": "%lightning rollouts --sort best",
    "inspect": "done = _.store.query_rollouts(sort_order='asc').items\nrollout_id = done[0].rollout_id\n%lightning inspect $rollout_id",
    "rewards": "%lightning rewards",
    "diff": "a, b = done[0].resources_id, done[-1].resources_id\n%lightning diff $a $b",
    "compare": "%lightning compare",
    "dev": "%%lightning dev --task \"'And 6 * 7?'\" --resources \"{'llm': LLM('sim-words')}\"\n@rollout\nasync def brief(task, llm):\n    return 1.0",
    "reward": "%%reward\ndef graded(rollout):\n    return 1.0 if '42' in str(rollout.task.input) else 0.0",
    "doctor": "%lightning doctor --quick",
    "export": "%lightning export run.html",
    "stop": "%lightning stop",
    "wrong": "%lightning strat",
}
COMPLETE = """async (code) => { const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    return (await kernel.requestComplete({ code, cursor_pos: code.length })).content.matches; }"""
RUN = """([way, index]) => { const app = window.jupyterapp;
    app.shell.currentWidget.content.activeCellIndex = index;
    return app.commands.execute(`notebook:run-all-${way}`); }"""
SEEN = {  # what a cell's output must have
    "help": "start a server in this kernel",
    "start": "Serving :memory: at",
    "status": "attempts",
    "dev": "succeeded · reward 1",
    "doctor": "what to do",
    "export": "It opens in any browser",
    "stop": "Stopped http://127.0.0.1:",
    "wrong": "No command 'strat'. There are: start, status, stop",
}
DRAWN = {  # what a widget draws
    "fit": "polyline.agl-train",
    "rollouts": ".agl-list tbody tr",
    "inspect": ".agl-turn",
    "rewards": "polyline.agl-train",
    "diff": ".agl-resource",
    "compare": ".agl-against tbody tr",
    "reward": ".js-plotly-plot .scatterlayer",
}


def test_every_command_shows_what_it_found(tmp_path):
    from test_browser import notebook_of

    SHOTS.mkdir(exist_ok=True)
    work, scratch = tmp_path / "work", tmp_path / "scratch"
    work.mkdir(), scratch.mkdir()
    (work / "magics.ipynb").write_text(notebook_of(list(CELLS.values())))
    with lab.browser() as browser, lab.server(work, scratch) as url:
        page = browser.new_page(viewport={"width": 1200, "height": 1000})
        page.set_default_timeout(60_000)
        notebook = lab.Notebook(page, url, "magics.ipynb")
        page.evaluate("window.jupyterapp.shell.collapseLeft()")
        page.evaluate(RUN, ["above", list(CELLS).index("stop")])  # what is shown asks the store, so it stops last
        page.locator(".jp-OutputArea-output", has_text="It opens in any browser").wait_for(timeout=120_000)
        outputs = {
            name: page.locator(".jp-CodeCell").nth(i).locator(".jp-Cell-outputWrapper") for i, name in enumerate(CELLS)
        }
        for name, drawn in DRAWN.items():
            outputs[name].locator(drawn).first.wait_for(state="attached")  # a flat line has no height
        assert (
            outputs["fit"].locator(".agl-run").count() == 1
        )  # shown while it goes on, and not once more as its result
        page.evaluate(RUN, ["below", list(CELLS).index("stop")])
        for name, text in SEEN.items():
            outputs[name].get_by_text(text).first.wait_for()
        assert notebook.failures() == [] and notebook.errors == [] and notebook.elsewhere == []
        assert (work / "run.html").stat().st_size > 50_000
        assert page.evaluate(COMPLETE, "%lightning r") == ["rollouts", "rewards"]
        assert "--sort" in page.evaluate(COMPLETE, "%lightning rollouts --s")
        for theme, width in (("Light", 1200), ("Dark", 1200), ("Light", 560), ("Dark", 560)):
            page.evaluate(
                f"window.jupyterapp.commands.execute('apputils:change-theme', {{theme: 'JupyterLab {theme}'}})"
            )
            page.wait_for_function(f"document.body.dataset.jpThemeLight === '{str(theme == 'Light').lower()}'")
            page.set_viewport_size({"width": width, "height": 1000})
            for name in (*DRAWN, *SEEN):
                outputs[name].scroll_into_view_if_needed()
                page.wait_for_timeout(250)
                outputs[name].screenshot(path=SHOTS / f"magic-{name}-{theme.lower()}-{width}.png")
                wide = "(el) => [...el.querySelectorAll('.agl')].every((a) => a.scrollWidth <= a.clientWidth + 1)"
                assert outputs[name].evaluate(wide), f"{name} is wider than its cell of {width}"
