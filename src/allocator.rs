//! What the process takes of the system's memory, beside what is counted: the C library's allocator keeps much of what
//! was given back, in pieces too small to be used again.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// True where buffers are [returned at once](return_at_once).
static SCARCE: AtomicBool = AtomicBool::new(false);

/// True while the process takes nearly as much as it may, however much was given back.
static TIGHT: AtomicBool = AtomicBool::new(false);

/// How often it is looked at.
const INTERVAL: Duration = Duration::from_millis(10);

/// Above so many sixteenths of the limit what was given back is returned.
const MUCH: usize = 10;
/// Above as many it is [tight](is_tight) thereafter.
const NEARLY_ALL: usize = 12;
/// What returning left is not tried again before there is more by this part of the limit.
const WORTHWHILE: usize = 64;

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

/// Half of what is held at once where memory is ample, where it is scarce; at least one.
pub fn fewer(ample: usize) -> usize {
    let count = if memory_is_scarce() { ample / 2 } else { ample };
    count.max(1)
}

pub fn memory_is_scarce() -> bool {
    SCARCE.load(Ordering::Relaxed)
}

/// True while nearly all of the limit that is [watched](watch) is taken: time to spill.
pub fn is_tight() -> bool {
    TIGHT.load(Ordering::Relaxed)
}

/// Watches from now on that the process takes no more than `limit` bytes: well before, it returns to the system what the
/// allocator keeps, and where that does not help enough it [says so](is_tight).
pub fn watch(limit: usize) {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        let Ok(told) = File::open("/proc/self/statm") else { return };
        let watch = move || {
            let mut tried = 0;
            while let Some(taken) = resident(&told) {
                if taken > limit / 16 * MUCH && taken > tried + limit / WORTHWHILE {
                    return_all();
                    tried = resident(&told).unwrap_or_default();
                } else if taken < tried {
                    tried = taken;
                }
                TIGHT.store(taken.min(tried) > limit / 16 * NEARLY_ALL, Ordering::Relaxed);
                std::thread::sleep(INTERVAL);
            }
        };
        // without it more is taken, and nothing is wrong
        let _ = std::thread::Builder::new().name("memory".into()).spawn(watch);
    });
}

/// Bytes of memory that the process takes, as `statm` tells. Nothing is allocated: a thread that does takes the arena of
/// another one.
fn resident(statm: &File) -> Option<usize> {
    let mut text = [0; 128];
    let length = statm.read_at(&mut text, 0).ok()?;
    let pages = str::from_utf8(&text[..length]).ok()?.split(' ').nth(1)?;
    pages.parse().ok().map(|pages: usize| pages * page())
}

/// Bytes of a page of memory.
fn page() -> usize {
    // SAFETY: sysconf may be called at any time.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).unwrap_or(4096)
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
