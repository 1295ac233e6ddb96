//! The topics of a tenant, on a store: power cuts, faults, planted bugs, and what is bound.

mod bound;
mod crash;
mod faults;
mod planted;
mod rig;
