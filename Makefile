PYTHON ?= python3
BIN := .venv/bin

.PHONY: bench check clean demo docs gpu test typing

demo: .venv/installed  ## the whole path on a synthesised world, in a few minutes
	$(BIN)/cavsync demo

# Three processes on two cores: tests of Ray, of kills and of stores wait for a fifth of their time.
# A hundred tests start Python: it compiles cavsync once, whatever the machine's settings are.
test: export PYTHONDONTWRITEBYTECODE =
test: .venv/installed
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

bench: .venv/installed  ## every benchmark's table, in 10 to 15 minutes; each runs alone too
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group bench
	$(BIN)/python -m benchmarks

gpu: .venv/installed  ## tests, speed and a run on a GPU in nine minutes, to build/gpu
	$(BIN)/python -m benchmarks.gpu --out build/gpu

docs: .venv/installed typing  ## the pages and the Python interface as a site, to build/docs
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

check: .venv/installed typing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p cavsync
	$(BIN)/python -m pytest -q tests/repository/test_architecture.py

# pip >= 25.1 reads dependency groups.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . --group dev
	touch $@

# The installed layout as links, for tools that do not run import hooks.
typing:
	mkdir -p build/typing/cavsync
	ln -sfn ../../../cavsync/__init__.py ../../../cavsync/errors.py ../../../cavsync/py.typed build/typing/cavsync/
	for folder in cli manifests model pipeline train; do ln -sfn "../../../$$folder" "build/typing/cavsync/$$folder"; done

clean:
	rm -rf build dist *.egg-info .venv
