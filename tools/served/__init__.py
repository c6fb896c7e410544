"""The real vLLM on the processor: installed on demand, given made models, and what its start logs say, recorded."""
