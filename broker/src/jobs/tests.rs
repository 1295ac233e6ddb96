//! Jobs on a store that loses its power, its room or its mind; and bugs that are planted in them.

mod audit;
mod batches;
mod crash;
mod faults;
mod layouts;
mod limits;
mod planted;
mod rig;
