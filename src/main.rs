//! The `moorline` program.

fn main() -> std::process::ExitCode {
    moorline::cli::run()
}
