"""The sampler of a node: NVML and GPM for its devices, /proc for its host, on a thread of its own."""
