# The front door; meson does the building. "make help" lists what there is.

BUILD   ?= build
PREFIX  ?= /usr/local
DESTDIR ?=

# ninja and pytest do what can be done at once; the goals given here follow each other.
.NOTPARALLEL:
.PHONY: all torture demo shell check check-fast bench fuzz coverage install clean help setup guest

# Does nothing, quickly, once all is there.
all: | $(BUILD)/build.ninja
	@ninja -C $(BUILD) $(if $(V),-v)

$(BUILD)/build.ninja:
	@tools/setup build
	@meson setup $(BUILD)

# Everything that running, not only building, needs: QEMU, a guest, the tests' packages.
setup:
	@tools/setup

# Without the tests' tools, which take a minute.
guest:
	@tools/setup guest

demo: guest all
	@tools/demo

shell: guest all
	@tools/shell

check: setup
	@tests/run all

check-fast: setup
	@tests/run fast

bench: guest all
	@bench/run

# Which lines of the floors that peers talk to no test reaches.
coverage: setup
	@tests/coverage --missing

# TARGET is one of those in tests/fuzz/meson.build, or all; TIME is in seconds, for each.
fuzz:
	@tests/fuzz/run $(or $(TARGET),all) $(or $(TIME),60)

# The folders are asked for once more here, since a build folder remembers its prefix.
install: all
	@meson configure $(BUILD) -Dprefix=$(abspath $(PREFIX))
	@ninja -C $(BUILD)
	@meson install -C $(BUILD) --no-rebuild $(if $(DESTDIR),--destdir $(abspath $(DESTDIR)))

KILLS ?= 10000
SEED  ?= 1
ifdef GUEST
torture: all
	@KILLS=$(KILLS) SEED=$(SEED) OUTBOARD=$(abspath $(BUILD))/outboard /usr/bin/python3 -m pytest -q -s --timeout=0 \
		"tests/guest/test_recovery.py::test_disk[]"
else
torture: all
	@OUTBOARD=$(BUILD)/outboard $(BUILD)/tests/recovery/torture -k $(KILLS) -s $(SEED) $(TORTURE) \
		2> $(BUILD)/torture.log || { tail -n 5 $(BUILD)/torture.log; exit 1; }
endif

clean:
	rm -rf build build-*

help:
	@echo "make              build; the program is $(BUILD)/outboard"
	@echo "make demo         boot Linux in QEMU with its console and its disk served by other processes"
	@echo "make shell        the same console, for you to type on"
	@echo "make check        all tests (the first time, fetches QEMU and a guest into .deps)"
	@echo "make check-fast   tests that need no guest"
	@echo "make bench        measure, print a table, write a JSON file"
	@echo "make torture      kill the worker of a busy disk over and over: KILLS=10000 SEED=1; with GUEST=1 fio's, in a guest"
	@echo "make fuzz         look for inputs that break something: TARGET=server|client|... TIME=SECONDS"
	@echo "make coverage     lines that units, protocol tests and fuzz corpora reach, and do not"
	@echo "make install      below PREFIX=$(PREFIX), itself below DESTDIR=$(DESTDIR)"
	@echo "make clean        remove what was built (not .deps: that is what was fetched)"
	@echo "make V=1          show the compiler's command lines"
