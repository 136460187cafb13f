"""Writes files/: some of adapters/ in the formats of llama.cpp and ONNX Runtime, by the official writers (PyPI's gguf
and onnxruntime). Names of files are <adapter>.<type>.<format>. See README.md.

    python make-files.py

Both formats hold what PEFT's files hold, so both decode to the same modules but for the rounding.
"""

import json
import math
import shutil
from pathlib import Path

import gguf
import numpy as np
import onnxruntime
from safetensors.numpy import load_file

HERE = Path(__file__).parent
FILES = HERE / "files"
ARCHITECTURES = {"llama": "llama", "qwen2": "qwen2", "phi3": "phi3", "gemma3_text": "gemma3"}


def read(name: str) -> tuple[dict, dict, dict[str, np.ndarray]]:
    """Config of the base, config of the adapter, tensors without PEFT's prefix."""
    directory = HERE / "adapters" / name
    base = json.loads((HERE / "bases" / name.split("-")[0] / "config.json").read_text())
    tensors = load_file(directory / "adapter_model.safetensors")
    config = json.loads((directory / "adapter_config.json").read_text())
    return base, config, {key.removeprefix("base_model.model."): value for key, value in tensors.items()}


def permute(rows: np.ndarray, heads: int) -> np.ndarray:
    """What llama.cpp's LlamaModel.permute does to rows of q and k."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def gguf_name(names: gguf.TensorNameMap, key: str) -> tuple[str, str]:
    """llama.cpp's name of a tensor, and the module's path in Hugging Face's model."""
    path, side = key.removesuffix(".weight").rsplit(".", 1)
    side = {"lora_A": "lora_a", "lora_B": "lora_b", "lora_embedding_A": "lora_a", "lora_embedding_B": "lora_b"}[side]
    return f"{names.get_name(path)}.weight.{side}", path


def write_gguf(name: str, file_name: str, quantization: gguf.GGMLQuantizationType) -> None:
    base, config, tensors = read(name)
    architecture = ARCHITECTURES[base["model_type"]]
    number = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == architecture)
    names = gguf.get_tensor_name_map(number, base["num_hidden_layers"])
    writer = gguf.GGUFWriter(FILES / file_name, architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(config["lora_alpha"]))
    writer.add_array("general.tags", ["made", "for", "tests"])
    for key, value in tensors.items():
        if ".base_layer." in key:
            continue
        target, path = gguf_name(names, key)
        if base["model_type"] == "llama" and target.endswith("lora_b"):
            if path.endswith("q_proj"):
                value = permute(value, base["num_attention_heads"])
            if path.endswith("k_proj"):
                value = permute(value, base["num_key_value_heads"])
        if target == "token_embd.weight.lora_a":
            value = value.T
        if target == "output.weight.lora_b":  # the format has one alpha
            value = value * (config["alpha_pattern"]["lm_head"] / config["lora_alpha"])
        value = np.ascontiguousarray(value, dtype=np.float32)
        fits = value.shape[-1] % gguf.GGML_QUANT_SIZES[quantization][0] == 0
        dtype = quantization if fits else gguf.GGMLQuantizationType.F16
        writer.add_tensor(target, gguf.quants.quantize(value, dtype), raw_dtype=dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_onnx_adapter(name: str, file_name: str, rename, dtype: type) -> None:
    _, config, tensors = read(name)
    scale = config["lora_alpha"] / (math.sqrt(config["r"]) if config["use_rslora"] else config["r"])
    parameters = {}
    for key, value in tensors.items():
        value = (value * scale if ".lora_B." in key else value).T.astype(dtype)
        parameters[rename(key)] = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value))
    adapter = onnxruntime.AdapterFormat()
    adapter.set_adapter_version(1)
    adapter.set_model_version(1)
    adapter.set_parameters(parameters)
    adapter.export_adapter(str(FILES / file_name))


def of_model_builder(key: str) -> str:
    return key.replace("self_attn", "attn").replace(".weight", ".MatMul.weight")


def main() -> None:
    shutil.rmtree(FILES, ignore_errors=True)
    FILES.mkdir()
    kinds = gguf.GGMLQuantizationType
    write_gguf("llama-lora", "llama-lora.f32.gguf", kinds.F32)
    write_gguf("llama-lora", "llama-lora.f16.gguf", kinds.F16)
    write_gguf("llama-lora", "llama-lora.q8_0.gguf", kinds.Q8_0)  # o_proj's A; the other rows are no whole blocks
    write_gguf("llama-embedding-head", "llama-embedding-head.f32.gguf", kinds.F32)
    write_gguf("qwen2-lora", "qwen2-lora.bf16.gguf", kinds.BF16)
    write_gguf("phi3-lora", "phi3-lora.f32.gguf", kinds.F32)
    write_gguf("gemma3-embedding", "gemma3-embedding.f32.gguf", kinds.F32)
    write_onnx_adapter("llama-lora", "llama-lora.f32.onnx_adapter", of_model_builder, np.float32)
    write_onnx_adapter("qwen2-rslora", "qwen2-rslora.f16.onnx_adapter", lambda key: key, np.float16)
    write_onnx_adapter("phi3-lora", "phi3-lora.f32.onnx_adapter", of_model_builder, np.float32)
    for file in sorted(FILES.iterdir()):
        print(f"{file.name}: {file.stat().st_size / 1024:.1f} KiB")


main()
