//! `cargo xtask`: makes the files that are generated from the command lines, or checks them; builds
//! and boots the kernel.

use std::process::ExitCode;

use xtask::{check, generated, pictures, root};

const USAGE: &str = "\
usage: cargo xtask man           write the manual pages, man/*.[1-8]
       cargo xtask completions   write the completions of keyns-tui and keynsd
       cargo xtask pictures      draw the pictures of the dashboard, man/pictures/*.svg (as root)
       cargo xtask check         say what is missing in texts, and which files are not up to date
       cargo xtask kernel ...    build, boot or check the kernel of kernel/";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((first, rest)) = arguments.split_first()
        && first == "kernel"
    {
        return xtask::kernel::run(rest);
    }
    let directory = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["man"] => "man",
        ["completions"] => "completions",
        ["pictures"] => return draw(),
        ["check"] => return report(&check::all()),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match write(directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: cannot write {directory}/\n  cause: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(directory: &str) -> std::io::Result<()> {
    for file in generated::files()? {
        let path = root().join(&file.path);
        if file.path.starts_with(directory)
            && std::fs::read(&path).ok() != Some(file.content.clone())
        {
            std::fs::write(&path, &file.content)?;
            println!("{}", file.path.display());
        }
    }
    Ok(())
}

fn draw() -> ExitCode {
    match pictures::draw() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: cannot draw the pictures\n  cause: {error}");
            ExitCode::FAILURE
        }
    }
}

fn report(faults: &[String]) -> ExitCode {
    for fault in faults {
        eprintln!("{fault}");
    }
    ExitCode::from(u8::from(!faults.is_empty()))
}
