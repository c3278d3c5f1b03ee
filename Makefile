# `make` lists the targets. Each installs what it needs into .venv, once, and runs.

.DEFAULT_GOAL := help
.NOTPARALLEL:
SHELL := /bin/sh

VENV := .venv
PY := $(VENV)/bin/python
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3.14 python3 python,\
	$(shell $(name) -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $(name))))

# An installation is current as long as these files say the same, whenever they were written; the kernels are compiled by it.
PINS := $(shell cat pyproject.toml constraints.txt app/models/kernels/*.[ch] | cksum | cut -d" " -f1)
SERVE := $(VENV)/.serve-$(PINS)
TRAIN := $(VENV)/.train-$(PINS)
AUDIT := $(VENV)/.audit-$(PINS)
TEST := $(VENV)/.test-$(PINS)
BROWSER := $(VENV)/.browser-$(PINS)
RAY := $(VENV)/.ray-$(PINS)
BENCH := $(VENV)/.bench-$(PINS)
DEV := $(VENV)/.dev-$(PINS)

AXE := tests/browser/node_modules/axe-core/axe.min.js

# Clients of others, each where no other version is; the versions stand in tests/huggingface/.
HUBS := $(shell sed 's|.*|.venv-clients/huggingface_hub-&/.installed|' tests/huggingface/huggingface_hub.txt)
HF_JS := tests/huggingface/node_modules/.installed-$(shell cksum < tests/huggingface/package.json | cut -d" " -f1)

# The tools that generate clients have a place of their own: one wants a typer that is not ours.
GENERATED := build/generated
GENERATORS := $(GENERATED)/.installed-$(shell cat constraints.txt tests/generated/requirements.txt tests/generated/package.json | cksum | cut -d" " -f1)

# Threads that spin while they wait starve the other work of the machine.
export OMP_WAIT_POLICY ?= PASSIVE

# A model that trains in minutes; anything here can be overruled in ARGS.
SMALL := --vocabulary 8000 --embedding 128 --encoder 128 --decoder 256 --key 128 --epochs 3 --batch-pairs 32 \
	--warmup-steps 50 --validate-every 100

LOCK := $(shell command -v flock >/dev/null 2>&1 && echo flock $(VENV)/.lock)
define INSTALL
	@echo "installing $(1:.%=precis%) into $(VENV), this once"
	@$(LOCK) $(PY) -m pip install --quiet --disable-pip-version-check --no-input -c constraints.txt -e '$(1)'
	@touch $@
endef

.PHONY: help serve test check format audit train evaluate bench test-browser test-clients test-containers test-generated test-monitoring test-ray soak python

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile

serve: $(SERVE) ## start the service on the checkpoint in model_store/
	@exec $(PY) -m app

test: $(TEST) ## run the tests (ARGS="-k words" chooses some)
	$(PY) -m pytest --numprocesses 2 --dist worksteal $(ARGS)

check: $(DEV) ## lint, types, import contracts, Dockerfile, compose files and Kubernetes manifests
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/hadolint --failure-threshold style Dockerfile deploy/*/Dockerfile deploy/*/*/Dockerfile tests/containers/*.Dockerfile
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml docker-compose.gpu.yml
	@# A tag of compose's own, which the schema does not know.
	sed 's/ !reset / /' docker-compose.replicas.yml | \
	  $(VENV)/bin/check-jsonschema --builtin-schema vendor.compose-spec --force-filetype yaml -
	$(PY) -m tests.deploy.manifests

format: $(DEV) ## rewrite the code as `make check` wants it
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

audit: ADVISORIES = osv
audit: $(AUDIT) ## licences of what the service needs, and known weaknesses of all pins (wants the network; ADVISORIES=pypi asks another)
	$(PY) -m audit sbom
	$(PY) -m audit licences
	$(PY) -m audit advisories $(ADVISORIES)

train: DATA = training/sample/train.jsonl.zst
train: NAME = sample
train: $(TRAIN) ## train a small model, in five minutes on the committed sample (DATA=rows.jsonl NAME=mine for your own)
	$(PY) -m training run --data $(DATA) --name $(NAME) $(SMALL) $(ARGS)

evaluate: DATA = training/sample/test.jsonl.zst
evaluate: NAME = news-en
evaluate: $(TRAIN) ## scores, truth and attention of a checkpoint (DATA=rows.jsonl NAME=mine for your own)
	@echo "evaluating $(NAME) on $(DATA); DATA=rows.jsonl takes another, ARGS='--output FOLDER' keeps the scores"
	$(PY) -m training evaluate --data $(DATA) --name $(NAME) $(ARGS)

bench: $(BENCH) ## the service, its peers and the offline limit on this machine, in about 40 minutes (ARGS=--quick for a look)
	$(PY) -m benchmarks peers $(ARGS)

soak: MINUTES = 30
soak: $(TEST) ## everything at once for MINUTES=30, faults and reloads too: wrong answers, and what grows (ARGS="--seed 1" repeats one)
	$(PY) -m benchmarks soak --minutes $(MINUTES) $(ARGS)

test-browser: $(BROWSER) $(AXE) ## try the page in Chromium (CHROMIUM=path names another one)
	$(PY) -m pytest tests/browser $(ARGS)

test-containers: ## build the image and run the compose file for real (CONTAINER_CHECK=tool, see CONTRIBUTING.md)
	CONTAINER_CHECK="$(CONTAINER_CHECK)" tests/containers/check.sh

test-clients: $(TEST) $(HUBS) $(HF_JS) ## try the clients of Hugging Face, Python and JavaScript, on the service (wants Node.js, npm and curl)
	$(PY) -m pytest tests/huggingface $(ARGS)

test-generated: $(SERVE) $(GENERATORS) ## check the OpenAPI document, generate clients in Python and TypeScript, and use them (wants Node.js)
	$(PY) -m tests.generated $(GENERATED)

test-ray: $(RAY) ## the service on Ray Serve, on a local cluster of two nodes; what proxies matter for, behind HAProxy too
	$(PY) -m pytest tests/ray $(ARGS)
	RAY_SERVE_ENABLE_HA_PROXY=1 RAY_SERVE_HAPROXY_RETRY_ON="conn-failure empty-response" \
	  $(PY) -m pytest tests/ray/test_busy.py tests/ray/test_callers.py tests/ray/test_failures.py $(ARGS)

test-monitoring: ## check and test the Prometheus configuration and its alerts (wants promtool; Debian: prometheus)
	@command -v promtool >/dev/null || { echo "promtool is not installed (Debian: apt-get install prometheus)" >&2; exit 1; }
	cd monitoring/prometheus && promtool check config prometheus.yml && promtool test rules alerts.test.yml

python:
	@echo "$(PYTHON)"

$(VENV)/.created:
	@test -n "$(PYTHON)" || { echo "Precis needs Python 3.11 or newer with its venv module, and found none." \
	  "Install it (Debian: apt-get install python3-venv) or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Precis needs Python 3.11 or newer; $(PYTHON) is not. Name another: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

.venv-clients/huggingface_hub-%/.installed: | $(VENV)/.created
	@echo "installing huggingface_hub $* into .venv-clients, this once"
	@rm -rf $(@D) && mkdir -p $(@D) && grep -v '^huggingface_hub==' constraints.txt > $(@D)/constraints.txt
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-input --target $(@D) -c $(@D)/constraints.txt huggingface_hub==$*
	@touch $@

$(HF_JS):
	@for tool in node npm curl; do command -v $$tool >/dev/null || { echo "$$tool is missing (Debian: apt-get install nodejs npm curl)" >&2; exit 1; }; done
	cd tests/huggingface && npm install --silent --ignore-scripts --no-package-lock --no-audit --no-fund
	@touch $@

$(GENERATORS): | $(VENV)/.created
	@command -v npm >/dev/null || { echo "npm is missing. Install it (Debian: apt-get install npm)" >&2; exit 1; }
	@rm -rf $(GENERATED) && mkdir -p $(GENERATED) && cp tests/generated/package.json $(GENERATED)
	$(PY) -m venv $(GENERATED)/venv
	@grep -v '^typer==' constraints.txt > $(GENERATED)/constraints.txt
	$(GENERATED)/venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input -c $(GENERATED)/constraints.txt \
	  -r tests/generated/requirements.txt mypy
	cd $(GENERATED) && npm install --silent --ignore-scripts --no-package-lock --no-audit --no-fund
	@touch $@

$(SERVE): | $(VENV)/.created
	$(call INSTALL,.)

$(TRAIN): | $(VENV)/.created
	$(call INSTALL,.[train])

$(AUDIT): | $(VENV)/.created
	$(call INSTALL,.[audit])

$(TEST): | $(VENV)/.created
	$(call INSTALL,.[test])

$(BROWSER): | $(VENV)/.created
	$(call INSTALL,.[browser])

$(RAY): $(TEST)
	$(call INSTALL,.[ray])

$(AXE): tests/browser/package.json
	npm install --prefix tests/browser --silent --no-audit --no-fund --no-package-lock
	@touch $@

$(BENCH): | $(VENV)/.created
	$(call INSTALL,.[bench])

$(DEV): | $(VENV)/.created
	$(call INSTALL,.[dev])
