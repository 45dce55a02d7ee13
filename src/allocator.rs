//! What the C library's allocator keeps of memory that was given back.

use std::sync::atomic::{AtomicBool, Ordering};

/// True where buffers are [returned at once](return_at_once).
static SCARCE: AtomicBool = AtomicBool::new(false);

/// Lets all threads allocate from as many arenas as there are cores: glibc would give each of the many threads that wait
/// for files one of its own, and every arena keeps the most that was ever taken from it. To be called before there are
/// threads.
pub fn keep_few_arenas() {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get);
    set(Parameter::Arenas, cores);
}

/// Gives buffers of at least so many bytes back to the system as soon as they are dropped.
///
/// glibc stops doing so for buffers as large as those that were dropped before, up to 32 MB, and then keeps about as much
/// again as a run takes at its most. To give them back costs time (the system clears what it hands out), so it is for
/// runs that have little.
pub fn return_at_once(bytes: usize) {
    SCARCE.store(true, Ordering::Relaxed);
    set(Parameter::LeastMapped, bytes);
}

pub fn memory_is_scarce() -> bool {
    SCARCE.load(Ordering::Relaxed)
}

/// As [`return_all`], where memory is scarce: after work that took many small buffers, such as those of the columns of a
/// row group, of which the allocator keeps as much again.
pub fn return_if_scarce() {
    if memory_is_scarce() {
        return_all();
    }
}

/// Gives back to the system what the allocator has kept so far, in a few milliseconds.
pub fn return_all() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim may be called at any time.
    unsafe {
        libc::malloc_trim(0)
    };
}

enum Parameter {
    Arenas,
    LeastMapped,
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn set(parameter: Parameter, value: usize) {
    let parameter = match parameter {
        Parameter::Arenas => libc::M_ARENA_MAX,
        Parameter::LeastMapped => libc::M_MMAP_THRESHOLD,
    };
    // SAFETY: mallopt takes two numbers and may be called at any time.
    unsafe { libc::mallopt(parameter, value.try_into().unwrap_or(libc::c_int::MAX)) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn set(_: Parameter, _: usize) {}
