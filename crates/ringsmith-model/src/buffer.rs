//! A buffer of f32 that starts on a cache line and, where it is large, asks for huge pages: a training step walks
//! through strided megabytes, and four-kilobyte pages would make it wait for page tables.

use memmap2::MmapMut;
use std::ops::{Deref, DerefMut};

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Floats from which a buffer has pages of its own (1 MiB).
const LARGE: usize = 1 << 18;

enum Memory {
    Lines(Vec<Line>),
    Pages(MmapMut),
}

/// f32 values on 64-byte lines; grows, never shrinks, keeps its contents.
pub struct Buffer {
    memory: Memory,
    /// Floats there is room for.
    room: usize,
    len: usize,
}

impl Default for Buffer {
    fn default() -> Buffer {
        Buffer { memory: Memory::Lines(Vec::new()), room: 0, len: 0 }
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Buffer {
        let mut copy = Buffer::zeros(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl Buffer {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Buffer {
        let lines = |n: usize| Memory::Lines(vec![Line([0.0; 16]); n]);
        let room = len.next_multiple_of(16);
        if room < LARGE {
            return Buffer { memory: lines(room / 16), room, len };
        }
        match MmapMut::map_anon(room * size_of::<f32>()) {
            Ok(pages) => {
                // A wish; without huge pages the buffer is only slower.
                #[cfg(target_os = "linux")]
                let _ = pages.advise(memmap2::Advice::HugePage);
                Buffer { memory: Memory::Pages(pages), room, len }
            }
            Err(_) => Buffer { memory: lines(room / 16), room, len },
        }
    }

    /// Makes the buffer `len` long. What was there stays; what is new is 0 or left over from before.
    pub fn resize(&mut self, len: usize) {
        if len > self.room {
            let mut larger = Buffer::zeros(len);
            larger[..self.len].copy_from_slice(self);
            *self = larger;
        }
        self.len = len;
    }

    fn start(&self) -> *const f32 {
        match &self.memory {
            Memory::Lines(lines) => lines.as_ptr().cast(),
            Memory::Pages(pages) => pages.as_ptr().cast(),
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: the memory holds at least `len` initialised floats, aligned to a line or a page.
        unsafe { std::slice::from_raw_parts(self.start(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        let start = match &mut self.memory {
            Memory::Lines(lines) => lines.as_mut_ptr().cast(),
            Memory::Pages(pages) => pages.as_mut_ptr().cast(),
        };
        // SAFETY: as in `deref`, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(start, self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growing_keeps_what_was_there() {
        let mut buffer = Buffer::zeros(3);
        buffer.copy_from_slice(&[1.0, 2.0, 3.0]);
        for len in [100, LARGE + 5, 2 * LARGE, 7] {
            buffer.resize(len);
            assert_eq!((buffer.len(), &buffer[..3]), (len, &[1.0, 2.0, 3.0][..]));
            assert_eq!(buffer.as_ptr() as usize % 64, 0);
            assert_eq!(buffer.clone()[..3], buffer[..3]);
        }
    }
}
