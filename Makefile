# Two commands do everything on a fresh machine: `make demo` and `make test`. Each makes .venv when there is none.
PYTHON ?= python3
RUN := .venv/bin/python
READY := .venv/.requirements

export HF_HUB_OFFLINE ?= 1

.PHONY: demo test check format install

demo: $(READY)
	$(RUN) main.py demo

test: check
	$(RUN) -m pytest --timeout 600

check: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy .

format: $(READY)
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

install: $(READY)

$(READY): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed; run: make PYTHON=python3.11")'
	@$(RUN) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv \
		|| { echo "error: could not make .venv; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(RUN) -m pip install --quiet --requirement requirements.lock
	@touch $(READY)
