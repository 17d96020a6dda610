"""What XLA's GPU compiler needs to know of a GPU that is not there."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class GpuConfig:
    """Facts of a device, as `GpuTargetConfigProto` wants them.

    Attributes:
      capability: CUDA compute capability.
      shared_core: bytes of shared memory of a multiprocessor.
      shared_block: of a block that asks for more than the usual 48 KiB.
      cores: multiprocessors.
      units: float32 lanes of each.
      bandwidth: of the memory, bytes/s.
      cache: L2, bytes.
      clock: GHz.
      memory: bytes.
      name: of the device.
    """

    capability: tuple[int, int]
    shared_core: int
    shared_block: int
    cores: int
    units: int
    bandwidth: int
    cache: int
    clock: float
    memory: int
    name: str

    @property
    def text(self) -> str:
        """The proto in text form, for CUDA 12.9 with cuDNN 9.10."""
        major, minor = self.capability
        return f"""
gpu_device_info {{
  cuda_compute_capability {{ major: {major} minor: {minor} }}
  threads_per_block_limit: 1024
  threads_per_warp: 32
  threads_per_core_limit: 2048
  shared_memory_per_block: 49152
  shared_memory_per_core: {self.shared_core}
  shared_memory_per_block_optin: {self.shared_block}
  core_count: {self.cores}
  fpus_per_core: {self.units}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {self.bandwidth}
  l2_cache_size: {self.cache}
  clock_rate_ghz: {self.clock}
  device_memory_size: {self.memory}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 2 }}
runtime_version {{ major: 12 minor: 9 }}
device_description_str: "{self.name}"
"""


CONFIGS = {
    "h100": GpuConfig(
        capability=(9, 0),
        shared_core=233_472,
        shared_block=232_448,
        cores=132,
        units=128,
        bandwidth=3_352_320_000_000,
        cache=52_428_800,
        clock=1.98,
        memory=84_978_434_048,
        name="NVIDIA H100 80GB HBM3",
    ),
    "a100": GpuConfig(
        capability=(8, 0),
        shared_core=167_936,
        shared_block=166_912,
        cores=108,
        units=64,
        bandwidth=2_039_000_000_000,
        cache=41_943_040,
        clock=1.41,
        memory=84_978_434_048,
        name="NVIDIA A100-SXM4-80GB",
    ),
}
