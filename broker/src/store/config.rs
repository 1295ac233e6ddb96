//! The keys of `[store]`, their defaults and their bounds.
//!
//! Only numbers: where the data lies is the broker's `data_dir`.

use serde::{Deserialize, Serialize};

/// How the store writes. The defaults are meant to be left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The journal on the disk, in bytes, at most; 1 GiB. When it is full of what is not yet in
    /// its final place, commits wait. At least four groups.
    pub journal_bytes: u64,
    /// One file of the journal, in bytes; 32 MiB. They are filled ahead and used again.
    pub journal_file_bytes: u64,
    /// A group, the bytes that one sync makes durable, in bytes; 4 MiB.
    pub group_bytes: usize,
    /// Records in a group; 4,096.
    pub group_records: usize,
    /// Records of one commit; 2,048. Their bytes may be half a group's.
    pub commit_records: usize,
    /// One record, in bytes; 17 MiB.
    pub record_bytes: usize,
    /// Records larger than this are written to a file of their stream at once, and the journal
    /// only names them; 64 KiB.
    pub large_bytes: usize,
    /// A segment, the files that streams lie in, in bytes; 64 MiB. What is trimmed is given back a
    /// segment at a time.
    pub segment_bytes: u64,
    /// Commits that wait to be written, in bytes of their records; 64 MiB. Beyond it committing
    /// waits.
    pub queue_bytes: u32,
    /// Records that are durable in the journal and not yet in their segments, in bytes; 64 MiB.
    /// They are in memory. Beyond it the next group waits.
    pub behind_bytes: usize,
    /// Room on the disk that is never used, in bytes; 64 MiB. With less than this free, commits
    /// are refused, and reads and deletions go on.
    pub free_bytes: u64,
    /// How many segments are held open; 256.
    pub open_files: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            journal_bytes: 1 << 30,
            journal_file_bytes: 32 << 20,
            group_bytes: 4 << 20,
            group_records: 4_096,
            commit_records: 2_048,
            record_bytes: 17 << 20,
            large_bytes: 64 << 10,
            segment_bytes: 64 << 20,
            queue_bytes: 64 << 20,
            behind_bytes: 64 << 20,
            free_bytes: 64 << 20,
            open_files: 256,
        }
    }
}
