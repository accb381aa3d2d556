#!/usr/bin/env python3
"""lm-eval through local-completions (scores of continuations) and local-chat-completions (answers)."""
# requires: lm_eval[api]
import importlib.metadata
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))
from rig import Server, check, done  # noqa: E402

CHOOSE = """task: watt_choose
dataset_path: json
dataset_kwargs: {data_files: {test: %s}}
test_split: test
output_type: multiple_choice
doc_to_text: "Q: {{q}} A:"
doc_to_choice: "{{c}}"
doc_to_target: 0
metric_list: [{metric: acc}]
"""
WRITE = """task: watt_write
dataset_path: json
dataset_kwargs: {data_files: {test: %s}}
test_split: test
output_type: generate_until
doc_to_text: "{{q}}"
doc_to_target: "{{c[0]}}"
generation_kwargs: {max_gen_toks: 8, until: ["\\n\\n\\n"], do_sample: false}
metric_list: [{metric: exact_match}]
"""
DATA = [{"q": f"What is {i} plus one?", "c": [str(i + 1), str(i + 2), "no"]} for i in range(6)]


def run(server, kind, task, path, more):
    args = f"model=tiny,base_url={server.url}{path},num_concurrent=4,max_retries=1,{more}"
    out = os.path.join(server.folder, task)
    r = subprocess.run(
        [os.path.join(os.path.dirname(sys.executable), "lm_eval"), "--model", kind, "--model_args", args,
         "--include_path", server.folder, "--tasks", task, "--output_path", out,
         *(["--apply_chat_template"] if "chat" in kind else ["--batch_size", "3"])],
        capture_output=True, text=True, timeout=900, check=False,
        env={**os.environ, "OPENAI_API_KEY": "k", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1",
             "HF_HOME": server.folder})
    check(r.returncode == 0, (r.stdout + r.stderr)[-4000:])
    check(task in r.stdout, r.stdout[-2000:])


def main():
    with Server() as server:
        data = os.path.join(server.folder, "data.jsonl")
        with open(data, "w") as f:
            f.writelines(json.dumps(d) + "\n" for d in DATA)
        for name, text in (("choose", CHOOSE), ("write", WRITE)):
            with open(os.path.join(server.folder, name + ".yaml"), "w") as f:
                f.write(text % data)
        run(server, "local-completions", "watt_choose", "/v1/completions", "tokenizer_backend=remote")
        before = server.metric("watt_prompt_tokens_total")
        run(server, "local-chat-completions", "watt_write", "/v1/chat/completions", "tokenizer_backend=None")
        check(server.metric("watt_prompt_tokens_total") > before)
    done(f"lm-eval {importlib.metadata.version('lm_eval')}: local-completions, local-chat-completions")


main()
