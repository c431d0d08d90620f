"""Stand-in for the one vLLM operation that SGLang's CPU path of Llama imports."""
