//! Every bound of the wire format, in one place; `PROTOCOL.md` lists the same numbers.
//!
//! These are the format's own bounds. What a broker grants is often less and is configured there.

/// The length prefix of a frame, in bytes (big-endian).
pub const PREFIX_BYTES: usize = 4;
/// The largest frame a broker may be configured to accept, in bytes after the prefix.
pub const FRAME_BYTES_HARD_MAX: usize = 16 << 20;
/// The largest frame accepted unless configured otherwise, in bytes after the prefix.
pub const FRAME_BYTES_DEFAULT: usize = 1 << 20;
/// The largest payload of a result, in bytes: with its head it fits the largest frame.
pub const RESULT_PAYLOAD_BYTES_MAX: usize = FRAME_BYTES_HARD_MAX - (64 << 10);
/// The most items a batch can ever have.
pub const BATCH_ITEMS_HARD_MAX: u64 = 1_000_000;
/// A tenant id, in bytes.
pub const TENANT_ID_BYTES_MAX: usize = 63;
/// A recipe name, in bytes.
pub const RECIPE_NAME_BYTES_MAX: usize = 128;
/// Pairs in a string map (`metadata`, `details`).
pub const PAIRS_MAX: usize = 64;
/// A key of a string map, in bytes.
pub const PAIR_KEY_BYTES_MAX: usize = 128;
/// A value of a string map, in bytes.
pub const PAIR_VALUE_BYTES_MAX: usize = 4_096;
/// A whole string map as encoded, in bytes.
pub const PAIRS_BYTES_MAX: usize = 16_384;
/// Extensions of one frame.
pub const EXTENSIONS_MAX: usize = 16;
/// The body of one extension, in bytes.
pub const EXTENSION_BYTES_MAX: usize = 1_024;
/// An idempotency key, in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;
/// A W3C `traceparent`, in bytes (version 00 has 55; later versions may be longer).
pub const TRACEPARENT_BYTES_MAX: usize = 256;
/// A message for people in an error or a progress frame, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 4_096;
/// An application's own error code, in bytes.
pub const APP_CODE_BYTES_MAX: usize = 128;
/// The name of a quota, in bytes.
pub const QUOTA_NAME_BYTES_MAX: usize = 128;
/// The lowest urgency is 0, the highest this.
pub const PRIORITY_MAX: u8 = 7;
/// The priority of a batch that names none.
pub const PRIORITY_DEFAULT: u8 = 3;
/// A description of a recipe, in bytes.
pub const DESCRIPTION_BYTES_MAX: usize = 4_096;
/// The JSON Schema of a recipe, in bytes.
pub const SCHEMA_BYTES_MAX: usize = 65_536;
/// Different codes counted in one `Summary`.
pub const SUMMARY_CODES_MAX: usize = 256;
/// Lines of usage in one `Usage` frame.
pub const USAGE_LINES_MAX: usize = 64;
/// The version string of a broker, in bytes.
pub const VERSION_BYTES_MAX: usize = 128;
/// Jobs on one page of a list.
pub const JOBS_LISTED_MAX: u32 = 1_000;
/// Topics or groups on one page of a list.
pub const LISTED_MAX: u32 = 1_000;
/// Where a page of a list ended, in bytes.
pub const CURSOR_BYTES_MAX: usize = 256;
/// Attempts of a job whose errors are told.
pub const JOB_ERRORS_MAX: usize = 32;
/// The message of one such error, in bytes.
pub const JOB_ERROR_MESSAGE_BYTES_MAX: usize = 512;
/// A topic name, in bytes.
pub const TOPIC_NAME_BYTES_MAX: usize = 128;
/// The name of a consumer group, in bytes.
pub const GROUP_NAME_BYTES_MAX: usize = 128;
/// Partitions of one topic.
pub const TOPIC_PARTITIONS_MAX: u32 = 1_024;
/// The key of a message, in bytes.
pub const MESSAGE_KEY_BYTES_MAX: usize = 1_024;
/// Messages of one producer that may be sent and not acknowledged yet: of as many the broker
/// knows the offsets when they come again.
pub const PRODUCER_WINDOW: usize = 4_096;
/// Calls that a worker takes at once on one stream.
pub const WORK_CREDIT_MAX: u32 = 65_536;
/// Recipes that a worker registers on one stream.
pub const WORK_RECIPES_MAX: usize = 256;
/// The largest payload within a frame of a stream of work, either way, in bytes: a larger one
/// travels on a stream of its own.
pub const WORK_INLINE_BYTES_MAX: usize = 64 << 10;

const _: () = assert!(FRAME_BYTES_DEFAULT <= FRAME_BYTES_HARD_MAX);
const _: () = assert!(PAIR_KEY_BYTES_MAX + PAIR_VALUE_BYTES_MAX < PAIRS_BYTES_MAX);
// The largest head (every field at its bound) leaves most of the smallest useful frame to payload.
const _: () = assert!(
    2 * PAIRS_BYTES_MAX + EXTENSIONS_MAX * (EXTENSION_BYTES_MAX + 8) + MESSAGE_BYTES_MAX
        < FRAME_BYTES_DEFAULT / 4
);
// Whatever a worker says fits the default frame: a payload or a schema, and the largest head.
const _: () = assert!(
    WORK_INLINE_BYTES_MAX + PAIRS_BYTES_MAX + MESSAGE_BYTES_MAX < FRAME_BYTES_DEFAULT / 2
        && SCHEMA_BYTES_MAX + DESCRIPTION_BYTES_MAX < FRAME_BYTES_DEFAULT / 2
);
