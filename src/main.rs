//! The `lakemerge` binary.

fn main() -> std::process::ExitCode {
    keep_few_arenas();
    lakemerge::cli::main()
}

/// Lets all threads allocate from as many arenas as there are cores: glibc would give each of the many threads that wait
/// for files one of its own, and every arena keeps the most that was ever taken from it.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn keep_few_arenas() {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get);
    // SAFETY: mallopt takes two numbers and may be called at any time; here no other thread runs yet.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, cores.try_into().unwrap_or(libc::c_int::MAX)) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn keep_few_arenas() {}
