//! A control plane in memory, as strict as the service where its strictness has broken copies before.

mod beside;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use serde_json::{Map, Value, json};

use super::super::shape::list;
use crate::dynamo::{Error, Future, Operation, Schemas};
use crate::fault::Fault;

/// Tables of one account and region.
pub(super) struct Model {
    region: &'static str,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tables: BTreeMap<String, Table>,
    calls: Vec<(Operation, Value)>,
    /// Operations that it does not know.
    lacks: BTreeSet<&'static str>,
    /// Faults for the next calls of an operation.
    faults: Vec<(Operation, Fault, &'static str)>,
}

#[derive(Default)]
struct Table {
    description: Value,
    tags: BTreeMap<String, Value>,
    time_to_live: Option<Value>,
    recovery: Option<Value>,
    kinesis: BTreeMap<String, Value>,
    insights: BTreeMap<String, Value>,
    policies: BTreeMap<String, Value>,
    scaling: BTreeMap<&'static str, BTreeMap<String, Value>>,
    /// Descriptions that still show it busy.
    busy: u32,
}

impl Model {
    pub(super) fn new(region: &'static str) -> Self {
        Self { region, state: Mutex::default() }
    }

    /// From now on it does not know these operations.
    pub(super) fn lacks(&self, operations: &[Operation]) {
        self.state().lacks.extend(operations.iter().map(|operation| operation.name()));
    }

    /// The next call of `operation` fails.
    pub(super) fn fail_next(&self, operation: Operation, fault: Fault, code: &'static str) {
        self.state().faults.push((operation, fault, code));
    }

    /// Changes that were accepted or refused, in order.
    pub(super) fn changes(&self) -> Vec<(Operation, Value)> {
        let is_change = |(operation, _): &&(Operation, Value)| {
            !["Describe", "List", "Get"].iter().any(|prefix| operation.name().starts_with(prefix))
        };
        self.state().calls.iter().filter(is_change).cloned().collect()
    }

    /// Changes the description of a table by hand.
    pub(super) fn edit(&self, table: &str, edit: impl FnOnce(&mut Value)) {
        edit(&mut self.state().tables.get_mut(table).expect("it is there").description);
    }

    /// Gives a table what no call here gives it.
    pub(super) fn add_tag(&self, table: &str, name: &str, value: &str) {
        let mut state = self.state();
        state.tables.get_mut(table).expect("it is there").tags.insert(name.to_owned(), value.into());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while holding it")
    }

    fn arn(&self, table: &str) -> String {
        format!("arn:aws:dynamodb:{}:123456789012:table/{table}", self.region)
    }
}

impl Schemas for Model {
    fn call(&self, operation: Operation, body: Value) -> Future<'_, Value> {
        let mut state = self.state();
        state.calls.push((operation, body.clone()));
        let scripted = state.faults.iter().position(|(of, ..)| *of == operation);
        let answer = match scripted.map(|index| state.faults.remove(index)) {
            Some((_, fault, code)) => Err(failure(operation, fault, code, "scripted")),
            None if state.lacks.contains(operation.name()) => {
                Err(failure(operation, Fault::Invalid, "UnknownOperationException", ""))
            }
            None => state.answer(operation, &body, |table| self.arn(table)),
        };
        Box::pin(std::future::ready(answer))
    }
}

fn failure(operation: Operation, fault: Fault, code: &str, message: &str) -> Error {
    Error { code: Some(code.to_owned()), ..Error::new(operation.name(), fault, message) }
}

fn invalid(operation: Operation, message: &str) -> Error {
    failure(operation, Fault::Invalid, "ValidationException", message)
}

