//! The `lakemerge` binary.

fn main() -> std::process::ExitCode {
    lakemerge::environment::set_aside();
    lakemerge::allocator::keep_few_arenas();
    lakemerge::cli::main()
}
