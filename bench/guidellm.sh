#!/usr/bin/env bash
# bench/guidellm.sh: guidellm, a public load generator (PyPI), against watt serve: a sweep from one request
# at a time over rates between to as many as go. Checked with guidellm 0.8.1.
#
#   bench/guidellm.sh [MODEL [SECONDS]]    default: models/pilot.gguf, 10 s for each rate
#
# STEPS (5) is how many rates. GUIDELLM names the program (default: guidellm in PATH), WATT the server's.
# Prompts are 50 short texts in a file made here, so that nothing is fetched. The tables go to standard output.
set -eu
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
model=${1:-$root/models/pilot.gguf} seconds=${2:-10}
watt=${WATT:-$root/build/watt} guidellm=${GUIDELLM:-guidellm}
command -v "$guidellm" >/dev/null || { echo "guidellm is not here: pip install guidellm" >&2; exit 77; }
folder=$(mktemp -d)
server=
finish() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    [ -z "$server" ] || wait "$server" 2>/dev/null || true
    rm -rf "$folder"
}
trap finish EXIT
for i in $(seq 0 49); do
    text="Tell me of $i things."
    printf '{"prompt": "%s %s %s %s", "output_tokens_count": 16}\n' "$text" "$text" "$text" "$text"
done >"$folder/prompts.jsonl"
"$watt" serve "$model" --port 0 --quiet --name model >"$folder/url" &
server=$!
for _ in $(seq 100); do
    [ -s "$folder/url" ] && break
    sleep 0.1
done
HF_HUB_OFFLINE=1 "$guidellm" run --disable-console-interactive \
    --backend "kind=openai_http,target=$(cat "$folder/url"),model=model" \
    --profile kind=sweep,sweep_size="${STEPS:-5}" --constraint "kind=max_duration,seconds=$seconds" \
    --data "kind=json_file,path=$folder/prompts.jsonl" --output kind=console
