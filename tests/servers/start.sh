#!/bin/sh
# start.sh seaweedfs|juicefs DIR PORT
#
# Starts one S3 server on the loopback address, waits until it answers, makes a
# bucket and prints one JSON line: {"endpoint","access","secret","bucket"}.
# Everything it stores or logs is under DIR; DIR/pid is the server to kill.
# SeaweedFS takes PORT..PORT+3 and the same plus 10000; JuiceFS takes PORT.
#
# With HOLDFAST_TEST_PARENT=PID in the environment the server also dies when that
# process is gone, so a test that was killed leaves nothing behind.
set -eu

[ $# = 3 ] || { echo "usage: start.sh seaweedfs|juicefs DIR PORT" >&2; exit 2; }
kind=$1 dir=$2 port=$3
here=$(cd "$(dirname "$0")" && pwd)
bin=$("$here/install.sh")
access=holdfast-test secret=holdfast-test-secret bucket=holdfast
endpoint=http://127.0.0.1:$port
mkdir -p "$dir/data"
dir=$(cd "$dir" && pwd)

case $kind in
seaweedfs)
    cat >"$dir/keys.json" <<JSON
{"identities":[{"name":"holdfast","credentials":[{"accessKey":"$access","secretKey":"$secret"}],
 "actions":["Admin","Read","Write","List","Tagging"]}]}
JSON
    # -volume.max=400: with the default the server is full after three buckets.
    setsid "$bin/weed" -logtostderr=true server -ip=127.0.0.1 -ip.bind=127.0.0.1 \
        "-dir=$dir/data" "-master.port=$((port + 1))" "-volume.port=$((port + 2))" \
        -filer "-filer.port=$((port + 3))" -s3 "-s3.port=$port" "-s3.config=$dir/keys.json" \
        -master.volumeSizeLimitMB=128 -volume.max=400 -iam=false -s3.port.iceberg=0 \
        -s3.port.lance=0 -volume.preStopSeconds=1 -master.telemetry=false \
        >"$dir/log" 2>&1 </dev/null &
    ;;
juicefs)
    "$bin/juicefs" format "sqlite3://$dir/meta.db" holdfast --storage file \
        --bucket "$dir/data/" >"$dir/log" 2>&1 </dev/null
    MINIO_ROOT_USER=$access MINIO_ROOT_PASSWORD=$secret \
        setsid "$bin/juicefs" gateway --no-usage-report --multi-buckets --keep-etag \
        --cache-dir "$dir/cache" "sqlite3://$dir/meta.db" "127.0.0.1:$port" \
        >>"$dir/log" 2>&1 </dev/null &
    ;;
*)
    echo "start.sh: no server called $kind; there are seaweedfs and juicefs" >&2
    exit 2
    ;;
esac
server=$!
echo "$server" >"$dir/pid"

if [ -n "${HOLDFAST_TEST_PARENT:-}" ]; then
    (
        while kill -0 "$HOLDFAST_TEST_PARENT" 2>/dev/null && kill -0 "$server" 2>/dev/null; do
            sleep 1
        done
        kill -9 "$server" 2>/dev/null
    ) >/dev/null 2>&1 </dev/null &
fi

if ! "$bin/python3" "$here/s3.py" make-bucket "$endpoint" "$access" "$secret" "$bucket" 90; then
    kill -9 "$server" 2>/dev/null || true
    echo "start.sh: $kind did not come up on $endpoint; the end of its log:" >&2
    tail -n 20 "$dir/log" >&2
    exit 1
fi
printf '{"endpoint":"%s","access":"%s","secret":"%s","bucket":"%s"}\n' \
    "$endpoint" "$access" "$secret" "$bucket"