impl State {
    fn answer(
        &mut self,
        operation: Operation,
        body: &Value,
        arn: impl Fn(&str) -> String,
    ) -> Result<Value, Error> {
        if operation == Operation::CreateTable {
            return self.create(body, arn);
        }
        let name = table_of(body).to_owned();
        let missing = || failure(operation, Fault::Missing, "ResourceNotFoundException", "no such table");
        let table = self.tables.get_mut(&name).ok_or_else(missing)?;
        match operation {
            Operation::DescribeTable => {
                let mut description = table.description.clone();
                if table.busy > 0 {
                    table.busy -= 1;
                    description["TableStatus"] = "UPDATING".into();
                }
                Ok(json!({ "Table": description }))
            }
            Operation::UpdateTable if table.busy > 0 => {
                Err(failure(operation, Fault::Conflict, "ResourceInUseException", "busy"))
            }
            Operation::UpdateTable => {
                table.update(body)?;
                table.busy = 2;
                Ok(json!({}))
            }
            _ => table.beside(operation, body),
        }
    }

    fn create(&mut self, body: &Value, arn: impl Fn(&str) -> String) -> Result<Value, Error> {
        let name = body["TableName"].as_str().expect("a name").to_owned();
        if self.tables.contains_key(&name) {
            return Err(failure(Operation::CreateTable, Fault::Conflict, "ResourceInUseException", "exists"));
        }
        let members = [
            "TableName",
            "KeySchema",
            "AttributeDefinitions",
            "OnDemandThroughput",
            "WarmThroughput",
            "LocalSecondaryIndexes",
            "VectorIndexes",
        ];
        let mut table = Table { busy: 2, ..Table::default() };
        let mut description = Map::new();
        for member in members {
            if let Some(value) = body.get(member) {
                description.insert(member.to_owned(), value.clone());
            }
        }
        table.description = description.into();
        let description = &mut table.description;
        description["TableArn"] = arn(&name).into();
        description["TableStatus"] = "ACTIVE".into();
        description["ItemCount"] = 0.into();
        if let Some(class) = body.get("TableClass") {
            description["TableClassSummary"] = json!({ "TableClass": class });
        }
        table.set_billing(body)?;
        for index in list(&body["GlobalSecondaryIndexes"]) {
            table.add_index(index)?;
        }
        for tag in list(&body["Tags"]) {
            table.tags.insert(tag["Key"].as_str().expect("a key").to_owned(), tag["Value"].clone());
        }
        table.set_common(body);
        table.check(Operation::CreateTable)?;
        self.tables.insert(name, table);
        Ok(json!({}))
    }
}

