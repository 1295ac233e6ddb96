//! Jobs, against a simple model.
