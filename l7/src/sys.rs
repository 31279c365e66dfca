//! The only `unsafe` code: memory that processes share, and what happens when its file is cut short.
//!
//! Whoever touches mapped memory behind the end of its file gets SIGBUS, which ends the process. So the
//! first mapping installs a handler. For a fault in one of our mappings it puts empty memory of the
//! process's own in the place of what is gone, and notes that the table is lost. Every other fault is
//! handed on to the handler that was there before. A program that installs a handler of its own for
//! SIGBUS after that must hand faults on, too.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Once, OnceLock};

/// Mappings at a time in one process: a recorder has one, or two while another file takes its place.
const MAPPINGS: usize = 64;

/// Where a mapping is, for the handler.
struct Place {
    /// The mapping's first address; 0 if the place is free, 1 if it is about to be used.
    start: AtomicUsize,
    end: AtomicUsize,
    lost: AtomicBool,
}

static PLACES: [Place; MAPPINGS] = [const {
    Place {
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        lost: AtomicBool::new(false),
    }
}; MAPPINGS];
static PAGE: OnceLock<usize> = OnceLock::new();
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// Memory that other processes write, too: each word by itself is whole.
pub struct SharedWords {
    words: ptr::NonNull<AtomicU64>,
    length: usize,
    place: &'static Place,
}

// SAFETY: what is shared is atomics, and the mapping stays where it is until it is dropped.
unsafe impl Send for SharedWords {}
// SAFETY: see above.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// Maps `length` words from the start of a file, or of a BPF array that can be mapped.
    ///
    /// # Errors
    /// If the kernel refuses, or if there are 64 mappings already.
    pub fn map(file: &impl AsRawFd, length: usize) -> io::Result<Self> {
        catch_faults()?;
        let place = PLACES.iter().find(|place| {
            let (free, taken) = (Ordering::AcqRel, Ordering::Relaxed);
            place.start.compare_exchange(0, 1, free, taken).is_ok()
        });
        let place = place.ok_or_else(|| io::Error::other("64 tables are open already"))?;
        let bytes = length * size_of::<u64>();
        // SAFETY: no address is asked for, so nothing that is there is touched.
        let start = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let fd = file.as_raw_fd();
            libc::mmap(ptr::null_mut(), bytes, protection, libc::MAP_SHARED, fd, 0)
        };
        let words = match start {
            libc::MAP_FAILED => None,
            start => ptr::NonNull::new(start.cast()),
        };
        let Some(words) = words else {
            let error = io::Error::last_os_error();
            place.start.store(0, Ordering::Release);
            return Err(error);
        };
        place.lost.store(false, Ordering::Relaxed);
        place.end.store(start as usize + bytes, Ordering::Relaxed);
        place.start.store(start as usize, Ordering::Release);
        Ok(Self {
            words,
            length,
            place,
        })
    }

    /// Whether the file was cut short, so that what is written goes nowhere.
    pub fn is_lost(&self) -> bool {
        self.place.lost.load(Ordering::Relaxed)
    }
}

impl Deref for SharedWords {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: the mapping begins at a page, is as long, readable and writable, and lasts as long as
        // self. Whatever is in it is a number, and nobody holds a reference to it but by atomics, which
        // allow for changes by others.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr(), self.length) }
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        self.place.start.store(0, Ordering::Release);
        // SAFETY: the mapping was made with this length, and no reference to it outlives self.
        unsafe {
            libc::munmap(self.words.as_ptr().cast(), self.length * size_of::<u64>());
        }
    }
}

/// Installs the handler for SIGBUS, once in a process.
fn catch_faults() -> io::Result<()> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| {
        // SAFETY: it asks for a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        PAGE.get_or_init(|| usize::try_from(page).unwrap_or(4096));
        let mut before = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: all of a sigaction may be zero; the call reads one, writes the other, and the handler
        // has the form that SA_SIGINFO asks for and calls nothing but what a handler may.
        unsafe {
            let mut ours: libc::sigaction = MaybeUninit::zeroed().assume_init();
            ours.sa_sigaction = on_fault as *const () as usize;
            ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&mut ours.sa_mask);
            if libc::sigaction(libc::SIGBUS, &ours, before.as_mut_ptr()) != 0 {
                result = Err(io::Error::last_os_error());
                return;
            }
            BEFORE.get_or_init(|| before.assume_init());
        }
    });
    result
}

/// Runs on the thread that has touched what is not there, and on no other.
extern "C" fn on_fault(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel hands over a siginfo. Of a fault it has an address; a signal that a process has
    // sent has something else there, which is below all mappings.
    let address = unsafe { (*info).si_addr() } as usize;
    let page = PAGE.get().copied().unwrap_or(4096);
    for place in &PLACES {
        let start = place.start.load(Ordering::Acquire);
        let end = place.end.load(Ordering::Relaxed);
        if start <= 1 || address < start || address >= end {
            continue;
        }
        let from = address & !(page - 1);
        place.lost.store(true, Ordering::Relaxed);
        // SAFETY: these pages are of a mapping of ours, of which the rest of the file is gone; mmap is a
        // system call and takes no lock of the process.
        let mapped = unsafe {
            libc::mmap(
                from as *mut libc::c_void,
                end - from,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                -1,
                0,
            )
        };
        if mapped != libc::MAP_FAILED {
            return;
        }
    }
    // SAFETY: what was there before gets what it would have got; where that was nothing, the fault comes
    // again and ends the process, as it would have without us.
    unsafe {
        match BEFORE.get() {
            Some(before) if before.sa_sigaction > libc::SIG_IGN => {
                if before.sa_flags & libc::SA_SIGINFO != 0 {
                    type Handler = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);
                    let handler: Handler = std::mem::transmute(before.sa_sigaction);
                    handler(signal, info, context);
                } else {
                    let handler: extern "C" fn(i32) = std::mem::transmute(before.sa_sigaction);
                    handler(signal);
                }
            }
            _ => {
                libc::signal(libc::SIGBUS, libc::SIG_DFL);
            }
        }
    }
}

/// Takes room for `bytes` bytes in a file now: memory that can't be had later would end the process
/// that writes to the file.
pub fn reserve(file: &File, bytes: usize) -> io::Result<()> {
    let bytes = libc::off_t::try_from(bytes).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, bytes) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Whether a folder lies on a bpffs.
pub fn is_bpffs(folder: &std::path::Path) -> io::Result<bool> {
    use std::os::unix::ffi::OsStrExt;

    /// The magic number of bpffs, from linux/magic.h.
    const BPF_FS_MAGIC: libc::c_long = 0xcafe_4a11;
    let path = std::ffi::CString::new(folder.as_os_str().as_bytes())?;
    let mut stat = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the path is NUL-terminated, and the call writes a whole statfs or fails.
    unsafe {
        if libc::statfs(path.as_ptr(), stat.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(stat.assume_init().f_type as libc::c_long == BPF_FS_MAGIC)
    }
}
