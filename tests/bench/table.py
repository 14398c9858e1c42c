"""Tables for the benchmarks: fills one, says what is in it, compares two.

Speaks DynamoDB's JSON to a local server directly, without an SDK: filling and comparing shall not take longer than
what is measured. Local servers check no signature, but read the region and the access key from its header.
"""

import base64
import hashlib
import http.client
import json
import random
import time
import urllib.parse

# The same table in every run.
SEED = 20
# A batch that BatchWriteItem takes.
BATCH = 25
# Both sizes that are usual: an entry of an index or a session, and a document.
SMALL_BYTES, LARGE_BYTES = 200, 1000
AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=bench/20200101/eu-west-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0"
)


class Server:
    def __init__(self, endpoint):
        self.address = urllib.parse.urlsplit(endpoint).netloc
        self.connection = http.client.HTTPConnection(self.address, timeout=120)

    def call(self, operation, **request):
        headers = {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": f"DynamoDB_20120810.{operation}",
            "X-Amz-Date": "20200101T000000Z",
            "Authorization": AUTHORIZATION,
        }
        try:
            answer = self.exchange(json.dumps(request), headers)
        except (ConnectionError, http.client.HTTPException):
            # A server closes connections that were idle for the length of a copy.
            self.connection.close()
            answer = self.exchange(json.dumps(request), headers)
        body = json.loads(answer.read())
        if answer.status != 200:
            raise Refused(operation, body)
        return body

    def exchange(self, body, headers):
        self.connection.request("POST", "/", body, headers)
        return self.connection.getresponse()

    def scan(self, table):
        start = {}
        while True:
            page = self.call("Scan", TableName=table, ConsistentRead=True, **start)
            yield from page["Items"]
            if "LastEvaluatedKey" not in page:
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def put_all(self, table, items):
        batch = []
        for item in items:
            batch.append({"PutRequest": {"Item": item}})
            if len(batch) == BATCH:
                self.write(table, batch)
                batch = []
        if batch:
            self.write(table, batch)

    def write(self, table, batch):
        while batch:
            answer = self.call("BatchWriteItem", RequestItems={table: batch})
            batch = answer.get("UnprocessedItems", {}).get(table)

    def create(self, table, keys, attributes):
        self.call("CreateTable", TableName=table, KeySchema=keys, AttributeDefinitions=attributes,
                  BillingMode="PAY_PER_REQUEST")
        self.wait(table)

    def wait(self, table):
        while self.call("DescribeTable", TableName=table)["Table"]["TableStatus"] != "ACTIVE":
            time.sleep(0.05)

    def delete(self, table):
        try:
            self.call("DeleteTable", TableName=table)
            while True:
                self.call("DescribeTable", TableName=table)
                time.sleep(0.05)
        except Refused as refused:
            if "ResourceNotFound" not in refused.kind:
                raise


class Refused(Exception):
    def __init__(self, operation, body):
        self.kind = body.get("__type", "")
        super().__init__(f"{operation}: {self.kind}: {body.get('message') or body.get('Message')}")


def item(rng, number):
    """One item of mixed types, every second one about 200 B and the others about 1 KB as JSON."""
    size = LARGE_BYTES if number % 2 else SMALL_BYTES
    value = {
        "customer": {"S": f"customer-{number // 4:08}"},
        "order": {"N": str(number % 4)},
        "placed": {"N": str(1_700_000_000 + rng.randrange(10**8))},
        "paid": {"BOOL": rng.random() < 0.5},
    }
    if number % 2:
        value["address"] = {"M": {
            "street": {"S": text(rng, 24)},
            "lines": {"L": [{"S": text(rng, 12)}, {"N": str(rng.randrange(1000))}, {"NULL": True}]},
        }}
        value["tags"] = {"SS": sorted({text(rng, 6) for _ in range(4)})}
        value["sizes"] = {"NS": [str(n) for n in sorted(rng.sample(range(100), 3))]}
        value["thumbnail"] = {"B": base64.b64encode(rng.randbytes(60)).decode()}
    # One in a hundred holds what is legal but not usual: a number of 38 digits, and binary below the top level.
    if number % 100 == 7:
        value["account"] = {"N": "12345678901234567890123456789012345678"}
        value["keys"] = {"L": [{"B": base64.b64encode(rng.randbytes(16)).decode()}]}
    rest = size - len(json.dumps(value)) - len(', "note": {"S": ""}')
    if rest > 0:
        value["note"] = {"S": text(rng, rest)}
    return value


def text(rng, length):
    return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz ABCDEFGHIJ0123456789éß", k=length))


def fill(server, table, count):
    """Makes a table of so many items, with a stream. Returns their bytes as JSON."""
    server.delete(table)
    server.create(
        table,
        [{"AttributeName": "customer", "KeyType": "HASH"}, {"AttributeName": "order", "KeyType": "RANGE"}],
        [{"AttributeName": "customer", "AttributeType": "S"}, {"AttributeName": "order", "AttributeType": "N"}],
    )
    rng = random.Random(SEED)
    bytes_total = 0

    def items():
        nonlocal bytes_total
        for number in range(count):
            value = item(rng, number)
            bytes_total += len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
            yield value

    server.put_all(table, items())
    # Switched on afterwards: the copy is measured, not the replay of what filled the table.
    server.call("UpdateTable", TableName=table, StreamSpecification={
        "StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"})
    server.wait(table)
    return bytes_total


def like(server, table, new):
    """An empty table of the same keys; one that is there is deleted first."""
    description = server.call("DescribeTable", TableName=table)["Table"]
    server.delete(new)
    server.create(new, description["KeySchema"], description["AttributeDefinitions"])


def key(value):
    return value["customer"]["S"], value["order"]["N"]


def canonical(value):
    """Sets have no order; everything else is compared as it is spelled."""
    if isinstance(value, dict):
        return {name: sorted(inner) if name in ("SS", "NS", "BS") and isinstance(inner, list) else canonical(inner)
                for name, inner in value.items()}
    return [canonical(inner) for inner in value] if isinstance(value, list) else value


def digests(server, table):
    return {
        key(value): hashlib.blake2b(json.dumps(canonical(value), sort_keys=True).encode(), digest_size=16).digest()
        for value in server.scan(table)
    }


def compare(server, table, other):
    """How many items are missing in the other, extra there, or different."""
    ours, theirs = digests(server, table), digests(server, other)
    common = ours.keys() & theirs.keys()
    return {
        "missing": len(ours) - len(common),
        "extra": len(theirs) - len(common),
        "different": sum(ours[name] != theirs[name] for name in common),
    }


def change(server, table, count):
    """Plants so many differences: missing, extra and changed items in turn. Returns how many of each."""
    values = sorted(server.scan(table), key=key)
    planted = {"missing": 0, "extra": 0, "different": 0}
    for at, value in enumerate(random.Random(SEED).sample(values, count)):
        name = {"customer": value["customer"], "order": value["order"]}
        if at % 3 == 0:
            server.call("DeleteItem", TableName=table, Key=name)
            planted["missing"] += 1
        elif at % 3 == 1:
            server.call("PutItem", TableName=table, Item={**value, "order": {"N": str(1000 + at)}})
            planted["extra"] += 1
        else:
            server.call("PutItem", TableName=table, Item={**value, "paid": {"S": "perhaps"}})
            planted["different"] += 1
    return planted
