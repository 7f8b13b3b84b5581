# Every target makes its own .venv; nothing but Python >= 3.11 is needed.
PYTHON ?= python3
# Without a GPU this build is the small one; elsewhere give the CPU build, e.g. make demo TORCH="torch==2.13.0+cpu"
TORCH ?= torch==2.13.0
BIN := .venv/bin
SETUP := settings.ini setup.py pyproject.toml
export OMP_NUM_THREADS ?= 1

CLUSTER_PYTEST := RAY_ENABLE_UV_RUN_RUNTIME_ENV=0 .venv-cluster/bin/python -m pytest -p no:cacheprovider

.PHONY: demo test test-cluster test-ray quick lab clients cluster docs clean

demo: .venv/.demo            ## train a tiny real model, here and now
	$(BIN)/agentlightning demo

lab: .venv/.demo             ## JupyterLab on the quickstart
	$(BIN)/jupyter lab nbs/tutorials/quickstart.ipynb

quick: .venv/.test           ## style and the fast tests, under two minutes
	$(BIN)/ruff check . && $(BIN)/ruff format --check -q nbs tests tools
	$(BIN)/pytest -n 2 --dist loadfile -m "not slow and not browser"

test: .venv/.test            ## everything: style, every notebook, every test
	@$(MAKE) -s clients || echo "The examples' other clients could not be installed: their tests will be skipped."
	$(BIN)/ruff check . && $(BIN)/ruff format --check -q nbs tests tools
	$(BIN)/nbdev-test nbs --n-workers 2 --cell-timeout 400
	$(BIN)/pytest
	@if $$(command -v timeout >/dev/null && echo timeout 300) $(MAKE) -s cluster; then $(MAKE) -s test-ray; \
	else echo "verl, Ray and vLLM could not be installed in time: the tests marked cluster were skipped."; fi

# verl's settings and Ray's nodes: a minute or two, so a part of `make test`
test-ray: .venv-cluster/.done
	$(CLUSTER_PYTEST) -m cluster tests/test_verl_settings.py tests/test_ray_nodes.py tests/test_witness.py

# all that needs verl, Ray and vLLM, whole runs of verl included
CLUSTER ?= cluster and not slow
test-cluster: .venv-cluster/.done
	$(CLUSTER_PYTEST) -m "$(CLUSTER)" tests/test_verl_settings.py tests/test_ray_nodes.py tests/test_witness.py tests/test_engine_vllm.py tests/test_verl.py tests/test_verl_ray.py tests/test_verl_learns.py

docs: .venv/.test            ## the site, in _docs/site
	$(BIN)/python tools/stage_docs.py _docs/src
	$(BIN)/sphinx-build -q -W --keep-going -b html _docs/src _docs/site

cluster: .venv-cluster/.done ## verl, Ray and vLLM's CPU build, for the tests marked `cluster` (4 GB)

clients: .venv-clients/.done ## the examples' clients that cannot share an environment with the others

clean:                       ## what the other targets made, the demo's store and curve included
	rm -rf .venv .venv-clients .venv-cluster build dist _docs *.egg-info artefacts demo-out demo.db demo.db-* demo.files .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch first and by pip, so that nothing else chooses a build of several gigabytes; then uv, for speed
.venv/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	nvidia-smi >/dev/null 2>&1 || $(BIN)/pip install -q '$(TORCH)'
	$(BIN)/pip install -q uv
	touch $@

.venv/.demo: .venv/.python $(SETUP)
	$(BIN)/uv pip install -q --python $(BIN)/python -e '.[train,notebook]' || $(BIN)/pip install -q -e '.[train,notebook]'
	touch $@

.venv/.test: .venv/.python $(SETUP)
	$(BIN)/uv pip install -q --python $(BIN)/python -e '.[train,notebook,clients,sft,dev,docs]' || $(BIN)/pip install -q -e '.[train,notebook,clients,sft,dev,docs]'
	touch $@ .venv/.demo

# half a minute, 2 GB; what hangs is given up after ten minutes where there is a `timeout`
.venv-clients/.done: .venv/.python examples/clients/requirements.txt $(SETUP)
	test -x .venv-clients/bin/python || $(BIN)/python -m venv --without-pip .venv-clients
	nvidia-smi >/dev/null 2>&1 || $(BIN)/python -m pip --python .venv-clients/bin/python install -q '$(TORCH)'
	$$(command -v timeout >/dev/null && echo timeout 600) $(BIN)/uv pip install -q --python .venv-clients/bin/python -r examples/clients/requirements.txt -e '.[train]'
	touch $@

# 4 GB in a minute; torch by pip, which knows where the small build is. What hangs is given up after twenty minutes where there is a `timeout`
.venv-cluster/.done: .venv/.python tools/cluster/requirements.txt tools/cluster/overrides.txt tools/cluster/name_vllm.py $(SETUP)
	test -x .venv-cluster/bin/pip || $(PYTHON) -m venv .venv-cluster
	$$(command -v timeout >/dev/null && echo timeout 600) .venv-cluster/bin/pip install -q 'torch==2.13.0'
	$$(command -v timeout >/dev/null && echo timeout 600) $(BIN)/uv pip install -q --python .venv-cluster/bin/python \
	  --override tools/cluster/overrides.txt -r tools/cluster/requirements.txt -e '.[train]'
	.venv-cluster/bin/python tools/cluster/name_vllm.py
	touch $@
