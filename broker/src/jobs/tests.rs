//! Jobs on a store that loses its power, its room or its mind; and bugs that are planted in them.

mod crash;
mod faults;
mod planted;
mod rig;
