//! Watches what an HTTP/2 client sends, frame by frame, for the connection's task, which looks after every read.

use crate::edge::worker::Edge;
use crate::gate::flood::{Flood, FrameWatch};
use crate::gate::why::Why;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

pub struct Vigil {
    edge: Rc<Edge>,
    watch: RefCell<FrameWatch>,
    flood: Cell<Option<Flood>>,
}

impl Vigil {
    /// For a connection from its first byte; `resets_max` streams may be reset in a minute.
    pub fn new(edge: &Rc<Edge>, resets_max: u64) -> Self {
        let watch = RefCell::new(FrameWatch::new(resets_max, edge.now_ms()));
        Self { edge: Rc::clone(edge), watch, flood: Cell::new(None) }
    }

    /// The next bytes of the connection, in their order.
    pub fn see(&self, bytes: &[u8]) {
        if let Some(flood) = self.watch.borrow_mut().see(bytes, self.edge.now_ms()) {
            self.flood.set(Some(flood));
        }
    }

    /// What the client was caught at; then it is not to be listened to any more.
    pub fn caught(&self) -> Option<Why> {
        self.flood.get().map(|flood| match flood {
            Flood::Resets => Why::Resets,
            Flood::Frames => Why::Flood,
        })
    }

    /// Whether fields have been coming for so long and have not ended.
    pub fn is_head_overdue(&self, patience: Duration) -> bool {
        let since_ms = self.watch.borrow().fields_since_ms();
        let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        since_ms.is_some_and(|since_ms| self.edge.now_ms().saturating_sub(since_ms) >= patience_ms)
    }
}
