//! Writes that ask for a lesser mark, or one of another source; and repairs, which ask for the mark that was seen.

use super::table::{Place, Stored, Table};
use super::world::{Landing, World};
use crate::change::{Change, Op, Order};
use crate::dynamo::{Error, Guarded};
use crate::fault::Fault;
use crate::item::{Item, Value};

impl World {
    /// `PutItem` or `DeleteItem` with the condition that the item's mark is absent, less than the change's, or of another
    /// source table; or, of a repair, that it is the one that was seen.
    pub(super) fn write_guarded(
        &mut self,
        landing: &Landing,
        name: &str,
        change: Change,
        attribute: &str,
    ) -> Result<Guarded, Error> {
        let id = self.find_table(landing, name)?;
        let table = self.table(id);
        let mark = change.order.as_ref().map(Order::mark);
        let invalid = || landing.error(Fault::Invalid);
        let place = table.place(&change.key).ok_or_else(invalid)?;
        let new = match change.op {
            Op::Put(item) => {
                let item = marked(&item, attribute, mark.as_deref());
                let item = item.filter(|item| table.accepts(&change.key, item)).ok_or_else(invalid)?;
                Some(Stored { key: change.key.clone(), item, row: None })
            }
            Op::Delete => None,
        };
        if table.is_stale(&place, attribute, change.order.as_ref()) {
            return Ok(Guarded { is_stale: true, consumed_units: 0.0 });
        }
        if self.fails_before(landing) {
            return Err(landing.error(Fault::Transient));
        }
        self.apply(id, place, &change.key, new, landing.author);
        Ok(Guarded { is_stale: false, consumed_units: 1.0 })
    }
}

impl Table {
    fn is_stale(&self, place: &Place, attribute: &str, order: Option<&Order>) -> bool {
        let attributes = self.items.get(place).map(|stored| stored.attributes()).unwrap_or_default();
        match (attributes.get(attribute), order) {
            (there, Some(order)) if order.seen => {
                there.and_then(|there| there.as_str()) != Some(&*order.mark())
            }
            (None, _) => false,
            (Some(_), None) => true,
            // A value of another type begins with nothing.
            (Some(there), Some(order)) => there
                .as_str()
                .is_some_and(|there| there.starts_with(order.table_prefix()) && there >= &*order.mark()),
        }
    }
}

/// The item with the mark in place of what it may have there; `None` when it is no item.
fn marked(item: &Item, attribute: &str, mark: Option<&str>) -> Option<Item> {
    let quoted = format!("\"{attribute}\"");
    let is_there = memchr::memmem::find(item.as_bytes(), quoted.as_bytes()).is_some();
    match (mark, item.as_bytes()) {
        (None, _) if !is_there => Some(item.clone()),
        // The rest stays as it is, byte for byte.
        (Some(mark), [b'{', rest @ ..]) if !is_there => {
            let head = format!("{{{quoted}:{{\"S\":\"{mark}\"}},");
            Some(Item::from_json([head.as_bytes(), rest].concat().into()))
        }
        _ => {
            let mut attributes = item.attributes().ok()?;
            attributes.remove(attribute);
            attributes.extend(mark.map(|mark| (attribute.to_owned(), Value::from(mark))));
            Some(Item::from_attributes(&attributes))
        }
    }
}
