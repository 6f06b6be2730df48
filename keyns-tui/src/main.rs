//! `keyns-tui`: keys, containers and upcalls on one screen.

fn main() -> std::process::ExitCode {
    keyns_tui::run::main()
}
