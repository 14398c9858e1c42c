//! What names a table, and what is left of a text when that is taken out.
//!
//! Policies, scaling policies and destinations name the table they belong to, its account and its region. Those of two
//! tables can only be compared, and one table's given to another, when each name is replaced by a placeholder. Names of
//! others, such as the principals of a policy, stay as they are.

use serde_json::Value;

/// Stands for the table's ARN.
pub(super) const TABLE_ARN: &str = "<table-arn>";
/// Stands for the ARN of the table's newest stream.
pub(super) const STREAM_ARN: &str = "<stream-arn>";
/// Stands for the table's name, in the names that Application Auto Scaling has for it.
const TABLE_RESOURCE: &str = "table/<table>";
/// Stands for the beginning of an ARN of Kinesis in the table's account and region.
const KINESIS: &str = "<kinesis>";

/// The names of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    name: String,
    table_arn: String,
    stream_arn: Option<String>,
}

// === impl Identity ===

impl Identity {
    /// That of a table as `DescribeTable` shows it.
    pub(super) fn of(table: &Value) -> Self {
        let text = |member: &str| table.get(member).and_then(Value::as_str).map(str::to_owned);
        Self {
            name: text("TableName").unwrap_or_default(),
            table_arn: text("TableArn").unwrap_or_default(),
            stream_arn: text("LatestStreamArn"),
        }
    }

    /// The text with placeholders for this table's names.
    pub(super) fn neutral(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, placeholder) in self.names() {
            text = replaced(&text, &name, placeholder);
        }
        text
    }

    /// All texts in a value with placeholders for this table's names.
    pub(super) fn neutral_value(&self, value: &Value) -> Value {
        each_text(value, &|text| self.neutral(text))
    }

    /// All texts in a value with this table's names for placeholders.
    pub(super) fn resolved(&self, value: &Value) -> Value {
        let names = self.names();
        each_text(value, &|text| {
            names.iter().fold(text.to_owned(), |text, (name, placeholder)| text.replace(placeholder, name))
        })
    }

    /// Longer names before those that they contain.
    fn names(&self) -> Vec<(String, &'static str)> {
        let mut names = Vec::new();
        names.extend(self.stream_arn.clone().map(|arn| (arn, STREAM_ARN)));
        if !self.table_arn.is_empty() {
            names.push((self.table_arn.clone(), TABLE_ARN));
            let owner = self.table_arn.split_once(":table/").map(|(owner, _)| owner);
            let kinesis = owner.map(|owner| owner.replacen(":dynamodb:", ":kinesis:", 1));
            names.extend(kinesis.map(|kinesis| (format!("{kinesis}:"), KINESIS)));
        }
        if !self.name.is_empty() {
            names.push((format!("table/{}", self.name), TABLE_RESOURCE));
        }
        names
    }
}

/// `text` with `placeholder` for each `name` that is not the beginning of a longer name.
fn replaced(text: &str, name: &str, placeholder: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(name) {
        let (before, after) = (&rest[..at], &rest[at + name.len()..]);
        let goes_on = after.chars().next().is_some_and(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
        out.push_str(before);
        out.push_str(if goes_on && !name.ends_with(':') { name } else { placeholder });
        rest = after;
    }
    out + rest
}

fn each_text(value: &Value, change: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(change(text)),
        Value::Array(values) => values.iter().map(|value| each_text(value, change)).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), each_text(value, change))).collect()
        }
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn orders(region: &str, account: &str, name: &str) -> Identity {
        let arn = format!("arn:aws:dynamodb:{region}:{account}:table/{name}");
        let stream = format!("{arn}/stream/2026-11-20T10:00:00.000");
        Identity::of(&json!({"TableName": name, "TableArn": arn, "LatestStreamArn": stream}))
    }

    #[test]
    fn one_tables_names_become_anothers_and_other_names_stay() {
        let (source, replica) = (orders("eu-west-1", "1", "Orders"), orders("us-east-1", "2", "Copy"));
        let policy = json!({
            "Principal": {"AWS": "arn:aws:iam::1:role/app"},
            "Resource": [
                "arn:aws:dynamodb:eu-west-1:1:table/Orders",
                "arn:aws:dynamodb:eu-west-1:1:table/Orders/index/*",
                "arn:aws:dynamodb:eu-west-1:1:table/Orders2",
                "arn:aws:dynamodb:eu-west-1:1:table/Orders/stream/2026-11-20T10:00:00.000",
            ],
            "Stream": "arn:aws:kinesis:eu-west-1:1:stream/orders",
            "Policy": "$table/Orders-scaling-policy table/Orders",
        });
        let rewritten = replica.resolved(&source.neutral_value(&policy));
        let expected = json!({
            "Principal": {"AWS": "arn:aws:iam::1:role/app"},
            "Resource": [
                "arn:aws:dynamodb:us-east-1:2:table/Copy",
                "arn:aws:dynamodb:us-east-1:2:table/Copy/index/*",
                "arn:aws:dynamodb:eu-west-1:1:table/Orders2",
                "arn:aws:dynamodb:us-east-1:2:table/Copy/stream/2026-11-20T10:00:00.000",
            ],
            "Stream": "arn:aws:kinesis:us-east-1:2:stream/orders",
            "Policy": "$table/Orders-scaling-policy table/Copy",
        });
        assert_eq!(rewritten, expected);
    }

    #[test]
    fn a_neutral_text_is_the_same_for_both() {
        let (source, replica) = (orders("eu-west-1", "1", "Orders"), orders("us-east-1", "2", "Copy"));
        let text = "arn:aws:dynamodb:eu-west-1:1:table/Orders/index/i";
        let there = replica.resolved(&Value::from(source.neutral(text)));
        assert_eq!(replica.neutral(there.as_str().expect("a text")), source.neutral(text));
    }
}
