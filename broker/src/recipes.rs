//! The recipes that come with the broker, for trying and testing.
