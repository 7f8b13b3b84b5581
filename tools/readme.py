"README.md is made from nbs/index.ipynb: `python tools/readme.py` writes it."

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def readme() -> str:
    "The index notebook as markdown: prose as it stands, code and what it prints in fences, cells that begin with `#| hide` left out."
    cells = json.loads((ROOT / "nbs" / "index.ipynb").read_text(encoding="utf-8"))["cells"]
    parts = []
    for cell in cells:
        source = "".join(cell["source"]).strip()
        if not source or source.startswith(("#| hide", "---\n")):
            continue
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        printed = [o for o in cell.get("outputs", []) if o.get("name") == "stdout"]
        parts += [f"```\n{''.join(o['text']).strip()}\n```" for o in printed]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    (ROOT / "README.md").write_text(readme(), encoding="utf-8")
