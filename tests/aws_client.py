"""Writes to a table with boto3 as an application would, and compares tables item by item, typed.

    aws_client.py write|compare ENDPOINT REGION TABLE [REGION TABLE]...

The first table is the source; the others are its replicas.
"""

import os
import random
import sys
import time

import boto3
from boto3.dynamodb.types import Binary, TypeDeserializer
from botocore.config import Config

HASH, RANGE = 'clé "hash"', "tri\\'☃.#"
CHANGES = 1500
# DynamoDB Local's streams show an empty map as a value without a type.
LEAST_MEMBERS = 1 if os.environ.get("DYNAMIRROR_TEST_SERVER") == "dynamodb-local" else 0
KEYS = 150


def client(endpoint, region):
    config = Config(retries={"mode": "standard", "max_attempts": 5})
    return boto3.client("dynamodb", region_name=region, endpoint_url=endpoint, config=config)


def key(index):
    return {HASH: {"S": f'boto3 "{index // 2}" \\ 🦀'}, RANGE: {"N": str(index)}}


def value(rng, depth=3):
    scalars = [
        lambda: {"S": rng.choice(["", "x", 'a "quoted" \\ text', "snow ☃", "line\nbreak\t\u0001", "\u2028"])},
        lambda: {"N": rng.choice(["0", "-1", "12345678901234567890123456789012345678", "0.00000000000000000001", str(rng.random())])},
        lambda: {"B": rng.randbytes(rng.randrange(0, 30))},
        lambda: {"BOOL": rng.random() < 0.5},
        lambda: {"NULL": True},
        lambda: {"SS": list({f"s{rng.randrange(9)}", 'q"', "é"})},
        lambda: {"NS": list({str(rng.randrange(99)), "-1.5"})},
        lambda: {"BS": list({rng.randbytes(3), b"\x00\xff"})},
    ]
    nested = [
        lambda: {"L": [value(rng, depth - 1) for _ in range(rng.randrange(4))]},
        lambda: {"M": {name: value(rng, depth - 1) for name in rng.sample(["a", "b.c", 'é "', "☃", "S"], rng.randrange(LEAST_MEMBERS, 4))}},
    ]
    return rng.choice(scalars + (nested if depth else []))()


def item(rng, index, version):
    names = rng.sample(["a", "b.c", "#d", 'é "q"', "\\", "☃", "S"], rng.randrange(1, 5))
    return {**{name: value(rng) for name in names}, "version": {"N": str(version)}, **key(index)}


def write(endpoint, source):
    rng = random.Random(94)
    region, table = source
    dynamodb = client(endpoint, region)
    version = 0
    large = {**key(0), "huge": {"S": "h" * 399 * 1024}}
    dynamodb.put_item(TableName=table, Item=large)
    while version < CHANGES:
        version += 1
        act = rng.randrange(10)
        index = rng.randrange(KEYS)
        if act < 2:
            dynamodb.put_item(TableName=table, Item=item(rng, index, version))
        elif act < 5:
            dynamodb.update_item(
                TableName=table,
                Key=key(index),
                UpdateExpression="SET #set = :value, #version = :version REMOVE #remove ADD #count :one",
                ExpressionAttributeNames={"#set": "a", "#version": "version", "#remove": "☃", "#count": "count"},
                ExpressionAttributeValues={":value": value(rng), ":version": {"N": str(version)}, ":one": {"N": "1"}},
            )
        elif act < 6:
            dynamodb.delete_item(TableName=table, Key=key(index))
        elif act < 8:
            actions = []
            for number in rng.sample(range(KEYS), rng.randrange(2, 8)):
                version += 1
                put = {"Put": {"TableName": table, "Item": item(rng, number, version)}}
                delete = {"Delete": {"TableName": table, "Key": key(number)}}
                actions.append(rng.choice([put, put, delete]))
            dynamodb.transact_write_items(TransactItems=actions)
        else:
            requests = []
            for number in rng.sample(range(KEYS), rng.randrange(1, 25)):
                version += 1
                put = {"PutRequest": {"Item": item(rng, number, version)}}
                delete = {"DeleteRequest": {"Key": key(number)}}
                requests.append(rng.choice([put, put, delete]))
            while requests:
                answer = dynamodb.batch_write_item(RequestItems={table: requests})
                requests = answer.get("UnprocessedItems", {}).get(table, [])
        # Long enough in all that a few workers live and die meanwhile.
        time.sleep(0.03)
    print(f"boto3 made {version} changes")


def scan(endpoint, place):
    region, table = place
    plain = TypeDeserializer()
    found = {}
    for page in client(endpoint, region).get_paginator("scan").paginate(TableName=table, ConsistentRead=True):
        for raw in page["Items"]:
            typed = {name: (next(iter(value)), canonical(plain.deserialize(value))) for name, value in raw.items()}
            found[(raw[HASH]["S"], raw[RANGE]["N"])] = typed
    return found


def canonical(value):
    """The value with types that compare: sets without order, numbers and bytes apart."""
    if isinstance(value, dict):
        return ("M", sorted((name, canonical(member)) for name, member in value.items()))
    if isinstance(value, list):
        return ("L", [canonical(member) for member in value])
    if isinstance(value, set):
        return ("set", sorted(map(canonical, value)))
    if isinstance(value, Binary):
        return ("B", value.value.hex())
    return (type(value).__name__, str(value))


def compare(endpoint, source, replicas):
    expected = scan(endpoint, source)
    if len(expected) < KEYS // 4:
        sys.exit(f"only {len(expected)} items at the source: this shows nothing")
    for replica in replicas:
        found = scan(endpoint, replica)
        differing = [key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)]
        for each in differing[:5]:
            print(f"{each}\n  source:  {expected.get(each)}\n  replica: {found.get(each)}")
        if differing:
            sys.exit(f"{replica} differs from its source in {len(differing)} items")
        print(f"{replica[1]}: {len(found)} items, all as at the source")


def main():
    act, endpoint, *rest = sys.argv[1:]
    places = list(zip(rest[::2], rest[1::2]))
    if act == "write":
        write(endpoint, places[0])
    elif act == "compare" and len(places) > 1:
        compare(endpoint, places[0], places[1:])
    else:
        sys.exit(__doc__)


main()
