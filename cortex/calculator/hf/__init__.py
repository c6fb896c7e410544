"""Readers of Hugging Face folders: from config.json and the headers of safetensors files to a shape."""
