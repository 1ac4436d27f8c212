//! Turns of a module's tasks, where not all of them may run at once.

use std::num::NonZeroU16;
use std::sync::Arc;

use petiole_modules::Manifest;
use tokio::sync::Semaphore;

/// The turns of a module's tasks. A next version of the same cap goes on with them, so that both together keep to
/// it; with another cap it begins anew, beside what still runs of the one before.
#[derive(Debug, Clone)]
pub(crate) struct Turns {
    cap: NonZeroU16,
    pub(crate) semaphore: Arc<Semaphore>,
}

impl Turns {
    pub(crate) fn of(manifest: &Manifest, before: Option<&Self>) -> Option<Self> {
        let cap = manifest.concurrency?;
        let same = before.filter(|turns| turns.cap == cap);
        Some(same.cloned().unwrap_or_else(|| Self {
            cap,
            semaphore: Arc::new(Semaphore::new(usize::from(cap.get()))),
        }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_next_version_of_a_module_goes_on_with_its_turns() {
        let manifest = |text: &str| Manifest::from_toml(text).unwrap();
        assert!(Turns::of(&manifest(""), None).is_none());
        let first = Turns::of(&manifest("concurrency = 2"), None).unwrap();
        assert_eq!(first.semaphore.available_permits(), 2);
        let same = Turns::of(&manifest("concurrency = 2"), Some(&first)).unwrap();
        assert!(Arc::ptr_eq(&same.semaphore, &first.semaphore));
        let other = Turns::of(&manifest("concurrency = 3"), Some(&first)).unwrap();
        assert_eq!(other.semaphore.available_permits(), 3);
        assert!(Turns::of(&manifest(""), Some(&first)).is_none());
    }
}
