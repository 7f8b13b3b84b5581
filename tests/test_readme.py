"The README is that of the index notebook, whose code `nbdev-test` runs."

import ast
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_readme_is_current():
    made = runpy.run_path(str(ROOT / "tools" / "readme.py"))["readme"]()
    assert (ROOT / "README.md").read_text(encoding="utf-8") == made, "run: python tools/readme.py"


def test_every_code_block_is_python():
    blocks = (ROOT / "README.md").read_text(encoding="utf-8").split("```python\n")[1:]
    assert blocks
    for block in blocks:
        compile(block.split("```")[0], "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
