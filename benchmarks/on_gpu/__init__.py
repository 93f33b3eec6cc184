"""The parts of benchmarks/gpu.py: each measures one thing on one device and writes what it has as it goes."""
