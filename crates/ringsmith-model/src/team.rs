//! The team of threads that shares a loop. Work is cut into fixed tasks, each with one owner and its own output,
//! so results never depend on how many threads there are or who took which task.
//!
//! A training step is some fifty short loops, so what counts is how fast a loop starts and ends, and that a thread
//! meets the rows again that are in its cache. Hence threads of our own: they wait actively for a moment before
//! they sleep, and each begins with its own stretch of the tasks before it helps the others.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, TryLockError};
use std::thread::{self, JoinHandle};

/// Threads that work on one loop at a time.
pub struct Team {
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<()>>,
    /// Held while a loop runs; whoever finds it held (another loop, or a loop within a task) works alone.
    busy: Mutex<()>,
}

type Work<'a> = dyn Fn(usize) + Sync + 'a;

struct Shared {
    /// Goes up with every loop; the threads watch it.
    epoch: AtomicU64,
    work: Mutex<Option<&'static Work<'static>>>,
    running: AtomicUsize,
    asleep: Vec<AtomicBool>,
    panicked: AtomicBool,
    end: AtomicBool,
}

/// Rounds of active waiting, some ten microseconds, before a thread sleeps or gives way.
const PATIENCE: u32 = 4_000;

impl Team {
    /// A team of `threads`, the calling thread among them.
    pub fn new(threads: usize) -> Team {
        let others = threads.max(1) - 1;
        let shared = Arc::new(Shared {
            epoch: AtomicU64::new(0),
            work: Mutex::new(None),
            running: AtomicUsize::new(0),
            asleep: (0..others).map(|_| AtomicBool::new(false)).collect(),
            panicked: AtomicBool::new(false),
            end: AtomicBool::new(false),
        });
        let spawn = |n: usize| {
            let shared = shared.clone();
            thread::Builder::new()
                .name(format!("team-{}", n + 1))
                .spawn(move || shared.serve(n))
                .expect("a thread")
        };
        let handles = (0..others).map(spawn).collect();
        Team { shared, handles, busy: Mutex::new(()) }
    }

    /// Threads in the team.
    pub fn threads(&self) -> usize {
        self.handles.len() + 1
    }

    /// Makes this the team of every loop that `work` starts from this thread.
    pub fn install<R>(self: &Arc<Team>, work: impl FnOnce() -> R) -> R {
        let before = CURRENT.replace(Some(self.clone()));
        let result = catch_unwind(AssertUnwindSafe(work));
        CURRENT.set(before);
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }

    fn share(&self, n: usize, task: &(dyn Fn(usize) + Sync)) {
        let threads = self.threads().min(n);
        let _free = match self.busy.try_lock() {
            Ok(free) if threads > 1 => free,
            // A task panicked in an earlier loop; that loop is over all the same.
            Err(TryLockError::Poisoned(free)) if threads > 1 => free.into_inner(),
            _ => return (0..n).for_each(task),
        };
        let stretches: Vec<Stretch> = (0..threads)
            .map(|w| Stretch { next: AtomicUsize::new(w * n / threads), end: (w + 1) * n / threads })
            .collect();
        let work = |worker: usize| {
            for other in 0..threads {
                let stretch = &stretches[(worker + other) % threads];
                loop {
                    let i = stretch.next.fetch_add(1, Ordering::Relaxed);
                    if i >= stretch.end {
                        break;
                    }
                    task(i);
                }
            }
        };
        self.shared.run(&work, &self.handles);
    }
}

/// One thread's tasks; others take from it when theirs are done.
#[repr(align(128))]
struct Stretch {
    next: AtomicUsize,
    end: usize,
}