impl Table {
    fn is_on_demand(&self) -> bool {
        self.description["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    }

    fn set_billing(&mut self, body: &Value) -> Result<(), Error> {
        let Some(mode) = body.get("BillingMode") else { return Ok(()) };
        self.description["BillingModeSummary"] = json!({ "BillingMode": mode });
        let units = body.get("ProvisionedThroughput");
        if (mode == "PROVISIONED") != units.is_some() {
            return Err(invalid(Operation::CreateTable, "capacity does not fit the billing mode"));
        }
        // What an on-demand table shows.
        let none = json!({ "ReadCapacityUnits": 0, "WriteCapacityUnits": 0, "NumberOfDecreasesToday": 0 });
        self.description["ProvisionedThroughput"] = units.cloned().unwrap_or(none);
        Ok(())
    }

    fn add_index(&mut self, index: &Value) -> Result<(), Error> {
        if index.get("ProvisionedThroughput").is_some() == self.is_on_demand() {
            let message = "an index's capacity does not fit the billing mode";
            return Err(invalid(Operation::UpdateTable, message));
        }
        let mut index = index.clone();
        index["IndexStatus"] = "ACTIVE".into();
        let indexes = &mut self.description["GlobalSecondaryIndexes"];
        if indexes.is_null() {
            *indexes = json!([]);
        }
        indexes.as_array_mut().expect("a list").push(index);
        Ok(())
    }

    fn set_common(&mut self, body: &Value) {
        let description = &mut self.description;
        if let Some(specification) = body.get("SSESpecification") {
            let mut told = json!({ "Status": "ENABLED", "SSEType": "KMS" });
            let key = specification.get("KMSMasterKeyId").cloned();
            told["KMSMasterKeyArn"] = key.unwrap_or_else(|| "arn:aws:kms:x:1:key/aws-dynamodb".into());
            description["SSEDescription"] = told;
        }
        if let Some(specification) = body.get("StreamSpecification") {
            description["StreamSpecification"] = specification.clone();
            let arn = format!("{}/stream/2026", description["TableArn"].as_str().expect("an ARN"));
            description["LatestStreamArn"] = arn.into();
        }
        for member in ["WarmThroughput", "DeletionProtectionEnabled"] {
            if let Some(value) = body.get(member) {
                description[member] = value.clone();
            }
        }
        if let Some(bounds) = body.get("OnDemandThroughput") {
            description["OnDemandThroughput"] = bounds.clone();
        }
    }

    /// Exactly those attributes are defined that keys use.
    fn check(&self, operation: Operation) -> Result<(), Error> {
        let description = &self.description;
        let indexes = ["LocalSecondaryIndexes", "GlobalSecondaryIndexes"];
        let indexes = indexes.into_iter().flat_map(|member| list(&description[member]));
        let keys = indexes.map(|index| &index["KeySchema"]).chain([&description["KeySchema"]]);
        let vectors = list(&description["VectorIndexes"]).iter().map(|index| &index["SearchSchema"]);
        let used: BTreeSet<_> =
            keys.chain(vectors).flat_map(list).map(|element| element["AttributeName"].as_str()).collect();
        let defined: BTreeSet<_> = list(&description["AttributeDefinitions"])
            .iter()
            .map(|it| it["AttributeName"].as_str())
            .collect();
        if used == defined {
            return Ok(());
        }
        Err(invalid(operation, &format!("attributes used {used:?}, defined {defined:?}")))
    }

    fn update(&mut self, body: &Value) -> Result<(), Error> {
        let operation = Operation::UpdateTable;
        let updates = list(&body["GlobalSecondaryIndexUpdates"]);
        let created = updates.iter().filter(|update| update.get("Create").is_some()).count()
            + list(&body["VectorIndexUpdates"]).len();
        if created > 1 {
            return Err(invalid(operation, "one index at a time"));
        }
        let parts = body.as_object().expect("an object").keys();
        let parts = parts.filter(|part| !["TableName", "AttributeDefinitions"].contains(&part.as_str()));
        if parts.count() > 1 && body.get("BillingMode").is_none() {
            return Err(invalid(operation, "one change at a time"));
        }
        self.set_billing(body)?;
        if let (Some(units), None) = (body.get("ProvisionedThroughput"), body.get("BillingMode")) {
            self.description["ProvisionedThroughput"] = units.clone();
        }
        if let Some(definitions) = body.get("AttributeDefinitions") {
            self.description["AttributeDefinitions"] = definitions.clone();
        }
        if let Some(class) = body.get("TableClass") {
            self.description["TableClassSummary"] = json!({ "TableClass": class });
        }
        for update in updates {
            if let Some(index) = update.get("Create") {
                self.add_index(index)?;
            }
            if let Some(change) = update.get("Update") {
                let indexes = self.description["GlobalSecondaryIndexes"].as_array_mut();
                let index = indexes.into_iter().flatten();
                let index = index.into_iter().find(|index| index["IndexName"] == change["IndexName"]);
                let index = index.ok_or_else(|| invalid(operation, "no such index"))?;
                for (member, value) in change.as_object().expect("an object") {
                    index[member.as_str()] = value.clone();
                }
            }
        }
        for update in list(&body["VectorIndexUpdates"]) {
            let indexes = &mut self.description["VectorIndexes"];
            if indexes.is_null() {
                *indexes = json!([]);
            }
            indexes.as_array_mut().expect("a list").push(update["Create"].clone());
        }
        self.set_common(body);
        self.check(operation)
    }
}

fn table_of(body: &Value) -> &str {
    let text = |member: &str| body.get(member).and_then(Value::as_str);
    let resource = || text("ResourceId").or_else(|| list(&body["ResourceIds"]).first()?.as_str());
    let name = text("TableName").or_else(|| text("ResourceArn")).or_else(resource).expect("a table");
    let name = name.split_once("table/").map_or(name, |(_, name)| name);
    name.split('/').next().unwrap_or_default()
}
