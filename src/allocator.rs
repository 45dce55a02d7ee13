//! What the process takes of the system's memory, beside what is counted: the C library's allocator keeps much of what
//! was given back, in pieces too small to be used again. And how it takes it: in huge pages while tables are worked on, since
//! the system takes a fifth of that time to hand out small ones.

use std::env;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

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

/// What glibc reads where a process starts, and not later.
const TUNABLES: &str = "GLIBC_TUNABLES";
/// Asks the system for huge pages, which most give only who asks (glibc manual, *Memory Allocation Tunables*).
const HUGE_PAGES: &str = "glibc.malloc.hugetlb=1";
/// An arena takes as many bytes at once: huge pages are asked for only when it begins, and it has no more.
const ARENA: usize = 64 << 20;
/// What one takes at once where memory is scarce, as glibc would.
const LITTLE: usize = 128 << 10;

/// Starts the program again, in the same process, so that its allocator asks for huge pages. To be called first of all.
/// Where that is not possible, or somebody has set what glibc reads, it goes on as it is.
pub fn start_with_huge_pages() {
    match env::var_os(TUNABLES) {
        Some(tunables) if tunables == HUGE_PAGES => {
            set_huge_pages(false);
            *HELD.lock() = Some(0);
        }
        Some(_) => {}
        None => start_again(),
    }
}

fn start_again() {
    let mut arguments = env::args_os();
    let (Ok(program), Some(name)) = (env::current_exe(), arguments.next()) else { return };
    // what runs may be a loader that was given the program
    if cfg!(all(target_os = "linux", target_env = "gnu")) && program.file_name() == Path::new(&name).file_name() {
        // comes back only if it failed
        let _ = Command::new(program).arg0(name).args(arguments).env(TUNABLES, HUGE_PAGES).exec();
    }
}

/// Huge pages for what is touched while any is held, if the allocator asks for them and memory is ample. What holds many
/// buffers of which it uses the beginnings, as reading a long log does, would take several times the memory with them.
pub struct HugePages(());

/// How many are held; `None` where they are not ours to allow.
static HELD: Mutex<Option<usize>> = Mutex::new(None);

impl HugePages {
    pub fn hold() -> HugePages {
        HugePages::count(|held| held + 1);
        HugePages(())
    }

    fn count(change: fn(usize) -> usize) {
        let mut all = HELD.lock();
        if let Some(held) = &mut *all {
            let before = std::mem::replace(held, change(*held));
            if (before == 0) != (*held == 0) && !memory_is_scarce() {
                set_huge_pages(*held > 0);
            }
        }
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        HugePages::count(|held| held - 1);
    }
}

fn set_huge_pages(allowed: bool) {
    #[cfg(target_os = "linux")]
    // SAFETY: it concerns pages that are handed out from now on, and nothing else.
    unsafe {
        libc::prctl(libc::PR_SET_THP_DISABLE, libc::c_ulong::from(!allowed), 0, 0, 0)
    };
}

/// Lets all threads allocate from as many arenas as there are cores: glibc would give each of the many threads that wait
/// for files one of its own, and every arena keeps the most that was ever taken from it. To be called before there are
/// threads.
pub fn keep_few_arenas() {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get);
    set(Parameter::Arenas, cores);
    set(Parameter::TakenAtOnce, ARENA);
}

/// Gives buffers of at least so many bytes back to the system as soon as they are dropped.
///
/// glibc stops doing so for buffers as large as those that were dropped before, up to 32 MB, and then keeps about as much
/// again as a run takes at its most. To give them back costs time (the system clears what it hands out), so it is for
/// runs that have little. They have no [`HugePages`] either.
pub fn return_at_once(bytes: usize) {
    SCARCE.store(true, Ordering::Relaxed);
    set(Parameter::LeastMapped, bytes);
    set(Parameter::TakenAtOnce, LITTLE);
}

/// Half of what is held at once where memory is ample, where it is scarce.
pub fn fewer(ample: usize) -> usize {
    if memory_is_scarce() { ample / 2 } else { ample }
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
    TakenAtOnce,
    LeastMapped,
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn set(parameter: Parameter, value: usize) {
    let parameter = match parameter {
        Parameter::Arenas => libc::M_ARENA_MAX,
        Parameter::TakenAtOnce => libc::M_TOP_PAD,
        Parameter::LeastMapped => libc::M_MMAP_THRESHOLD,
    };
    // SAFETY: mallopt takes two numbers and may be called at any time.
    unsafe { libc::mallopt(parameter, value.try_into().unwrap_or(libc::c_int::MAX)) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn set(_: Parameter, _: usize) {}
