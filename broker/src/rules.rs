//! Pure decisions: (state, event, now) to effects. No I/O, no clock, no task, no log line.
