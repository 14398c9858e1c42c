//! What people want of the replicas, obeyed: who may be read for, and which rows a seek puts elsewhere.

use super::Running;
use crate::supervisor::desired::Wish;

impl Running {
    /// What is wanted of a replica; `None` as long as nobody knows.
    pub(super) fn wish(&self, replica: &str) -> Option<Wish> {
        let known = self.setup.wishes.borrow();
        known.as_ref().map(|wishes| wishes.of(&self.setup.config.name, replica))
    }
}
