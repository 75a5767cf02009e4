# shellcheck shell=bash disable=SC2034,SC2154 # names shared with run
# Starts and stops the servers that `run` measures; sourced by it.
#
# Uses `here`, `out`, `scratch`, `api_key`, `shardcast`, `embedded`, `bun`, `nchan_module`, `redis_port` and `redis_core` of `run`.

server_pid='' redis_pid=''

# end_process PID: ends a child of this script and waits until it is gone.
end_process() {
    [ -n "$1" ] || return 0
    kill "$1" 2>/dev/null || true
    for _ in {1..200}; do
        kill -0 "$1" 2>/dev/null || break
        sleep 0.05
    done
    kill -9 "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

free_port() {
    node -e '
        const server = require("net").createServer().listen(0, "127.0.0.1", () => {
            console.log(server.address().port);
            server.close();
        });
    '
}

# spawn CORES LOG COMMAND…: starts a program on its cores. Its process id is in $!.
spawn() {
    local cores=$1 log=$2
    shift 2
    taskset -c "$cores" "$@" >"$log" 2>&1 &
}

# wait_until COMMAND…: until it succeeds; fails after 20 s, or when the server has ended.
wait_until() {
    for _ in {1..400}; do
        "$@" 2>/dev/null && return
        [ -z "$server_pid" ] || kill -0 "$server_pid" 2>/dev/null || return 1
        sleep 0.05
    done
    return 1
}

listens() (: <"/dev/tcp/127.0.0.1/$1")
says_ready() { grep -q '^ready' "$1"; }
is_healthy() (
    exec 9<>"/dev/tcp/127.0.0.1/$1"
    printf 'GET /health/ready HTTP/1.0\r\n\r\n' >&9
    read -r status <&9
    [[ $status == *" 200 "* ]]
)

start_redis() {
    redis_port=$(free_port)
    spawn "$redis_core" "$out/logs/redis.log" \
        redis-server --port "$redis_port" --bind 127.0.0.1 --save '' --dir "$scratch"
    redis_pid=$!
    wait_until listens "$redis_port" || die "Redis did not start: see $out/logs/redis.log"
}

# start_server PEER CORES TRAITS: starts it fresh and waits until it serves. Sets `server_pid` (to stop it), `measured_pid`
# (whose CPU time counts), `load` (how clients reach it) and `publish` (how publications do). Fails if it does not come up.
start_server() {
    local peer=$1 cores=$2 traits=$3 port log=$out/logs/$1.log
    port=$(free_port)
    server_pid=
    # What the last one said is not taken for this one's.
    : >"$log"
    case $peer in
    bun) spawn "$cores" "$log" "$bun" "$here/bun-publish.ts" "$port" ;;
    ws) spawn "$cores" "$log" node "$here/ws-node.mjs" "$port" ;;
    ignis) spawn "$cores" "$log" "$bun" "$here/ignis.ts" "$port" "$redis_port" ;;
    nchan) start_nchan "$cores" "$port" "$log" ;;
    embedded)
        publish_port=$(free_port)
        spawn "$cores" "$log" "$embedded" "$port" "$publish_port"
        ;;
    shardcast*) start_shardcast "$peer" "$cores" "$port" "$log" "$traits" ;;
    esac
    server_pid=$!
    case $peer in
    nchan) wait_until listens "$port" ;;
    shardcast*) wait_until is_healthy "$admin_port" ;;
    *) wait_until says_ready "$log" ;;
    esac || return 1
    measured_pid=$server_pid
    # The master of nginx only waits; its one worker serves.
    if [ "$peer" = nchan ]; then measured_pid=$(pgrep -P "$server_pid" | head -n 1); fi
    load_of "$peer" "$port"
}

start_shardcast() {
    local peer=$1 cores=$2 port=$3 log=$4 traits=$5 settings=()
    case $peer in
    shardcast-redis) settings=(--redis-url "redis://127.0.0.1:$redis_port") ;;
    shardcast-topic)
        settings=(--redis-url "redis://127.0.0.1:$redis_port" --set mounts.0.dialect=topic --set mounts.0.path=/topics
            --set mounts.0.outbox_bytes_max=16MiB --set mounts.0.outbox_messages_max=262144)
        ;;
    shardcast-pace*) settings=(--set "server.flush_pace_percent=${peer#shardcast-pace}") ;;
    shardcast-*shard*) settings=(--set "server.shards=$(tr -dc 0-9 <<<"$peer")") ;;
    esac
    [[ $traits != *dev* ]] || settings+=(--set auth.dev=true)
    admin_port=$(free_port)
    spawn "$cores" "$log" env SHARDCAST_API_KEY="$api_key" "$shardcast" serve --listen "127.0.0.1:$port" \
        --admin-listen "127.0.0.1:$admin_port" --set auth.tokens.0.token=ok --set 'auth.rooms=*' \
        --set server.drain_period=0s "${settings[@]}"
}

start_nchan() {
    local cores=$1 port=$2 log=$3
    mkdir -p "$scratch/nginx"
    sed -e "s#@FOLDER@#$scratch/nginx#; s#@MODULE@#$nchan_module#; s#@PORT@#$port#" \
        "$here/nchan.conf.template" >"$scratch/nginx.conf"
    spawn "$cores" "$log" nginx -e stderr -c "$scratch/nginx.conf"
}

# load_of PEER PORT: where clients connect, what they say, and how is published. Every member gets the same text.
load_of() {
    local peer=$1 at=127.0.0.1:$2
    local text='{"event":"loadgen","data":{data}}'
    case $peer in
    bun | ws)
        load=(--target "ws://$at/ws" --dialect ignis)
        publish=(--publish "http://$at/publish" --publish-body "{room} $text" --publish-batch lines)
        ;;
    nchan)
        load=(--target "ws://$at/sub/{room}" --dialect raw)
        publish=(--publish "http://$at/pub/{room}" --publish-body "$text" --publish-pipeline 128 --publish-batch one)
        ;;
    embedded)
        load=(--target "ws://$at/ws" --dialect ignis)
        publish=(--publish "http://127.0.0.1:$publish_port/" --publish-body '{room} {data}' --publish-batch lines)
        ;;
    ignis | shardcast-redis)
        load=(--target "ws://$at/ws" --dialect ignis)
        publish=(--publish "redis://127.0.0.1:$redis_port")
        ;;
    shardcast-topic)
        load=(--target "ws://$at/topics" --dialect topic)
        publish=(--publish "redis://127.0.0.1:$redis_port")
        ;;
    shardcast*)
        load=(--target "ws://$at/ws" --dialect ignis)
        publish=(--publish "http://$at/api/emit" --publish-key "$api_key" --publish-batch array)
        ;;
    esac
}
