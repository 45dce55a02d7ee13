//! The `lakemerge` binary.

fn main() -> std::process::ExitCode {
    lakemerge::cli::main()
}
