"""The other side of the report: decode steps of rows with different adapters by transformers + PEFT, on the GPU where
torch finds one. Reads its plan from the first argument (JSON) and answers with a line of JSON.
"""

import json
import sys
import time

import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

plan = json.loads(sys.argv[1])
transformers.logging.set_verbosity_error()
torch.manual_seed(1)
if torch.cuda.is_available():
    device, name, synchronize = "cuda", torch.cuda.get_device_name(), torch.cuda.synchronize
elif torch.backends.mps.is_available():
    device, name, synchronize = "mps", "Apple", torch.mps.synchronize
else:
    device, name, synchronize = "cpu", "CPU", lambda: None
dtype = torch.float32 if device == "cpu" else torch.bfloat16
model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(plan["model"]), dtype=dtype)
lora = LoraConfig(task_type="CAUSAL_LM", r=plan["rank"], lora_alpha=plan["rank"], target_modules="all-linear")
model = get_peft_model(model, lora, adapter_name="adapter-0")
for index in range(1, plan["adapters"]):
    model.add_adapter(f"adapter-{index}", lora)
model = model.to(device).eval()


@torch.no_grad()
def decode(rows: int, adapters: int) -> float:
    """Milliseconds per step."""
    names = [f"adapter-{row % adapters}" if adapters else "__base__" for row in range(rows)]
    tokens = torch.full((rows, plan["past"]), 11, device=device)
    cache = model(input_ids=tokens, adapter_names=names, use_cache=True).past_key_values
    token = tokens[:, :1]
    for step in range(plan["steps"] + 2):
        if step == 2:
            synchronize()
            start = time.perf_counter()
        out = model(input_ids=token, past_key_values=cache, adapter_names=names, use_cache=True)
        cache = out.past_key_values
        token = out.logits[:, -1].argmax(-1, keepdim=True)
    synchronize()
    return (time.perf_counter() - start) * 1000 / plan["steps"]


def measured(rows: int, adapters: int) -> dict:
    ms = decode(rows, adapters)
    return {"rows": rows, "adapters": adapters, "msPerStep": ms, "tokensPerSecond": rows * 1000 / ms}


decode(plan["rows"], plan["adapters"])  # not counted
versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
decodes = [measured(plan["rows"], adapters) for adapters in (0, plan["adapters"])]
print(json.dumps({"device": name, "dtype": str(dtype), "versions": versions, "decode": decodes}))
