# What a newcomer types. All that is made lies in this folder: .venv*, data, reports.
SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help demo evaluate test bench soak fuzz setup build docs lint shell clean distclean

in_environment = . scripts/env.sh &&

# The demo's settings, passed on where they are set: make demo LOSS=0.3 FRAMES=100
demo_arguments = $(if $(STRATEGY),--strategy '$(STRATEGY)') $(if $(LIGHT_MODEL),--light-model '$(LIGHT_MODEL)') \
	$(if $(PARTITION),--partition '$(PARTITION)') $(if $(MODEL),--model '$(MODEL)') $(if $(CHECKPOINT),--checkpoint '$(CHECKPOINT)') \
	$(if $(IMAGES),--images '$(IMAGES)') $(if $(LOSS),--loss '$(LOSS)') $(if $(FRAMES),--frames '$(FRAMES)') \
	$(if $(RATE),--rate '$(RATE)') $(if $(BURST),--burst '$(BURST)') $(if $(SEED),--seed '$(SEED)') \
	$(if $(FRAME_BYTES),--frame-bytes '$(FRAME_BYTES)') $(if $(CUT),--cut '$(CUT)') $(if $(ARTIFACT),--artifact '$(ARTIFACT)') \
	$(if $(HEAD),--head '$(HEAD)') $(if $(TASK),--task '$(TASK)')

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | while IFS=$$'\t' read -r target text; do \
		printf '  make %-10s %s\n' "$$target" "$$text"; done
	@echo '  The demo is set by STRATEGY, MODEL, LIGHT_MODEL, PARTITION, HEAD, TASK, CHECKPOINT, IMAGES, LOSS, FRAMES, RATE, BURST, SEED, CUT, FRAME_BYTES and ARTIFACT:'
	@echo '    make demo LOSS=0.3     make demo STRATEGY=selection     make demo STRATEGY=partition     make demo STRATEGY=auto     make demo TASK=segmentation'

demo: setup  ## camera, edge node, lossy link and bridge on this machine: predictions, a table, reports/demo/
	@$(if $(filter-out moving-fashion moving_fashion fashion-mnist fashion_mnist,$(IMAGES)),,$(in_environment) evitif fetch fashion-mnist)
	@$(in_environment) python -m scripts.demo $(demo_arguments)

evaluate: setup  ## the tables and plots of docs/results/recovery.md from the shipped artifacts; QUICK=1: a few minutes, reports/evaluate/
	@$(in_environment) evitif fetch fashion-mnist || true
	@$(in_environment) evitif evaluate suite $(if $(QUICK),--quick) $(EVALUATE_ARGUMENTS)

# Without the data set the tests that need it skip themselves and say so. Two files at a time; one after the other with TEST_PROCESSES=0.
TEST_PROCESSES ?= 2
test: setup  ## all tests
	@$(in_environment) evitif fetch fashion-mnist || true
	@$(in_environment) python -m pytest -q -n $(TEST_PROCESSES) --dist loadfile --durations=10 $(PYTEST_ARGUMENTS) test

# Without root or nft the link is simulated, without the erasure code two contestants are left out, and without PyAV those of H.264; all say so.
bench: setup  ## the link beside TCP, ROS 2 topics and codecs, and what parts cost: docs/benchmarks.md; QUICK=1: minutes, reports/bench/
	@$(in_environment) python -c 'import zfec' 2>/dev/null || pip install -q -r requirements/bench.txt || true
	@$(in_environment) python -c 'import av' 2>/dev/null || pip install -q -r requirements/video.txt || true
	@$(in_environment) evitif fetch fashion-mnist || true
	@$(in_environment) evitif bench $(if $(QUICK),--quick) $(BENCH_ARGUMENTS)

soak: setup  ## 100,000 frames at 30 % loss while edge and bridge are restarted, moved and cut off: every frame accounted for; QUICK=1: a minute
	@$(in_environment) evitif soak $(if $(QUICK),--quick) $(SOAK_ARGUMENTS)

# Without a wheel of atheris for this machine it says so and does nothing.
fuzz: setup  ## coverage-guided fuzzing of every parser and state machine, for MINUTES (16) over all of them
	@$(in_environment) python -m pip install --quiet --only-binary :all: --requirement requirements/fuzz.txt || true
	@$(in_environment) evitif fuzz $(if $(MINUTES),--minutes $(MINUTES)) $(FUZZ_ARGUMENTS)

setup:  ## the environment, unless it is there: Python packages, ROS 2 where none is sourced, the messages
	@scripts/setup.sh

build: setup  ## the colcon package in build/ and install/, as in any ROS 2 workspace
	@$(in_environment) MAKEFLAGS= colcon build --symlink-install --packages-select evitif

docs: setup  ## these pages as a site with an API reference, in reports/docs/; a dead link is an error
	@$(in_environment) python -c 'import mkdocs, material, mkdocstrings' 2>/dev/null || pip install -q -r requirements/docs.txt
	@$(in_environment) NO_MKDOCS_2_WARNING=1 mkdocs build --strict

lint: setup  ## style, types, who may import whom, and the size of the run time
	@$(in_environment) scripts/lint.sh

shell: setup  ## a shell in the environment
	@$(in_environment) exec bash

clean:  ## remove what was built and measured; keep the environment and the data
	rm -rf build install log reports .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

distclean: clean  ## remove the environment as well
	rm -rf .venv .venv-*
