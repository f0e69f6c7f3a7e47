//! Whose turn it is to send: by priority, and in turns among equals.

use std::collections::{BTreeMap, VecDeque};

use super::frame::StreamId;

/// The streams that could send a frame now, each at most once.
#[derive(Debug, Default)]
pub(super) struct Ready(BTreeMap<i32, VecDeque<StreamId>>);

impl Ready {
    /// Puts a stream behind its equals.
    pub(super) fn push(&mut self, priority: i32, id: StreamId) {
        self.0.entry(priority).or_default().push_back(id);
    }

    /// Returns whose turn it is.
    pub(super) fn first(&self) -> Option<StreamId> {
        self.0.last_key_value().and_then(|(_, level)| level.front().copied())
    }

    /// Removes a stream; the first one of its level at the cost of one step.
    pub(super) fn remove(&mut self, priority: i32, id: StreamId) {
        let Some(level) = self.0.get_mut(&priority) else { return };
        if let Some(at) = level.iter().position(|other| *other == id) {
            level.remove(at);
        }
        if level.is_empty() {
            self.0.remove(&priority);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn higher_priorities_come_first_and_equals_take_turns() {
        let mut ready = Ready::default();
        for (priority, id) in [(0, 3), (0, 5), (1, 7), (-1, 9)] {
            ready.push(priority, StreamId(id));
        }
        let mut order = Vec::new();
        while let Some(id) = ready.first() {
            order.push(id.value());
            let priority = [(7, 1), (9, -1)].into_iter().find(|(key, _)| *key == id.value());
            ready.remove(priority.map_or(0, |(_, priority)| priority), id);
        }
        assert_eq!(order, [7, 3, 5, 9]);
    }
}
