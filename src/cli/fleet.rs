//! The control table as commands see it, which look at it from outside and never mark it as theirs.

use super::build;
use super::connections::{Connections, Limits};
use super::exit::Failure;
use crate::config::Config;
use crate::control::{self, Control, LAYOUT_VERSION};

/// The control table, when this program knows its layout. One that nobody has used yet is fine.
pub(super) async fn control(config: &Config) -> Result<Control, Failure> {
    let mut connections = Connections::new("dynamirror-cli".to_owned(), None);
    let control = build::control(config, &mut connections, Limits::COMMAND).await;
    check_layout(&control).await?;
    Ok(control)
}

async fn check_layout(control: &Control) -> Result<(), control::Error> {
    let marks = control.rows("#dynamirror", "layout").await?;
    let Some(mark) = marks.first() else {
        return Ok(());
    };
    match control.read(mark).integer("version")? {
        LAYOUT_VERSION => Ok(()),
        other => Err(control::Error::Layout { table: control.table().to_owned(), found: other.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::dynamo::memory::Memory;
    use crate::dynamo::{Condition, RowKey};
    use crate::item::Value;

    async fn marked(version: Option<i64>) -> Result<(), control::Error> {
        let control = Control::new(Arc::new(Memory::default()), "control");
        if let Some(version) = version {
            let key = RowKey { partition: "#dynamirror".to_owned(), sort: "layout".to_owned() };
            let mut row = key.attributes();
            row.insert("version".to_owned(), Value::integer(version));
            control.put(&row, &Condition::Always).await.expect("written");
        }
        check_layout(&control).await
    }

    #[tokio::test]
    async fn another_layout_is_refused_and_none_is_fine() {
        marked(None).await.expect("nobody has used it");
        marked(Some(LAYOUT_VERSION)).await.expect("it is ours");
        let error = marked(Some(LAYOUT_VERSION + 1)).await.expect_err("it is newer");
        assert!(matches!(error, control::Error::Layout { .. }), "{error}");
    }
}
