# SPDX-License-Identifier: Apache-2.0
# A thin face over meson and ninja; docs/HACKING.md tells more.

BUILD        ?= build
MESON_ARGS   ?=
PREFIX       ?= /usr/local
LANES        ?= normal,sanitize,tsan,clang
FUZZ_SECONDS ?= 60
export FUZZ_SECONDS

.PHONY: all setup demo test bench lint format fuzz install clean help

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

# silent and quick when all packages are there
setup:
	@.ci/setup

$(BUILD)/build.ninja: | setup
	meson setup $(BUILD) --prefix $(PREFIX) $(MESON_ARGS)

demo: all
	@tests/demo/run $(BUILD)

test: setup
	@python3 tests/support/run-tests.py --build $(BUILD) --lanes $(LANES)

# BENCH='--only 1,4 --runs 5': see BENCH=--help
bench: all
	@PYTHONDONTWRITEBYTECODE=1 python3 bench/suite/suite.py --build $(BUILD) $(BENCH)

format:
	git ls-files -z -- "*.c" "*.h" | xargs -0 clang-format -i

lint: all
	@r=0; ninja -C $(BUILD) --quiet lint-tidy || r=1; \
	ninja -C $(BUILD) --quiet lint-format || r=1; exit $$r

fuzz: setup
	@tests/fuzz/run

install: all
	meson install -C $(BUILD) --no-rebuild

clean:
	rm -rf $(BUILD) $(BUILD)-sanitize $(BUILD)-tsan $(BUILD)-clang build-fuzz

help:
	@echo 'make            build the programs into $(BUILD)/ (installs missing Debian packages when root)'
	@echo 'make demo       a feed with losses through the bus and back, checked; see README.md'
	@echo 'make test       all tests, in four builds; LANES=normal for the quick one'
	@echo 'make bench      measure every budget beside the raw limit of this machine, 71 minutes; nothing'
	@echo '                else should run meanwhile. BENCH="--only 1,4 --quick" for a part, BENCH=--help'
	@echo 'make lint       clang-tidy and clang-format; fails on findings'
	@echo 'make format     let clang-format settle the layout of all C files'
	@echo 'make fuzz       each fuzz target for FUZZ_SECONDS ($(FUZZ_SECONDS))'
	@echo 'make install    to PREFIX ($(PREFIX)) below DESTDIR'
	@echo 'make clean      remove what was built'
	@echo
	@echo 'BUILD=dir       build there; MESON_ARGS=... for a new build, e.g. -Dmode=developer'
