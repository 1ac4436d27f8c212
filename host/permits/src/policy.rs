//! The capabilities that a worker allows its modules.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use crate::capabilities::{CapabilityError, Fields};
use crate::{Capabilities, Refused};

/// The policy of a worker: grants by the names of modules. The default allows nothing beyond clocks and random
/// numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    grants: Vec<(String, Grant)>,
}

/// Capabilities that some modules are allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Fields")]
pub struct Grant {
    /// The most they may be given of what they ask for.
    #[serde(flatten)]
    pub capabilities: Capabilities,
    /// Ranges outside of the public internet that the names of granted rules may resolve to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<IpNet>,
}

impl Policy {
    /// Of pairs of a glob over modules' names (`*`, `?`) and what the modules that match are allowed.
    pub fn new(grants: Vec<(String, Grant)>) -> Self {
        Self { grants }
    }

    /// The grants, as they were given.
    pub fn grants(&self) -> &[(String, Grant)] {
        &self.grants
    }

    /// The grant of a module: all grants that match its name added up. Where one of them has
    /// `clocks = false` or `random = false`, that holds.
    pub fn for_module(&self, module: &str) -> Grant {
        self.grants
            .iter()
            .filter(|(glob, _)| WildMatch::new(glob).matches(module))
            .fold(Grant::default(), |sum, (_, grant)| sum.union(grant.clone()))
    }
}

impl Grant {
    /// The part of `asked` that is granted, and the things that are refused.
    pub fn intersect(&self, asked: &Capabilities) -> (Capabilities, Vec<Refused>) {
        asked.intersect(&self.capabilities)
    }

    fn union(mut self, other: Self) -> Self {
        for network in other.networks {
            if !self.networks.contains(&network) {
                self.networks.push(network);
            }
        }
        Self {
            capabilities: self.capabilities.union(other.capabilities),
            networks: self.networks,
        }
    }
}

impl TryFrom<Fields> for Grant {
    type Error = CapabilityError;

    fn try_from(mut fields: Fields) -> Result<Self, CapabilityError> {
        let networks = fields.networks.take().unwrap_or_default();
        Ok(Self {
            capabilities: fields.try_into()?,
            networks,
        })
    }
}
