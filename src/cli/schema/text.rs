//! A plan for a person.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Planned, Report};
use crate::schema::{Difference, Plan, Remedy};

/// More of a value than tells what it is only makes lines wide.
const VALUE_CHARS: usize = 200;

/// The calls, and what is not carried over.
pub(super) fn plan(report: &Report) -> String {
    each(report, |page, Planned { plan, .. }| {
        match (plan.creates, plan.calls.len()) {
            (true, calls) => line(page, format!("table `{}` is missing; {calls} calls make it:", plan.table)),
            (false, 0) => line(page, format!("table `{}` is left as it is", plan.table)),
            (false, calls) => line(page, format!("table `{}`; {calls} calls change it:", plan.table)),
        }
        for (index, call) in plan.calls.iter().enumerate() {
            line(page, format!("{}. {} {}", index + 1, call.operation.name(), call.body));
        }
        let left = plan.differences.iter().filter(|it| it.remedy != Remedy::Mended);
        for difference in left {
            line(page, format!("! {}", told(difference)));
        }
        recorded(page, plan);
    })
}

/// What differs.
pub(super) fn diff(report: &Report) -> String {
    each(report, |page, Planned { plan, .. }| match (plan.creates, plan.differences.len()) {
        (true, _) => line(page, format!("table `{}` is missing", plan.table)),
        (false, 0) => line(page, format!("table `{}` is like its source", plan.table)),
        (false, _) => {
            line(page, format!("table `{}` differs from its source:", plan.table));
            for difference in &plan.differences {
                line(page, told(difference));
            }
        }
    })
}

/// What came of it.
pub(super) fn applied(report: &Report, is_dry: bool) -> String {
    each(report, |page, planned| {
        match (planned.applied, planned.plan.calls.is_empty(), is_dry) {
            (_, true, _) => line(page, "there was nothing to do".to_owned()),
            (_, _, true) => line(page, "no call was made".to_owned()),
            (true, ..) => {
                let made = planned.plan.calls.len() - planned.refused.len();
                line(page, format!("{made} of {} calls were made", planned.plan.calls.len()));
            }
            _ => {}
        }
        for refused in &planned.refused {
            line(page, format!("! not accepted: {refused}"));
        }
    })
}

fn each(report: &Report, show: impl Fn(&mut String, &Planned)) -> String {
    let mut page = String::new();
    for planned in &report.replicas {
        // Writing to a string cannot fail.
        let _ = writeln!(page, "replica `{}/{}`:", report.replication, planned.name);
        show(&mut page, planned);
    }
    page
}

fn line(page: &mut String, text: String) {
    let _ = writeln!(page, "  {text}");
}

fn told(difference: &Difference) -> String {
    let Difference { attribute, wanted, found, remedy } = difference;
    let (wanted, found) = (shown(wanted.as_ref()), shown(found.as_ref()));
    let mut text = format!("{attribute}: {found}, the source has {wanted}");
    match remedy {
        Remedy::Mended => {}
        Remedy::Immutable(reason) | Remedy::Left(reason) => {
            let _ = write!(text, " ({reason})");
        }
    }
    text
}

fn shown(value: Option<&Value>) -> String {
    let Some(value) = value else { return "nothing".to_owned() };
    let text = value.to_string();
    match text.char_indices().nth(VALUE_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// One line for each reason.
fn recorded(page: &mut String, plan: &Plan) {
    let mut reasons: Vec<&str> = Vec::new();
    for recorded in &plan.recorded {
        if !reasons.contains(&recorded.reason.as_str()) {
            reasons.push(&recorded.reason);
        }
    }
    for reason in reasons {
        let of_it = plan.recorded.iter().filter(|recorded| recorded.reason == reason);
        let names: Vec<_> = of_it.map(|recorded| recorded.attribute.as_str()).collect();
        line(page, format!("- not carried over: {} ({reason})", names.join(", ")));
    }
}
