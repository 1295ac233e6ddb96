//! The topics of a tenant, on a store: what is kept, crashes, faults, planted bugs.
