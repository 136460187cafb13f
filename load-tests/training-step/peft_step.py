"""The other side of bench.ts: the same step by transformers + PEFT. Reads its shape from the first argument (JSON),
then for each line on stdin takes one step and answers with a line of JSON.
"""

import json
import sys
import time

import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

shape = json.loads(sys.argv[1])
torch.set_num_threads(shape["threads"])
torch.manual_seed(1)
transformers.logging.set_verbosity_error()
dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[shape["dtype"]]
config = AutoConfig.from_pretrained(shape["model"])
model = AutoModelForCausalLM.from_config(config, dtype=dtype)
lora = LoraConfig(task_type="CAUSAL_LM", r=shape["rank"], lora_alpha=shape["rank"], target_modules="all-linear")
model = get_peft_model(model, lora)
model.train()

# Right-padded to the longest, prompts and padding masked.
longest = max(shape["lengths"])
tokens = torch.zeros((len(shape["lengths"]), longest), dtype=torch.long)
labels = torch.full_like(tokens, -100)
attention = torch.zeros_like(tokens)
for row, length in enumerate(shape["lengths"]):
    tokens[row, :length] = torch.randint(4, config.vocab_size, (length,))
    labels[row, length // 2 : length] = tokens[row, length // 2 : length]
    attention[row, :length] = 1


def peak_bytes() -> int:
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(status["VmHWM"].split()[0]) * 1024


def step() -> None:
    model.zero_grad(set_to_none=True)
    model(input_ids=tokens, attention_mask=attention, labels=labels, use_cache=False).loss.backward()


step()
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak from here on: without loading
print(json.dumps({}), flush=True)
for _ in sys.stdin:
    start = time.perf_counter()
    step()
    print(json.dumps({"ms": 1000 * (time.perf_counter() - start), "peakBytes": peak_bytes()}), flush=True)
