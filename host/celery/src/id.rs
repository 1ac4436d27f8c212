use uuid::Uuid;

/// The kind of a task's child that an id is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildKind {
    /// A `link` callback.
    Callback,
    /// A `link_error` callback.
    Errback,
    /// The next task of the chain.
    Chain,
    /// A signature that the guest sent.
    Sent,
    /// The group that several callbacks go out as.
    Group,
}

impl ChildKind {
    /// Part of the name that ids are made from: never change these.
    fn as_str(self) -> &'static str {
        match self {
            Self::Callback => "callback",
            Self::Errback => "errback",
            Self::Chain => "chain",
            Self::Sent => "sent",
            Self::Group => "group",
        }
    }
}

/// The namespace of Petiole's child ids, itself a UUIDv5 (RFC 9562, DNS namespace) of "petiole".
const NAMESPACE: Uuid = Uuid::from_u128(0xde8fc35b_f169_5d38_b678_339f0c12758d);

/// The id of a child whose signature names none: the same each time its parent is delivered, so
/// that a duplicate can be recognised.
pub fn child_id(parent_id: &str, retries: u32, kind: ChildKind, index: usize) -> String {
    // The parent's id comes last, as it is the only part that may contain a slash.
    let name = format!("{retries}/{}/{index}/{parent_id}", kind.as_str());
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
        .hyphenated()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_stay_the_same_from_release_to_release() {
        assert_eq!(NAMESPACE, Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"petiole"));
        assert_eq!(
            child_id("parent", 0, ChildKind::Callback, 0),
            "dcd2b23e-e87e-5fc7-8a51-dfe9529a2485"
        );
    }

    #[test]
    fn every_part_matters() {
        let ids = [
            child_id("parent", 0, ChildKind::Callback, 0),
            child_id("parent", 0, ChildKind::Errback, 0),
            child_id("parent", 0, ChildKind::Chain, 0),
            child_id("parent", 0, ChildKind::Sent, 0),
            child_id("parent", 0, ChildKind::Group, 0),
            child_id("parent", 0, ChildKind::Callback, 1),
            child_id("parent", 1, ChildKind::Callback, 0),
            child_id("other", 0, ChildKind::Callback, 0),
        ];
        let distinct: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }
}
