"""Run by vLLM's own Python: a folder of safetensors for each family, written by the library that vLLM reads it with."""

import json
import sys
from pathlib import Path

import torch  # type: ignore[import-not-found]
from transformers import AutoConfig, AutoModelForCausalLM  # type: ignore[import-not-found]


def make(folder: Path, facts: dict[str, object]) -> None:
    """Write one model with random weights of 16 bits."""
    torch.manual_seed(1)
    config = AutoConfig.for_model(facts.pop("model_type"), **facts)
    config.dtype = torch.bfloat16
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)


if __name__ == "__main__":
    for name, described in json.load(sys.stdin).items():
        make(Path(sys.argv[1]) / name, described)
