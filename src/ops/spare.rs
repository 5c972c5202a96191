//! Buffers that were used and may be used again, so that a busy loop does not allocate per packet and
//! an idle connection holds no buffer.

/// Room of a buffer that is made new, bytes: a few packets.
const NEW_BYTES: usize = 4 * 1024;
/// A larger buffer is given back to the allocator, bytes.
const LARGEST_BYTES: usize = 256 * 1024;
/// Room that is kept in all, bytes.
const KEPT_BYTES: usize = 2 * 1024 * 1024;

/// A stock of empty buffers: at most 2 MiB in all.
#[derive(Default)]
pub struct Spare {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl Spare {
    /// An empty buffer with some room.
    pub fn take(&mut self) -> Vec<u8> {
        match self.buffers.pop() {
            Some(buffer) => {
                self.bytes -= buffer.capacity();
                buffer
            }
            None => Vec::with_capacity(NEW_BYTES),
        }
    }

    /// Takes a buffer back; what is in it is forgotten.
    pub fn give(&mut self, mut buffer: Vec<u8>) {
        let room = buffer.capacity();
        if room == 0 || room > LARGEST_BYTES || self.bytes + room > KEPT_BYTES {
            return;
        }
        buffer.clear();
        self.bytes += room;
        self.buffers.push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_what_it_got_and_keeps_little() {
        let mut spare = Spare::default();
        let mut buffer = Vec::with_capacity(10_000);
        buffer.push(1);
        spare.give(buffer);
        let again = spare.take();
        assert!(again.is_empty() && again.capacity() >= 10_000);
        spare.give(Vec::with_capacity(LARGEST_BYTES + 1));
        assert_eq!(spare.take().capacity(), NEW_BYTES);
        for _ in 0..100 {
            spare.give(Vec::with_capacity(100_000));
        }
        assert!(spare.bytes <= KEPT_BYTES && spare.buffers.len() <= KEPT_BYTES / 100_000);
    }
}
