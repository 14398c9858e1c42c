//! What the model does beside the table's own description.

use serde_json::{Value, json};

use super::{Table, failure};
use crate::dynamo::{Error, Operation};
use crate::fault::Fault;
use crate::schema::shape::list;

impl Table {
    pub(super) fn beside(&mut self, operation: Operation, body: &Value) -> Result<Value, Error> {
        match operation {
            Operation::TagResource
            | Operation::UpdateTimeToLive
            | Operation::UpdateContinuousBackups
            | Operation::EnableKinesisStreamingDestination
            | Operation::UpdateContributorInsights
            | Operation::PutResourcePolicy => {
                self.change(operation, body);
                Ok(json!({}))
            }
            Operation::GetResourcePolicy => {
                let resource = body["ResourceArn"].as_str().unwrap_or_default();
                let policy = self.policies.get(resource).ok_or_else(|| {
                    failure(operation, Fault::Invalid, "PolicyNotFoundException", "no policy")
                })?;
                Ok(json!({ "Policy": policy, "RevisionId": "7" }))
            }
            _ => Ok(self.tell(operation, body)),
        }
    }

    fn change(&mut self, operation: Operation, body: &Value) {
        match operation {
            Operation::TagResource => {
                for tag in list(&body["Tags"]) {
                    let name = tag["Key"].as_str().expect("a key").to_owned();
                    self.tags.insert(name, tag["Value"].clone());
                }
            }
            Operation::UpdateTimeToLive => {
                self.time_to_live = Some(body["TimeToLiveSpecification"]["AttributeName"].clone());
            }
            Operation::UpdateContinuousBackups => {
                let days = &body["PointInTimeRecoverySpecification"]["RecoveryPeriodInDays"];
                self.recovery = Some(days.clone());
            }
            Operation::EnableKinesisStreamingDestination => {
                let configuration = &body["EnableKinesisStreamingConfiguration"];
                let precision = configuration["ApproximateCreationDateTimePrecision"].clone();
                self.kinesis.insert(body["StreamArn"].as_str().expect("an ARN").to_owned(), precision);
            }
            Operation::UpdateContributorInsights => {
                let index = body["IndexName"].as_str().unwrap_or_default().to_owned();
                self.insights.insert(index, body["ContributorInsightsMode"].clone());
            }
            Operation::PutResourcePolicy => {
                self.policies
                    .insert(body["ResourceArn"].as_str().expect("an ARN").to_owned(), body["Policy"].clone());
            }
            _ => unreachable!("{operation:?} changes nothing here"),
        }
    }

    fn tell(&mut self, operation: Operation, body: &Value) -> Value {
        match operation {
            Operation::ListTagsOfResource => {
                // One to a page.
                let at: usize = body["NextToken"].as_str().map_or(0, |at| at.parse().expect("a number"));
                let tag = |(name, value): (&String, &Value)| json!({ "Key": name, "Value": value });
                let page: Vec<_> = self.tags.iter().skip(at).take(1).map(tag).collect();
                let more = at + 1 < self.tags.len();
                json!({ "Tags": page, "NextToken": more.then(|| (at + 1).to_string()) })
            }
            Operation::DescribeTimeToLive => {
                let told = match &self.time_to_live {
                    Some(attribute) => json!({ "TimeToLiveStatus": "ENABLED", "AttributeName": attribute }),
                    None => json!({ "TimeToLiveStatus": "DISABLED" }),
                };
                json!({ "TimeToLiveDescription": told })
            }
            Operation::DescribeContinuousBackups => {
                let told = match &self.recovery {
                    Some(days) => {
                        json!({ "PointInTimeRecoveryStatus": "ENABLED", "RecoveryPeriodInDays": days })
                    }
                    None => json!({ "PointInTimeRecoveryStatus": "DISABLED" }),
                };
                json!({ "ContinuousBackupsDescription": { "PointInTimeRecoveryDescription": told } })
            }
            Operation::DescribeKinesisStreamingDestination => {
                let told = |(arn, precision): (&String, &Value)| {
                    json!({
                        "StreamArn": arn,
                        "DestinationStatus": "ACTIVE",
                        "ApproximateCreationDateTimePrecision": precision,
                    })
                };
                json!({ "KinesisDataStreamDestinations": self.kinesis.iter().map(told).collect::<Vec<_>>() })
            }
            Operation::DescribeContributorInsights => {
                let index = body["IndexName"].as_str().unwrap_or_default();
                let mut told = json!({ "ContributorInsightsStatus": "DISABLED" });
                if let Some(mode) = self.insights.get(index) {
                    told = json!({ "ContributorInsightsStatus": "ENABLED", "ContributorInsightsMode": mode });
                }
                if !index.is_empty() {
                    told["IndexName"] = index.into();
                }
                told
            }
            _ => self.scale(operation, body),
        }
    }

    fn scale(&mut self, operation: Operation, body: &Value) -> Value {
        let (member, writes) = match operation {
            Operation::RegisterScalableTarget => ("ScalableTargets", true),
            Operation::PutScalingPolicy => ("ScalingPolicies", true),
            Operation::PutScheduledAction => ("ScheduledActions", true),
            Operation::DescribeScalableTargets => ("ScalableTargets", false),
            Operation::DescribeScalingPolicies => ("ScalingPolicies", false),
            Operation::DescribeScheduledActions => ("ScheduledActions", false),
            _ => unreachable!("{operation:?} is answered elsewhere"),
        };
        let all = self.scaling.entry(member).or_default();
        if writes {
            let part = |member: &str| body[member].as_str().unwrap_or_default().to_owned();
            let key = [
                part("ResourceId"),
                part("ScalableDimension"),
                part("PolicyName"),
                part("ScheduledActionName"),
            ];
            all.insert(key.join("|"), body.clone());
            return json!({});
        }
        let wanted = |found: &&Value| match body["ResourceId"].as_str() {
            Some(resource) => found["ResourceId"] == resource,
            None => list(&body["ResourceIds"]).contains(&found["ResourceId"]),
        };
        json!({ member: all.values().filter(wanted).collect::<Vec<_>>() })
    }
}
