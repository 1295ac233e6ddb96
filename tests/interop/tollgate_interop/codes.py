"""The numbers of PROTOCOL.md: close codes (section 2), codes (7) and stream codes (8)."""

from enum import IntEnum


class Close(IntEnum):
    """Application error codes in CONNECTION_CLOSE."""

    DONE = 0x00
    DRAINING = 0x01
    IDENTITY_INVALID = 0x10
    TENANT_UNKNOWN = 0x11
    TENANT_SUSPENDED = 0x12
    TENANT_DELETED = 0x13
    CERTIFICATE_EXPIRED = 0x14
    CERTIFICATE_REVOKED = 0x15
    TRUST_REMOVED = 0x16
    FORBIDDEN = 0x17
    QUOTA_EXCEEDED = 0x20
    OVERLOADED = 0x21
    ABUSE = 0x22


class Stream(IntEnum):
    """Application error codes in RESET_STREAM and STOP_SENDING."""

    DROPPED = 0x00
    CANCEL_ALL = 0x01
    CANCEL_PENDING = 0x02
    DONE = 0x03
    FAIL_FAST = 0x04
    STALLED = 0x05
    READER_GONE = 0x06
    REFUSED = 0x07


class Code(IntEnum):
    """Outcomes, in `Result.code`, `Error.code` and `Summary.failed`."""

    OK = 0
    MALFORMED_FRAME = 1
    FRAME_TOO_LARGE = 2
    INVALID_ACTION = 3
    VALIDATION_ERROR = 4
    UNAUTHORIZED = 5
    FORBIDDEN = 6
    NOT_FOUND = 7
    RECIPE_NOT_FOUND = 8
    CONFLICT = 9
    BATCH_TOO_LARGE = 10
    PAYLOAD_TOO_LARGE = 11
    RATE_LIMITED = 12
    QUOTA_EXCEEDED = 13
    CANCELLED = 14
    TIMEOUT = 15
    DEADLINE_EXCEEDED = 16
    RECIPE_EXECUTION = 17
    PANIC = 18
    INTERNAL_ERROR = 19
    RESULT_TOO_LARGE = 20
    NO_WORKER = 21
    WORKER_LOST = 22
    UPSTREAM_FAILED = 23
    DRAINING = 24
    OVERLOADED = 25
    STORE_UNAVAILABLE = 26
    STORAGE_FULL = 27
