//! An allocator for programs that live for a tenth of a millisecond.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

const SIZE: usize = 64 * 1024;
/// Larger pieces are few and long, and would use up the arena.
const LARGEST: usize = 4096;

/// Hands out small pieces of a fixed area and never takes them back; everything else, and what no
/// longer fits, comes from the system's allocator.
///
/// Setting up that one takes four system calls and as many page faults, more than the rest of what
/// `keyns-upcall` does for a request of the host.
pub struct Arena {
    area: UnsafeCell<[u8; SIZE]>,
    used: AtomicUsize,
}

// Safety: the area is only handed out in pieces that do not overlap, because `used` is changed
// atomically before a piece is.
unsafe impl Sync for Arena {}

impl Arena {
    /// An empty arena; it lies in zero pages until it is used.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            area: UnsafeCell::new([0; SIZE]),
            used: AtomicUsize::new(0),
        }
    }

    fn take(&self, layout: Layout) -> Option<*mut u8> {
        let start = self.area.get().cast::<u8>();
        let place = |used: usize| {
            let address = start.addr().checked_add(used)?;
            let aligned = address.checked_next_multiple_of(layout.align())? - start.addr();
            let end = aligned
                .checked_add(layout.size())
                .filter(|end| *end <= SIZE)?;
            Some((aligned, end))
        };
        let end = |used| place(used).map(|(_, end)| end);
        let former = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, end)
            .ok()?;
        // Safety: `place` said that the piece lies within the area.
        place(former).map(|(offset, _)| unsafe { start.add(offset) })
    }

    fn holds(&self, piece: *mut u8) -> bool {
        let start = self.area.get().addr();
        (start..start + SIZE).contains(&piece.addr())
    }
}

impl Default for Arena {
    fn default() -> Self {
        Self::new()
    }
}

// Safety: pieces of the arena are aligned, large enough, disjoint and live for ever; all others are
// the system allocator's and go back to it.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let small = (layout.size() <= LARGEST)
            .then(|| self.take(layout))
            .flatten();
        // Safety: the caller keeps the contract of `alloc`.
        small.unwrap_or_else(|| unsafe { System.alloc(layout) })
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        if !self.holds(piece) {
            // Safety: what is not in the area came from the system allocator with this layout.
            unsafe { System.dealloc(piece, layout) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_aligned_and_apart_and_overflow_into_the_system() {
        let arena = Box::leak(Box::new(Arena::new()));
        let mut pieces: Vec<(usize, usize)> = Vec::new();
        let mut outside = 0;
        for n in 0..200usize {
            let layout = Layout::from_size_align(1 + n * 37 % 5000, 1 << (n % 7)).unwrap();
            // Safety: the layout is valid and not empty.
            let piece = unsafe { arena.alloc(layout) };
            assert_eq!(piece.addr() % layout.align(), 0);
            // Safety: the piece has that many bytes.
            unsafe { piece.write_bytes(0xaa, layout.size()) };
            if arena.holds(piece) {
                assert!(layout.size() <= LARGEST);
                pieces.push((piece.addr(), piece.addr() + layout.size()));
            } else {
                outside += 1;
                // Safety: allocated above with this layout.
                unsafe { arena.dealloc(piece, layout) };
            }
        }
        pieces.sort_unstable();
        assert!(pieces.windows(2).all(|w| w[0].1 <= w[1].0), "{pieces:?}");
        assert!(pieces.len() > 10 && outside > 10);
    }
}
