"""What llama.cpp plans before it allocates: its graphs, where they run, and how their memory is laid out."""
