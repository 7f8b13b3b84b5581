"The docs site builds without a warning, its links lead somewhere, nothing comes from the network, and the code of its guides runs."

import ast
import asyncio
import inspect
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[1]
GUIDES = sorted((ROOT / "docs").glob("*.md"))


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.parametrize("page", [p for p in GUIDES if blocks(p)], ids=lambda p: p.stem)
def test_the_code_of_a_guide_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "guide"}
    for i, block in enumerate(blocks(page)):
        code = compile(block, f"{page.name}[{i}]", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if code.co_flags & inspect.CO_COROUTINE:
            asyncio.run(eval(code, names))
        else:
            exec(code, names)


@pytest.mark.parametrize("page", GUIDES, ids=lambda p: p.stem)
def test_commands_and_paths_of_a_guide_exist(page):
    from agentlightning_nb.cli import make_parser
    from agentlightning_nb.proxy import ADDRESS
    from agentlightning_nb.server import create_app

    text = page.read_text(encoding="utf-8")
    for line in re.findall(r"^agentlightning (.+)$", text, re.M):
        make_parser().parse_args(line.split("  #")[0].split())  # SystemExit for what does not exist
    for target in re.findall(r"^make (\w+)", text, re.M):
        assert f"\n{target}:" in (ROOT / "Makefile").read_text(encoding="utf-8"), target
    described = create_app(None).openapi()["paths"] if "`GET /" in text or "`POST /" in text else {}
    for method, path in re.findall(r"`(GET|POST) (/[^`]*)`", text):
        assert method.lower() in described.get(path, {}) or path == "/docs" or ADDRESS.match(path), path
    for room in re.findall(r"\{doc\}`rooms/([^`]+)`", text):
        assert (ROOT / "nbs" / f"{room}.ipynb").exists(), room


class Links(HTMLParser):
    "What a page leads to, and what it loads."

    def __init__(self):
        super().__init__()
        self.leads, self.loads, self.ids = [], [], set()

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids |= {found["id"]} if "id" in found else set()
        if tag == "a" and found.get("href"):
            self.leads.append(found["href"])
        elif tag in ("script", "img", "link") and (found.get("src") or found.get("href")):
            self.loads.append(found.get("src") or found["href"])


def parsed(path: Path) -> Links:
    links = Links()
    links.feed(path.read_text(encoding="utf-8"))
    return links


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("myst_nb")
    folder = tmp_path_factory.mktemp("docs")
    stage = [sys.executable, str(ROOT / "tools" / "stage_docs.py"), str(folder / "src")]
    build = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    for command in (stage, [*build, str(folder / "src"), str(folder / "site")]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, done.stderr[-3000:]
    return folder / "site"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_site_has_no_dead_links_and_loads_nothing_from_elsewhere(site):
    pages = {path.resolve(): parsed(path) for path in site.rglob("*.html")}
    assert len(pages) > 100
    for path, links in pages.items():
        assert not [url for url in links.loads if urlsplit(url).netloc], path
        for href in links.leads:
            url = urlsplit(href)
            if url.scheme or url.netloc or path.name in ("genindex.html", "search.html"):
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            assert target.exists(), (path.name, href)
            if url.fragment and target in pages:
                assert unquote(url.fragment) in pages[target].ids, (path.name, href)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_api_names_every_public_class_and_what_a_call_takes(site):
    text = (site / "api" / "trainer.html").read_text(encoding="utf-8")
    assert 'id="trainer-fit"' in text and "progress" in text
    for page, name in (("store", "lightningstore"), ("client", "lightningclient")):  # verbs are inherited
        told = (site / "api" / f"{page}.html").read_text(encoding="utf-8")
        assert f'id="{name}-enqueue-rollout"' in told and f'id="{name}-query-spans"' in told and "wait_s" in told
    llms = (site / "llms.txt").read_text(encoding="utf-8")
    assert llms.startswith("# agentlightning_nb") and "(api/trainer.html)" in llms and "(wrap/openai_chat.html)" in llms


@pytest.fixture
def opened(site):
    "Opens a page of the site from disk, in a scheme and at a width; what goes wrong there is collected."
    lab = pytest.importorskip("lab")
    if lab.chromium() is None:
        pytest.skip("no chromium")
    with lab.browser() as browser:

        def open_page(name, wrong, *, scheme="light", width=1200, query=""):
            page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 800})
            page.on("pageerror", lambda e: wrong.append(str(e)))
            page.on("request", lambda r: r.url.startswith("http") and wrong.append(r.url))
            page.goto((site / f"{name}.html").as_uri() + query)
            return page

        yield open_page


SHOWN = (
    "index",
    "tutorials/quickstart",
    "api/trainer",
    "api/names",
    "protocol",
    "wrap/langgraph_react",
    "examples/coding",
)


@pytest.mark.browser
@pytest.mark.timeout(900)
def test_the_site_opens_from_disk_on_desks_and_phones_in_light_and_dark(opened):
    wrong, shots = [], ROOT / "artefacts"
    shots.mkdir(exist_ok=True)
    for scheme, width in (("light", 1200), ("dark", 390)):
        for name in SHOWN:
            page = opened(name, wrong, scheme=scheme, width=width)
            page.screenshot(path=shots / f"docs-{scheme}-{name.replace('/', '-')}.png")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (
                name
            )  # wide things scroll by themselves
            broken = "[...document.images].filter(i => !i.naturalWidth).map(i => i.src)"
            assert page.evaluate(broken) == [], name
            page.close()
    assert not wrong


@pytest.mark.browser
@pytest.mark.timeout(900)
def test_the_figures_of_the_tutorials_are_drawn(opened):
    figures = 0
    for name in ("tutorials/rl_on_one_gpu", "tutorials/debug_a_run"):
        page = opened(name, wrong := [])
        places = page.locator(".plotly-figure")
        figures += places.count()
        for place in places.all():
            place.locator(".main-svg").first.wait_for(timeout=60_000)
            assert place.bounding_box()["height"] > 200
        assert not wrong
        page.close()
    assert figures > 5


@pytest.mark.browser
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "asked, contract", [("emit_reward", "api/tracer.html#emit-reward"), ("GRPO", "api/algorithms.grpo.html#grpo")]
)
def test_a_search_leads_to_the_contract_of_a_function(opened, asked, contract):
    page = opened("search", [], query=f"?q={asked}")
    page.wait_for_selector("ul.search li a", timeout=60_000)
    found = page.evaluate(
        "[...document.querySelectorAll('ul.search li')].map(e => e.querySelector('a').getAttribute('href'))"
    )
    assert any(href.startswith(contract) for href in found[:5]), found[:5]
