# The model builder leaves the size of a head in the shape of keys and values to the caller; transformers.js, which makes
# the empty ones of a prompt, wants it in the graph. Only names of sizes change, and the weights' file is not read.

import json
import os
import sys

import onnx

graph_file, config_file = sys.argv[1:]
with open(config_file, encoding="utf-8") as file:
    config = json.load(file)
head_size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
model = onnx.load(graph_file, load_external_data=False)
for value in [*model.graph.input, *model.graph.output]:
    if value.name.startswith(("past_key_values.", "present.")):
        value.type.tensor_type.shape.dim[3].dim_value = head_size
unfinished = f"{graph_file}.unfinished"
with open(unfinished, "wb") as file:
    file.write(model.SerializeToString())
os.replace(unfinished, graph_file)
