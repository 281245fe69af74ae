//! The team of threads that shares a loop. Work is cut into fixed tasks, each with one owner and its own output,
//! so results never depend on how many threads there are or who took which task.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs `task(i)` for every i in 0..n on rayon's threads; tasks are taken in order, one at a time.
pub fn share(n: usize, task: impl Fn(usize) + Sync) {
    let threads = rayon::current_num_threads().min(n);
    if threads <= 1 {
        return (0..n).for_each(task);
    }
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= n {
                return;
            }
            task(i);
        }
    };
    rayon::in_place_scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|_| work());
        }
        work();
    });
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
