# What a checkout can do; `make help` lists it. The work itself is in tools/.

TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
# Where the programs are built to, and where tests and the demo look for them.
export KEYNS_BIN_DIR := $(TARGET)/keyns-bin

PREFIX  ?= /usr/local
DESTDIR ?=
# Not for the kernel's path: /sbin/request-key is taken over by `keynsd upcall`, never by `install`.
bindir     := $(DESTDIR)$(PREFIX)/bin
sbindir    := $(DESTDIR)$(PREFIX)/sbin
libexecdir := $(DESTDIR)$(PREFIX)/libexec/keyns
# keyctl is among the helpers, since the name in bin belongs to the distribution.
HELPERS    := keyns-stage keyns-monitor keyns-shelter keyns-probe keyns-upcall keyns-request-key keyctl
PROGRAMS   := keyctl-ns keynsd $(HELPERS)

.PHONY: programs
programs: ## build all programs into target/keyns-bin
	tools/requirements.sh
	tools/programs.sh "$(KEYNS_BIN_DIR)"

.PHONY: test
test: ## check format and lints, then run every test on this machine's kernel (as root)
	tools/test.sh

.PHONY: demo
demo: programs ## show everything on this machine, and leave it as it was (as root)
	"$(KEYNS_BIN_DIR)/keyctl-ns" demo --yes

.PHONY: bench
bench: programs ## measure what keyns costs, against what it replaces (as root)
	cargo run --release --locked -p keyns-bench

# The command reaches the shell as it is, whatever it contains.
export CMD
.PHONY: lab
lab: programs ## boot another Linux with this machine's files: CMD='a command', else a shell (as root)
	@if [ -n "$$CMD" ]; then tools/lab.sh bash -c "$$CMD"; else tools/lab.sh; fi

.PHONY: install
install: $(addprefix $(KEYNS_BIN_DIR)/,$(PROGRAMS)) ## install what was built: DESTDIR=, PREFIX=/usr/local
	install -d "$(bindir)" "$(sbindir)" "$(libexecdir)"
	install -m 0755 "$(KEYNS_BIN_DIR)/keyctl-ns" "$(bindir)"
	install -m 0755 "$(KEYNS_BIN_DIR)/keynsd" "$(sbindir)"
	install -m 0755 $(foreach helper,$(HELPERS),"$(KEYNS_BIN_DIR)/$(helper)") "$(libexecdir)"

# Without prerequisites, so that installing as root needs no toolchain once the programs are there.
$(KEYNS_BIN_DIR)/%:
	$(MAKE) programs

.PHONY: uninstall
uninstall: ## remove what install has installed
	@if [ -z "$(DESTDIR)" ] && [ -e /var/lib/keyns/request-key.json ]; then \
		echo "error: keyns-upcall is behind /sbin/request-key; run first: keynsd upcall uninstall" >&2; \
		exit 1; \
	fi
	rm -f "$(bindir)/keyctl-ns" "$(sbindir)/keynsd"
	rm -f $(foreach helper,$(HELPERS),"$(libexecdir)/$(helper)")
	if [ -d "$(libexecdir)" ]; then rmdir "$(libexecdir)"; fi

.PHONY: clean
clean: ## remove what was built
	cargo clean

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 18
