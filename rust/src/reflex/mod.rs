//! What the edge does inside one request when an upstream fails, as rules: pure, `now` comes in, nothing waits here.
//!
//! | file | answers |
//! |---|---|
//! | `identity` | whether another upstream's answer can go on where one broke off |
//! | `digest`, `check` | whether the bytes are the right ones, block by block as they stream |
//! | `beat` | how long an event stream's silence is no fault |
//! | `events` | where an event stream can be taken up again |
//! | `first_byte` | how long an upstream is waited for before another is asked |
//! | `known` | whether an answer looks like the object that was seen before |
//! | `room` | how many requests an upstream is given at once |

pub mod beat;
pub mod check;
pub mod digest;
pub mod events;
pub mod first_byte;
pub mod identity;
pub mod known;
pub mod room;
