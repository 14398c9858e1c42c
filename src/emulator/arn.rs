//! Resource names as they should read in a region, whatever the server behind the emulator calls itself.

use serde_json::Value;

const SERVICE: &str = ":dynamodb:";

/// The partition a region belongs to.
fn partition(region: &str) -> &'static str {
    match region {
        region if region.starts_with("cn-") => "aws-cn",
        region if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

/// The same resource in another region. Text that is no DynamoDB ARN is given back as it is.
pub(super) fn in_region(arn: &str, region: &str) -> String {
    let mut parts = arn.splitn(5, ':');
    match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("arn"), Some(_), Some("dynamodb"), Some(_), Some(rest)) => {
            format!("arn:{}:dynamodb:{region}:{rest}", partition(region))
        }
        _ => arn.to_owned(),
    }
}

/// The table a table's, index's or stream's ARN speaks of; a plain name is itself.
pub(super) fn table_name(name_or_arn: &str) -> &str {
    match name_or_arn.split_once(":table/") {
        Some((_, rest)) => rest.split('/').next().unwrap_or(rest),
        None => name_or_arn,
    }
}

/// Moves every DynamoDB ARN inside a JSON value to a region.
pub(super) fn move_all(value: &mut Value, region: &str) {
    match value {
        Value::String(text) if text.starts_with("arn:") && text.contains(SERVICE) => {
            *text = in_region(text, region);
        }
        Value::Array(items) => items.iter_mut().for_each(|item| move_all(item, region)),
        Value::Object(fields) => fields.values_mut().for_each(|field| move_all(field, region)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn region_and_partition_are_replaced_and_the_rest_kept() {
        let arn = "arn:aws:dynamodb:dynoxide:000000000000:table/t/stream/2026-01-01T00:00:00.000";
        let moved = in_region(arn, "cn-north-1");
        assert_eq!(
            moved,
            "arn:aws-cn:dynamodb:cn-north-1:000000000000:table/t/stream/2026-01-01T00:00:00.000"
        );
        assert_eq!(table_name(&moved), "t");
        assert_eq!(table_name("t"), "t");
        assert_eq!(in_region("arn:aws:kms:x:0:key/k", "eu-west-1"), "arn:aws:kms:x:0:key/k");
    }
}
