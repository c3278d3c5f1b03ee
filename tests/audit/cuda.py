"""What torch brings where it is built for CUDA, at versions that torch chooses: not on every machine."""


def of_cuda(name: str) -> bool:
    return name == "triton" or name.startswith(("cuda-", "nvidia-"))
