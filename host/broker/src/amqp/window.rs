use crate::memory::Memory;

/// The part of the largest message's size that each later one makes it count less.
const FORGETS: u64 = 8;

/// Number of messages that a consumer asks for. RabbitMQ counts no bytes (`prefetch_size`), so the number follows the
/// room for them: a message that finds none has to be given back, which quorum queues count.
#[derive(Debug)]
pub(super) struct Window {
    /// The most it may ask for.
    most: u16,
    /// The number it asks for now.
    pub(super) asked: u16,
    /// Bytes of the largest recent messages.
    large: u64,
}

impl Window {
    pub(super) fn new(most: u16) -> Self {
        Self {
            most,
            asked: most,
            large: 0,
        }
    }

    /// True if it asks for as many as it may.
    pub(super) fn is_whole(&self) -> bool {
        self.asked == self.most
    }

    /// Notes the size of a message that was delivered.
    pub(super) fn delivered(&mut self, bytes: u64) {
        self.large = bytes.max(self.large - self.large / FORGETS);
    }

    /// The number to ask for when `held` are held, if it may be a larger one: these stay where they are, and as many
    /// more may come.
    pub(super) fn wider(&self, memory: &Memory, held: usize) -> Option<u16> {
        let fit = u16::try_from(memory.fit(self.large)).unwrap_or(u16::MAX);
        let wider = fit.min(self.most);
        (held >= usize::from(self.asked) && wider > self.asked).then_some(wider)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::memory::Share;

    #[test]
    fn as_many_are_asked_for_as_there_is_room_for() {
        let memory = Memory::new(1024);
        let share = Share::new(&memory);
        let mut window = Window::new(64);
        window.delivered(100);
        assert!(window.is_whole() && window.wider(&memory, 64).is_none());
        window.asked = 1;
        assert_eq!(window.wider(&memory, 0), None, "it has not come yet");
        let held = share.hold(100).unwrap();
        assert_eq!(window.wider(&memory, 1), Some(7));
        window.asked = 7;
        assert_eq!(window.wider(&memory, 7), None);
        drop(held);
        for _ in 0..100 {
            window.delivered(1);
        }
        assert_eq!(window.wider(&memory, 7), Some(64));
    }
}
