//! The records of the raw QUIC peer: [u32 LE length of the rest][u64 LE id][payload].
use bytes::{BufMut, Bytes, BytesMut};

pub const HEAD: usize = 12;

pub fn put_head(out: &mut BytesMut, id: u64, payload: usize) {
    out.put_u32_le((8 + payload) as u32);
    out.put_u64_le(id);
}

/// Counts records in a stream of chunks without copying their payload.
#[derive(Default)]
pub struct Scan {
    head: [u8; HEAD],
    have: usize,
    skip: usize,
    pub records: usize,
    pub id_sum: u64,
}

impl Scan {
    pub fn feed(&mut self, mut b: &[u8]) {
        while !b.is_empty() {
            if self.skip > 0 {
                let n = self.skip.min(b.len());
                self.skip -= n;
                b = &b[n..];
                if self.skip == 0 {
                    self.records += 1;
                }
                continue;
            }
            let n = (HEAD - self.have).min(b.len());
            self.head[self.have..self.have + n].copy_from_slice(&b[..n]);
            self.have += n;
            b = &b[n..];
            if self.have == HEAD {
                self.have = 0;
                let len = u32::from_le_bytes(self.head[..4].try_into().unwrap()) as usize;
                self.id_sum = self
                    .id_sum
                    .wrapping_add(u64::from_le_bytes(self.head[4..].try_into().unwrap()));
                self.skip = len - 8;
                if self.skip == 0 {
                    self.records += 1;
                }
            }
        }
    }
}

/// Cuts whole records (header included) out of a stream of chunks.
#[derive(Default)]
pub struct Cut {
    acc: BytesMut,
}

impl Cut {
    pub fn feed(&mut self, b: &[u8]) {
        self.acc.extend_from_slice(b);
    }
    pub fn next(&mut self) -> Option<Bytes> {
        let len = u32::from_le_bytes(self.acc.get(..4)?.try_into().unwrap()) as usize;
        if self.acc.len() < 4 + len {
            return None;
        }
        Some(self.acc.split_to(4 + len).freeze())
    }
}

pub fn id_sum(n: usize) -> u64 {
    (0..n as u64).sum()
}
