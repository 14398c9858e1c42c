//! Calls about tables over a real socket.

use serde_json::json;

use super::client::is_of_one_service;
use super::stub::Stub;
use super::tests::{endpoint, failing};
use super::*;
use crate::fault::Fault;

#[tokio::test]
async fn every_operation_goes_out_under_its_own_name_with_its_own_body() {
    let mut stub = Stub::start(|_, _| failing(200, r#"{"Table":{"Novelty":[1.5,{"x":null}]}}"#)).await;
    let schemas = connect(&endpoint(&stub.url)).await.schemas();
    for operation in Operation::ALL {
        let body = json!({ "TableName": "Orders", "Novel": { "Deep": [true, "ä\"", 7, 0.5] } });
        let answer = schemas.call(*operation, body.clone()).await.expect("an answer");
        assert_eq!(answer, json!({ "Table": { "Novelty": [1.5, { "x": null }] } }));
        let seen = stub.next().await;
        assert_eq!(seen.json(), body);
        let (target, version, scope) = match operation.service() {
            Service::DynamoDb => ("DynamoDB_20120810", "1.0", "/dynamodb/aws4_request"),
            Service::Scaling => ("AnyScaleFrontendService", "1.1", "/application-autoscaling/aws4_request"),
        };
        assert_eq!(seen.header("x-amz-target"), Some(&*format!("{target}.{}", operation.name())));
        assert_eq!(seen.header("content-type"), Some(&*format!("application/x-amz-json-{version}")));
        let signature = seen.header("authorization").expect("it is signed");
        assert!(signature.contains(scope) && signature.contains("x-amz-target"), "{signature}");
    }
}

#[tokio::test]
async fn errors_keep_codes_that_the_sdk_has_never_heard_of() {
    let stub = Stub::start(|number, _| match number {
        0 => failing(400, r#"{"__type":"x#PolicyNotFoundException","message":"none"}"#),
        1 => failing(400, r#"{"__type":"x#UnknownOperationException"}"#),
        2 => failing(400, r#"{"__type":"x#ResourceInUseException","message":"busy"}"#),
        3 => failing(404, "<html>"),
        _ => failing(200, "no JSON"),
    })
    .await;
    let schemas = connect(&endpoint(&stub.url)).await.schemas();
    let call = async || {
        schemas
            .call(Operation::GetResourcePolicy, json!({ "ResourceArn": "arn:t" }))
            .await
            .expect_err("it fails")
    };
    let error = call().await;
    assert_eq!((error.code.as_deref(), error.fault), (Some("PolicyNotFoundException"), Fault::Invalid));
    assert_eq!(error.to_string(), "GetResourcePolicy: PolicyNotFoundException: none");
    let error = call().await;
    assert_eq!((error.code.as_deref(), error.fault), (Some("UnknownOperationException"), Fault::Invalid));
    assert_eq!(call().await.fault, Fault::Conflict);
    assert_eq!(call().await.fault, Fault::Protocol);
    assert_eq!(call().await.fault, Fault::Protocol);
}

#[tokio::test]
async fn the_attribute_by_which_items_expire_is_told_while_any_do() {
    let stub = Stub::start(|number, _| {
        let status = ["ENABLED", "ENABLING", "DISABLING", "DISABLED"].get(number);
        match status {
            Some(status) => failing(
                200,
                &format!(
                    r#"{{"TimeToLiveDescription":{{"AttributeName":"ttl","TimeToLiveStatus":"{status}"}}}}"#
                ),
            ),
            None => failing(400, r#"{"__type":"x#UnknownOperationException"}"#),
        }
    })
    .await;
    let schemas = connect(&endpoint(&stub.url)).await.schemas();
    for expected in [Some("ttl"), Some("ttl"), Some("ttl"), None] {
        assert_eq!(ttl_attribute(&schemas, "t").await.expect("it is told").as_deref(), expected);
    }
    ttl_attribute(&schemas, "t").await.expect_err("nobody tells");
}

#[test]
fn an_address_of_aws_belongs_to_one_service_and_any_other_to_all() {
    for url in [
        "https://dynamodb.eu-west-1.amazonaws.com",
        "https://vpce-1-2.dynamodb.eu-west-1.vpce.amazonaws.com/",
        "https://dynamodb.cn-north-1.amazonaws.com.cn:443",
        "https://dynamodb.eu-west-1.api.aws",
    ] {
        assert!(is_of_one_service(url), "{url}");
    }
    for url in ["http://127.0.0.1:8000", "http://localhost", "https://amazonaws.com.example.org/x"] {
        assert!(!is_of_one_service(url), "{url}");
    }
}
