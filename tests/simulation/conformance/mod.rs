//! The semantics of DynamoDB that the daemon relies on, as one suite that runs over the model of the simulation, over the
//! embedded emulator, and over a server that nobody here wrote. What the simulation proves is worth as much as the
//! model is like the service; this is where it has to show it.
//!
//! A case speaks to a [`Subject`] through the two ports alone. What it needs beyond them, a split or a lost answer, it
//! asks of the subject's [`Means`](means::Means); where the means are missing, or the server is known to be different, the
//! case is left out by name, and the reason is printed.

mod batches;
mod guards;
mod iterators;
mod lineage;
mod means;
mod reading;
mod rows;
mod servers;
mod subject;
mod trouble;

use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use futures_util::FutureExt;

use subject::{Skipped, Subject};

/// What became of a case that did not fail.
type Outcome = Result<(), Skipped>;

/// One case: what it says, and how it is tried.
struct Case {
    name: &'static str,
    run: for<'a> fn(&'a Subject) -> Pin<Box<dyn Future<Output = Outcome> + 'a>>,
}

/// Makes cases of functions, named as they are.
macro_rules! cases {
    ($($module:ident :: $name:ident),* $(,)?) => {
        &[$(Case { name: stringify!($name), run: |subject| Box::pin($module::$name(subject)) }),*]
    };
}

const CASES: &[Case] = cases![
    reading::records_come_in_order_with_whole_images,
    reading::a_change_that_changes_nothing_makes_no_record,
    reading::pages_keep_their_limit_and_lose_nothing,
    reading::numbers_grow_as_numbers,
    reading::an_open_shard_never_ends,
    reading::times_are_whole_seconds_of_now,
    iterators::a_number_is_read_after_and_not_at,
    iterators::the_latest_position_is_behind_what_is_there,
    iterators::a_time_is_read_from_or_refused,
    iterators::an_iterator_can_be_used_again,
    iterators::what_is_not_there_is_missing,
    iterators::a_position_behind_the_end_is_refused,
    iterators::an_expired_iterator_says_so,
    iterators::a_trimmed_position_is_refused_and_the_horizon_is_not,
    lineage::children_follow_their_parent,
    lineage::a_closed_shard_ends_with_its_last_record,
    lineage::a_closed_empty_shard_ends_at_once,
    lineage::children_are_found_by_their_parent,
    lineage::long_listings_have_pages,
    lineage::a_vanished_shard_is_missing,
    lineage::a_replaced_stream_ends_and_stays_readable,
    batches::a_batch_takes_twenty_five_and_not_one_more,
    batches::a_key_stands_in_a_batch_once,
    batches::one_bad_item_refuses_all,
    batches::deleting_what_is_not_there_is_done,
    batches::fetched_items_stand_in_the_order_asked_for,
    batches::scanned_segments_hold_every_item_once,
    batches::a_missing_table_is_missing,
    batches::a_table_tells_its_keys_and_its_stream,
    batches::an_arn_is_as_good_as_a_name,
    rows::a_condition_that_fails_shows_the_row,
    rows::a_deletion_has_conditions_too,
    rows::conditions_compare_values_and_not_spellings,
    rows::rows_come_in_the_order_of_their_sort_keys,
    rows::a_prefix_takes_what_starts_with_it,
    rows::a_page_goes_on_after_any_key,
    guards::a_guarded_item_never_goes_back,
    guards::a_guarded_delete_is_ordered_too_and_leaves_nothing_behind,
    guards::what_has_no_mark_is_older_than_anything,
    guards::a_repair_is_written_while_the_mark_that_was_seen_is_there,
    guards::marks_of_another_source_do_not_count,
    trouble::unprocessed_changes_are_not_applied_and_the_others_are,
    trouble::a_throttle_tells_its_width_and_applies_nothing,
    trouble::a_lost_answer_may_have_been_a_success,
    trouble::a_lost_conditional_write_is_found_by_its_repetition,
    trouble::a_late_write_lands_over_a_newer_one,
];

/// Tries every case, and fails when one did.
async fn run(subject: &Subject) {
    let mut tried = 0;
    let mut failed = Vec::new();
    for case in CASES {
        let outcome = match subject.differs(case.name) {
            Some(reason) => Ok(Err(Skipped(reason))),
            None => AssertUnwindSafe((case.run)(subject)).catch_unwind().await,
        };
        match outcome {
            Ok(Ok(())) => tried += 1,
            Ok(Err(Skipped(reason))) => {
                println!("not tested against {}: {}, because {reason}", subject.name(), case.name);
            }
            Err(_panic) => failed.push(case.name),
        }
    }
    println!("{tried} of {} cases hold for {}", CASES.len(), subject.name());
    assert!(failed.is_empty(), "{} does not conform: {failed:#?}", subject.name());
    assert!(tried * 2 > CASES.len(), "{} was hardly tested", subject.name());
}
