//! Codes below the frames: why a stream was reset or stopped, why a connection was closed.
//!
//! They are QUIC application error codes (RFC 9000, section 20.2): numbers with no body.

use std::fmt;

macro_rules! table {
    ($(#[$doc:meta])* $ty:ident { $($(#[$vdoc:meta])* $variant:ident = $number:literal, $name:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $ty { $($(#[$vdoc])* $variant,)* }

        impl $ty {
            /// Every code.
            pub const ALL: &[$ty] = &[$($ty::$variant,)*];

            /// The number on the wire.
            pub const fn number(self) -> u32 {
                match self { $($ty::$variant => $number,)* }
            }

            /// The name in the specification.
            pub const fn name(self) -> &'static str {
                match self { $($ty::$variant => $name,)* }
            }

            /// The code of a number, if this version knows it.
            pub fn from_number(n: u64) -> Option<$ty> {
                match n { $($number => Some($ty::$variant),)* _ => None }
            }
        }

        impl fmt::Display for $ty {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

table! {
    /// Why one side of a stream was reset (RESET_STREAM) or stopped (STOP_SENDING).
    StreamCode {
        /// What a QUIC library sends when a stream is dropped; read as `CancelAll`.
        Dropped = 0x00, "DROPPED";
        /// Client: cancel everything, running items too.
        CancelAll = 0x01, "CANCEL_ALL";
        /// Client: cancel what has not started, let the rest finish.
        CancelPending = 0x02, "CANCEL_PENDING";
        /// Broker: the final frame was sent, nothing more is read.
        Done = 0x03, "DONE";
        /// Broker: an item failed in a `FailFast` batch, nothing more is started.
        FailFast = 0x04, "FAIL_FAST";
        /// Broker: the first frame did not arrive in time, or a frame stalled.
        Stalled = 0x05, "STALLED";
        /// Broker: results were not taken in time, the reader counts as gone.
        ReaderGone = 0x06, "READER_GONE";
        /// Broker: the stream was refused before its first frame was read.
        Refused = 0x07, "REFUSED";
    }
}

table! {
    /// Why a connection was closed (CONNECTION_CLOSE with an application error).
    CloseCode {
        /// Nothing more to do.
        Done = 0x00, "DONE";
        /// The broker is shutting down: connect again, elsewhere or later.
        Draining = 0x01, "DRAINING";
        /// The certificate names no identity, or one that this listener does not serve.
        IdentityInvalid = 0x10, "IDENTITY_INVALID";
        /// The certificate names a tenant that is not known here.
        TenantUnknown = 0x11, "TENANT_UNKNOWN";
        /// The tenant is suspended.
        TenantSuspended = 0x12, "TENANT_SUSPENDED";
        /// The tenant was deleted.
        TenantDeleted = 0x13, "TENANT_DELETED";
        /// The certificate expired while the connection was open.
        CertificateExpired = 0x14, "CERTIFICATE_EXPIRED";
        /// The certificate was revoked.
        CertificateRevoked = 0x15, "CERTIFICATE_REVOKED";
        /// The authority that vouched for the certificate is no longer trusted.
        TrustRemoved = 0x16, "TRUST_REMOVED";
        /// The role may not use this listener.
        Forbidden = 0x17, "FORBIDDEN";
        /// The quota `connections` is used up.
        QuotaExceeded = 0x20, "QUOTA_EXCEEDED";
        /// The broker has no room for another connection.
        Overloaded = 0x21, "OVERLOADED";
        /// The peer churns streams beyond what any client needs.
        Abuse = 0x22, "ABUSE";
    }
}

impl CloseCode {
    /// Whether connecting again with the same certificate can succeed.
    pub fn retryable(self) -> bool {
        use CloseCode::{Done, Draining, Overloaded, QuotaExceeded};
        matches!(self, Done | Draining | Overloaded | QuotaExceeded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_one_to_one() {
        for &c in StreamCode::ALL {
            assert_eq!(StreamCode::from_number(c.number().into()), Some(c));
        }
        for &c in CloseCode::ALL {
            assert_eq!(CloseCode::from_number(c.number().into()), Some(c));
        }
        assert_eq!(CloseCode::from_number(u64::MAX), None);
    }
}
