"""The gateway in front of real vLLM servers, as real processes; `make test-vllm` runs it."""
