"How Sphinx renders the staged site: `make docs` stages it with tools/stage_docs.py and calls this."

import importlib.metadata

project = "agentlightning_nb"
author = copyright = "The agentlightning_nb developers"
version = release = importlib.metadata.version("agentlightning_nb")
extensions = ["myst_nb"]
html_theme = "furo"
html_title = "agentlightning_nb"
html_static_path = ["_static"]
html_js_files = ["plotly.min.js"]
html_css_files = ["site.css"]
html_extra_path = ["llms.txt"]
exclude_patterns = ["llms.txt"]
nb_execution_mode = "off"  # the notebooks were run by their tests
nb_ipywidgets_js = {}  # widgets are shown by their static twins
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["mystnb.unknown_mime_type"]
