"""Memory plans of llama.cpp for real models, recorded without their weights and without GPUs."""
