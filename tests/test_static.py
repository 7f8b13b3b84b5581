"The script files of the panels, without a browser: each name is declared once, since they become one module, and every component is part of it."

import re
from collections import Counter
from importlib.resources import files

import pytest

from agentlightning_nb.page import COMPONENTS, component

SCRIPTS = {
    f.name: f.read_text(encoding="utf-8")
    for f in files("agentlightning_nb").joinpath("static").iterdir()
    if f.name.endswith(".js")
}


def test_a_name_is_declared_once_in_all_files():
    declared = Counter(
        name
        for text in SCRIPTS.values()
        for name in re.findall(r"^(?:async )?(?:function|const|let) (\w+)", text, re.M)
    )
    declared += Counter(
        name
        for text in SCRIPTS.values()
        for more in re.findall(r"^(?:const|let) \w+ = [^\n;]*?, (\w+) = ", text, re.M)
        for name in [more]
    )
    assert [name for name, times in declared.items() if times > 1] == []


@pytest.mark.parametrize("name", [n for n in COMPONENTS if n not in ("base", "curve")])
def test_a_component_carries_all_that_it_leads_to(name):
    module = component(name)
    assert f"return widget(model, el, draw_{name}); }}" in module
    assert all(f"function draw_{other}(" in module for other in COMPONENTS if other not in ("base", "curve"))


def test_nothing_is_made_from_markup_and_nothing_is_loaded():
    for name, text in SCRIPTS.items():
        for bad in ("innerHTML", "insertAdjacentHTML", "outerHTML", "document.write", "eval(", "https://", "import("):
            assert bad not in text, f"{name} has {bad}"