impl Shared {
    fn run(&self, work: &Work<'_>, handles: &[JoinHandle<()>]) {
        // SAFETY: the reference is gone from `work` and from every thread before this function returns, also when
        // a task panics.
        let forever = unsafe { std::mem::transmute::<&Work<'_>, &'static Work<'static>>(work) };
        *self.work.lock().expect("never poisoned") = Some(forever);
        self.running.store(handles.len(), Ordering::Relaxed);
        self.epoch.fetch_add(1, Ordering::SeqCst);
        for (asleep, handle) in self.asleep.iter().zip(handles) {
            if asleep.load(Ordering::SeqCst) {
                handle.thread().unpark();
            }
        }
        let mine = catch_unwind(AssertUnwindSafe(|| work(0)));
        let mut waited = 0;
        while self.running.load(Ordering::Acquire) > 0 {
            waited += 1;
            if waited < PATIENCE { std::hint::spin_loop() } else { thread::yield_now() }
        }
        *self.work.lock().expect("never poisoned") = None;
        if let Err(panic) = mine {
            resume_unwind(panic);
        }
        assert!(!self.panicked.swap(false, Ordering::Relaxed), "a task panicked on another thread");
    }

    fn serve(&self, n: usize) {
        let mut seen = 0;
        loop {
            let mut waited = 0;
            while self.epoch.load(Ordering::Acquire) == seen {
                waited += 1;
                if waited < PATIENCE {
                    std::hint::spin_loop();
                    continue;
                }
                self.asleep[n].store(true, Ordering::SeqCst);
                if self.epoch.load(Ordering::SeqCst) == seen {
                    thread::park();
                }
                self.asleep[n].store(false, Ordering::SeqCst);
            }
            seen += 1;
            if self.end.load(Ordering::Acquire) {
                return;
            }
            let work = *self.work.lock().expect("never poisoned");
            let work = work.expect("a loop has work");
            if catch_unwind(AssertUnwindSafe(|| work(n + 1))).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.running.fetch_sub(1, Ordering::Release);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.end.store(true, Ordering::Release);
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        for handle in self.handles.drain(..) {
            handle.thread().unpark();
            // A thread that panicked has already said so.
            let _ = handle.join();
        }
    }
}

static DEFAULT: OnceLock<Arc<Team>> = OnceLock::new();

thread_local! {
    static CURRENT: RefCell<Option<Arc<Team>>> = const { RefCell::new(None) };
}

/// Sets the size of the process's team. Does nothing once a loop has run.
pub fn set_threads(threads: usize) {
    let _ = DEFAULT.set(Arc::new(Team::new(threads)));
}

fn current() -> Arc<Team> {
    CURRENT.with_borrow(Clone::clone).unwrap_or_else(|| {
        let all = || Arc::new(Team::new(thread::available_parallelism().map_or(1, usize::from)));
        DEFAULT.get_or_init(all).clone()
    })
}

/// Runs `task(i)` for every i in 0..n on the team.
pub fn share(n: usize, task: impl Fn(usize) + Sync) {
    current().share(n, &task);
}

/// Runs `task(range)` over 0..n in blocks of `block`.
pub fn share_blocks(n: usize, block: usize, task: impl Fn(Range<usize>) + Sync) {
    share(n.div_ceil(block), |i| task(i * block..((i + 1) * block).min(n)));
}

/// A buffer whose disjoint parts are written by different tasks.
#[derive(Clone, Copy)]
pub struct Parts<'a, T> {
    start: *mut T,
    len: usize,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: access goes through `part`, whose caller promises that parts in use at the same time are disjoint.
unsafe impl<T: Send> Send for Parts<'_, T> {}
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    pub fn new(buffer: &'a mut [T]) -> Parts<'a, T> {
        Parts { start: buffer.as_mut_ptr(), len: buffer.len(), life: PhantomData }
    }

    /// The part `range`.
    ///
    /// # Safety
    /// No other task may hold an overlapping part at the same time.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "part {range:?} of {}", self.len);
        // SAFETY: in bounds (checked above), disjoint by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }

    /// Pointer to element `i`, for kernels that write strided blocks.
    ///
    /// # Safety
    /// As for [`Parts::part`], for every element written through the pointer.
    pub unsafe fn at(&self, i: usize) -> *mut T {
        assert!(i <= self.len);
        // SAFETY: in bounds or one past the end.
        unsafe { self.start.add(i) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once() {
        for threads in [1, 2, 5] {
            let team = Arc::new(Team::new(threads));
            team.install(|| {
                for n in (0..200).chain([10_000]) {
                    let count: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
                    share(n, |i| {
                        count[i].fetch_add(1, Ordering::Relaxed);
                        // A loop within a task works alone.
                        share(2, |_| ());
                    });
                    assert!(count.iter().all(|c| c.load(Ordering::Relaxed) == 1));
                }
            });
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_team_goes_on() {
        let team = Arc::new(Team::new(3));
        team.install(|| {
            for _ in 0..20 {
                assert!(catch_unwind(|| share(50, |i| assert!(i != 37))).is_err());
                share(50, |_| ());
            }
        });
    }
}
