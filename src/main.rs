//! The `lakemerge` binary.

fn main() -> std::process::ExitCode {
    lakemerge::allocator::keep_few_arenas();
    lakemerge::cli::main()
}
