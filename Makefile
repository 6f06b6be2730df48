# What a checkout can do; `make help` lists it. The work itself is in tools/.

TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
# Where the programs are built to, and where tests and the demo look for them.
export KEYNS_BIN_DIR := $(TARGET)/keyns-bin

PREFIX     ?= /usr/local
SYSCONFDIR ?= /etc
DESTDIR    ?=
# The version of systemd that the service is for; empty: the one of this machine.
SYSTEMD    ?=
# Not for the kernel's path: /sbin/request-key is taken over by `keynsd upcall`, never by `install`.
bindir     := $(DESTDIR)$(PREFIX)/bin
sbindir    := $(DESTDIR)$(PREFIX)/sbin
libexecdir := $(DESTDIR)$(PREFIX)/libexec/keyns
mandir     := $(DESTDIR)$(PREFIX)/share/man
bashdir    := $(DESTDIR)$(PREFIX)/share/bash-completion/completions
zshdir     := $(DESTDIR)$(PREFIX)/share/zsh/site-functions
fishdir    := $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
unitdir    := $(DESTDIR)$(PREFIX)/lib/systemd/system
tmpfiles   := $(DESTDIR)$(PREFIX)/lib/tmpfiles.d
confdir    := $(DESTDIR)$(SYSCONFDIR)/keyns
# The bus and polkit look nowhere else, whatever PREFIX is.
busdir     := $(DESTDIR)/usr/share/dbus-1
polkitdir  := $(DESTDIR)/usr/share/polkit-1/actions
# keyctl is among the helpers, since the name in bin belongs to the distribution.
HELPERS    := keyns-stage keyns-monitor keyns-shelter keyns-probe keyns-upcall keyns-request-key keyctl
PROGRAMS   := keyctl-ns keyns-tui keynsd $(HELPERS)
# Named after their programs and sections; bash looks for a file with the name of the command alone.
PAGES      := $(notdir $(wildcard man/*.[1-8]))
COMPLETED  := keyctl-ns keyns-tui keynsd
SOCKETS    := keynsd.socket keynsd-admin.socket keynsd-upcall.socket

.PHONY: programs
programs: ## build all programs into target/keyns-bin
	tools/requirements.sh
	tools/programs.sh "$(KEYNS_BIN_DIR)"

.PHONY: test
test: ## check format and lints, then run every test on this machine's kernel (as root)
	tools/test.sh

.PHONY: test-kernel-debug
test-kernel-debug: ## test the kernel of kernel/ while it looks for faults in itself; takes long (as root)
	tools/requirements.sh kernel qemu
	KEYNS_KERNEL_DEBUG=1 cargo test --locked -p keyns-tests --test kernel -- --include-ignored --test-threads 1

.PHONY: demo
demo: programs ## show everything on this machine, and leave it as it was (as root)
	"$(KEYNS_BIN_DIR)/keyctl-ns" demo --yes

.PHONY: bench
bench: programs ## measure what keyns costs, against what it replaces (as root)
	cargo run --release --locked -p keyns-bench

# The command reaches the shell as it is, whatever it contains.
export CMD
.PHONY: lab
lab: programs ## boot the kernel of kernel/ with this machine's files: CMD='a command', else a shell (as root)
	@if [ -n "$$CMD" ]; then cargo xtask kernel boot -- bash -c "$$CMD"; else cargo xtask kernel boot; fi

.PHONY: lab-old
lab-old: programs ## same with the oldest Linux that keyns supports, Debian's 6.1
	@if [ -n "$$CMD" ]; then tools/lab.sh bash -c "$$CMD"; else tools/lab.sh; fi

.PHONY: install
install: $(addprefix $(KEYNS_BIN_DIR)/,$(PROGRAMS)) ## install programs, manual pages, completions, units, settings: DESTDIR=, PREFIX=/usr/local
	install -d "$(bindir)" "$(sbindir)" "$(libexecdir)"
	install $(STRIP) -m 0755 "$(KEYNS_BIN_DIR)/keyctl-ns" "$(KEYNS_BIN_DIR)/keyns-tui" "$(bindir)"
	install $(STRIP) -m 0755 "$(KEYNS_BIN_DIR)/keynsd" "$(sbindir)"
	install $(STRIP) -m 0755 $(foreach helper,$(HELPERS),"$(KEYNS_BIN_DIR)/$(helper)") "$(libexecdir)"
	for page in $(PAGES); do install -D -m 0644 "man/$$page" "$(mandir)/man$${page##*.}/$$page"; done
	for name in $(COMPLETED); do \
		install -D -m 0644 "completions/$$name.bash" "$(bashdir)/$$name"; \
		install -D -m 0644 "completions/_$$name" "$(zshdir)/_$$name"; \
		install -D -m 0644 "completions/$$name.fish" "$(fishdir)/$$name.fish"; \
	done
	install -d "$(unitdir)" "$(tmpfiles)" "$(confdir)/keyns.conf.d"
	tools/units.sh "$(PREFIX)/sbin" $(SYSTEMD) >"$(unitdir)/keynsd.service"
	chmod 0644 "$(unitdir)/keynsd.service"
	install -m 0644 $(addprefix units/,$(SOCKETS)) "$(unitdir)"
	install -m 0644 units/keyns.tmpfiles "$(tmpfiles)/keyns.conf"
	for file in interfaces/org.keyns.*1.xml; do \
		install -D -m 0644 "$$file" "$(busdir)/interfaces/$${file##*/}"; \
	done
	install -D -m 0644 interfaces/org.keyns.conf "$(busdir)/system.d/org.keyns.conf"
	install -D -m 0644 interfaces/org.keyns.service "$(busdir)/system-services/org.keyns.service"
	sed -i 's|^Exec=.*|Exec=$(PREFIX)/sbin/keynsd|' "$(busdir)/system-services/org.keyns.service"
	install -D -m 0644 interfaces/org.keyns.policy "$(polkitdir)/org.keyns.policy"
	[ -e "$(confdir)/keyns.conf" ] || install -m 0644 units/keyns.conf "$(confdir)"

# Without prerequisites, so that installing as root needs no toolchain once the programs are there.
$(KEYNS_BIN_DIR)/%:
	$(MAKE) programs

.PHONY: uninstall
uninstall: ## remove what install has installed
	@if [ -z "$(DESTDIR)" ] && [ -e /var/lib/keyns/request-key.json ]; then \
		echo "error: keyns-upcall is behind /sbin/request-key; run first: keynsd upcall uninstall" >&2; \
		exit 1; \
	fi
	@tools/alternatives.sh may-uninstall "$(DESTDIR)" "$(PREFIX)"
	rm -f "$(bindir)/keyctl-ns" "$(bindir)/keyns-tui" "$(sbindir)/keynsd"
	rm -f $(foreach helper,$(HELPERS),"$(libexecdir)/$(helper)")
	if [ -d "$(libexecdir)" ]; then rmdir "$(libexecdir)"; fi
	rm -f "$(busdir)"/interfaces/org.keyns.*1.xml "$(busdir)/system.d/org.keyns.conf"
	rm -f "$(busdir)/system-services/org.keyns.service" "$(polkitdir)/org.keyns.policy"
	for page in $(PAGES); do rm -f "$(mandir)/man$${page##*.}/$$page"; done
	for name in $(COMPLETED); do \
		rm -f "$(bashdir)/$$name" "$(zshdir)/_$$name" "$(fishdir)/$$name.fish"; \
	done
	rm -f "$(unitdir)/keynsd.service" $(foreach unit,$(SOCKETS),"$(unitdir)/$(unit)") "$(tmpfiles)/keyns.conf"
	@# What somebody has written is not ours.
	if cmp -s units/keyns.conf "$(confdir)/keyns.conf"; then rm "$(confdir)/keyns.conf"; fi
	if [ -d "$(confdir)" ]; then rmdir --ignore-fail-on-non-empty "$(confdir)/keyns.conf.d" "$(confdir)"; fi

.PHONY: deb
deb: $(addprefix $(KEYNS_BIN_DIR)/,$(PROGRAMS)) ## make a Debian package in target/debian
	tools/deb.sh "$(KEYNS_BIN_DIR)"

.PHONY: install-alternatives
install-alternatives: ## have the installed keyctl called as keyctl, by a diversion (as root)
	tools/alternatives.sh install "$(DESTDIR)" "$(PREFIX)"

.PHONY: uninstall-alternatives
uninstall-alternatives: ## give the name keyctl back (as root)
	tools/alternatives.sh remove "$(DESTDIR)" "$(PREFIX)"

.PHONY: documents
documents: ## write manual pages and completions anew from the command lines
	cargo xtask man
	cargo xtask completions

.PHONY: clean
clean: ## remove what was built
	cargo clean

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 30
