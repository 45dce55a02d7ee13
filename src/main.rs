//! The `lakemerge` binary.

fn main() -> std::process::ExitCode {
    lakemerge::allocator::start_with_huge_pages();
    lakemerge::environment::set_aside();
    lakemerge::allocator::keep_few_arenas();
    lakemerge::cli::main()
}
