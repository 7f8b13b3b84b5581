"A run as one file: its groups, versions, differences, tasks and rewards open from disk without a network."

from pathlib import Path

import panels_store
import pytest

from agentlightning_nb.export import export_run, pairs_of

lab = pytest.importorskip("lab")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(lab.chromium() is None, reason="no chromium"),
    pytest.mark.timeout(120),
]
SHOTS = Path(__file__).parents[1] / "artefacts"


def test_every_view_of_a_run_is_in_its_file(tmp_path):
    SHOTS.mkdir(exist_ok=True)
    with panels_store.filled() as store:
        path = export_run(store, "run-2", tmp_path / "run.html")
    with lab.browser() as browser:
        page = browser.new_page(viewport={"width": 1000, "height": 900})
        page.set_default_timeout(15_000)
        page.mistakes = []
        page.on("pageerror", lambda e: page.mistakes.append(str(e)))
        page.on("dialog", lambda d: page.mistakes.append("a dialog"))
        page.on("request", lambda r: r.url.startswith("http") and page.mistakes.append(r.url))
        page.goto(path.as_uri())
        way = lambda name: page.locator(".agl-ways button", has_text=name).click()  # noqa: E731
        way("versions")
        page.locator(".agl-pairs tbody tr").first.wait_for()
        page.screenshot(path=SHOTS / "exported-versions.png", full_page=True)
        page.locator(".agl-pairs tbody tr").first.click()  # the same task under both
        page.locator(".agl-column").first.wait_for()
        page.keyboard.press("Escape")
        page.locator(".agl-version").nth(2).click()  # against what it comes from
        page.wait_for_function("() => /version 2.*version 3/s.test(document.querySelector('.agl-from')?.textContent)")
        page.locator(".agl-version").nth(3).click()  # two that are not compared in the file
        page.get_by_text("This is not part of the file.").wait_for()
        page.keyboard.press("Escape")
        for name, there in (
            ("tasks", ".agl-grid td"),
            ("compare", ".agl-against tbody tr"),
            ("groups", ".agl-of tbody tr"),
        ):
            way(name)
            page.locator(there).first.wait_for()
            if name != "groups":
                page.keyboard.press("Escape")
        page.locator(".agl-of tbody tr").first.click()
        page.locator(".agl-column").nth(1).wait_for()
        page.get_by_role("button", name="open", exact=True).first.click()
        page.get_by_role("tab", name="Conversation").wait_for()
        assert page.locator("img").count() == 0 and page.mistakes == []


def test_the_first_tried_and_the_best_are_always_compared():
    tried = {"rewards": {"train": {}}}
    versions = [{"resources_id": str(i), "parents": [str(i - 1)] if i else [], **tried} for i in range(100)]
    pairs = pairs_of({"versions": versions, "best": "40"})
    assert pairs[0] == ("0", "40") and len(pairs) == len(set(pairs)) == 24
    assert pairs_of({"versions": versions[:1], "best": "0"}) == [] and pairs_of({"versions": [], "best": None}) == []
