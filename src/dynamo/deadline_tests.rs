//! A call whose process stands still past its deadline: nothing of it goes over the wire afterwards.

use std::time::Duration;

use aws_sdk_dynamodb::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use aws_sdk_dynamodb::operation::batch_write_item::BatchWriteItemOutput;
use aws_smithy_runtime_api::client::interceptors::context::Output;
use aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint;
use tokio::time::Instant;

use super::classify::Failure;
use super::raw::Exchange;
use super::stub::Stub;
use super::tests::{endpoint, fine, remove};
use super::*;
use crate::fault::Fault;

/// Where a call stands still, as a stopped process does: no task of its thread goes on meanwhile, but time does.
#[derive(Debug)]
enum Stop {
    /// Before the last look at its deadline.
    Signed,
    /// Behind it, on the way to the connection.
    AtTheDoor,
}

impl Stop {
    const LASTS: Duration = Duration::from_millis(100);

    /// Time for a call that stops, which is over when it goes on.
    const TIME: Duration = Duration::from_millis(50);

    async fn at(self, stub: &Stub) -> SdkTables {
        let mut tables = connect(&endpoint(&stub.url)).await.tables();
        tables.write("t", &[remove("first")]).await.expect("a connection is there now");
        let stopping = tables.client.config().to_builder().interceptor(self).build();
        tables.client = aws_sdk_dynamodb::Client::from_conf(stopping);
        tables
    }
}

#[dyn_dispatch_hint]
impl Intercept for Stop {
    fn name(&self) -> &'static str {
        "stop"
    }

    fn read_after_signing(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if matches!(self, Self::Signed) {
            std::thread::sleep(Self::LASTS);
        }
        Ok(())
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if matches!(self, Self::AtTheDoor) {
            std::thread::sleep(Self::LASTS);
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_request_whose_time_is_over_is_not_sent() {
    let mut stub = Stub::start(|_, _| fine()).await;
    let tables = Stop::Signed.at(&stub).await;
    stub.next().await;
    let changes = [remove("a")];
    let write = || tables.write("t", &changes);
    let start = Instant::now();
    let error = until(start + Stop::TIME, "BatchWriteItem", write()).await.expect_err("too late");
    assert_eq!(error.fault, Fault::Transient, "{error}");
    assert!(error.message.contains("its time was over"), "{error}");
    // And without a first step, when the time was over before.
    let error = until(start + Stop::TIME, "BatchWriteItem", write()).await.expect_err("too late");
    assert_eq!(error.fault, Fault::Transient, "{error}");
    until(Instant::now() + 100 * Stop::LASTS, "BatchWriteItem", write()).await.expect("in time");
    stub.next().await;
    assert!(stub.seen.try_recv().is_err(), "more was sent than one request");
}

#[tokio::test]
async fn a_connection_does_not_send_the_body_of_a_request_whose_time_is_over() {
    let mut stub = Stub::start(|_, _| fine()).await;
    let mut tables = Stop::AtTheDoor.at(&stub).await;
    stub.next().await;
    // As if the call's own task were the last to go on: nothing but the deadline of its body keeps it.
    let body = br#"{"RequestItems":{}}"#.to_vec();
    let exchange = Exchange::send("DynamoDB_20120810.BatchWriteItem", body, || {
        Output::erase(BatchWriteItemOutput::builder().build())
    });
    let call = tables.client.batch_write_item().request_items("t", Vec::new()).send();
    let exchanged = exchange.around(Instant::now() + Stop::TIME, call).await;
    assert!(exchanged.transmitted);
    let failure = Failure { operation: "BatchWriteItem", address: "there", transmitted: true };
    let error = failure.told(exchanged.result.expect_err("too late"));
    assert_eq!(error.fault, Fault::Transient, "{error}");
    assert!(error.message.contains("its time was over"), "{error}");
    assert!(stub.seen.try_recv().is_err(), "it was sent");

    tables.limits.write = Stop::TIME;
    tables.write("t", &[remove("a")]).await.expect_err("too late");
    assert!(stub.seen.try_recv().is_err(), "it was sent");
}
