//! The frames of a batch: open, requests and control up; acceptance, progress and results down.
//!
//! Layouts are drawn in `frame`; the life of a stream is in `PROTOCOL.md`.

mod control;
mod failure;
mod item;
mod open;

pub use control::{CancelScope, Ended, Notice, NoticeKind, Summary, Throttled};
pub use failure::{Failure, QuotaRefusal, Scope};
pub(crate) use item::RESULT;
pub use item::{Body, ItemResult, Number, Progress, Request, Success};
pub use open::{Accepted, BatchOpen, Durability, Mode, Order};

/// An enum without content, written as its variant number.
macro_rules! plain_enum {
    ($(#[$doc:meta])* $ty:ident, $field:literal { $($(#[$vdoc:meta])* $variant:ident = $number:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $ty { $($(#[$vdoc])* $variant = $number,)* }

        impl $ty {
            /// Every variant, in the order of their numbers.
            pub const ALL: &[$ty] = &[$($ty::$variant,)*];

            pub(crate) fn read(r: &mut crate::codec::Reader<'_>) -> crate::codec::Result<Self> {
                let n = r.variant($field)?;
                Self::ALL.get(n as usize).copied().ok_or(crate::codec::DecodeError::new(
                    $field,
                    crate::codec::Problem::UnknownVariant(n.into()),
                ))
            }

            pub(crate) fn put(self, out: &mut Vec<u8>) {
                out.push(self as u8);
            }
        }
    };
}
pub(crate) use plain_enum;
