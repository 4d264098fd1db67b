//! Memory: the allocator's habits on the host, and what the pools of a device hold.

use burn::tensor::Device;
use burn_cubecl::cubecl::MemoryScope;

/// What the memory pools of a device hold, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// In tensors that live.
    pub in_use: u64,
    /// Taken from the driver: never less, and what grows when pools fragment.
    pub reserved: u64,
}

/// What the pools of `device` hold; `None` on the CPU backend, which has none. Work that has not reached the device yet is not in it: right behind a `sync`.
#[must_use]
pub fn device_memory(device: &Device) -> Option<DeviceMemory> {
    let usage = crate::adapters::cube_device(device)?.client().memory_report(MemoryScope::Device).usage();
    Some(DeviceMemory { in_use: usage.bytes_in_use, reserved: usage.bytes_reserved })
}

/// Tells the C library to keep freed memory instead of handing it back to the system, so that the large temporaries of every step need not be mapped, zeroed
/// and faulted in again: a tenth of a training step on the CPU. For programs, at their start; the process then stays as large as it ever was.
/// Does something with glibc on 64-bit Linux only.
#[allow(unsafe_code)]
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
    {
        unsafe extern "C" {
            fn mallopt(parameter: std::ffi::c_int, value: std::ffi::c_int) -> std::ffi::c_int;
        }
        const M_TRIM_THRESHOLD: std::ffi::c_int = -1;
        const M_MMAP_THRESHOLD: std::ffi::c_int = -3;
        // SAFETY: the signature is that of glibc's mallopt(3), which any thread may call at any time.
        unsafe {
            mallopt(M_TRIM_THRESHOLD, std::ffi::c_int::MAX);
            // Older versions take 32 MiB at most.
            if mallopt(M_MMAP_THRESHOLD, std::ffi::c_int::MAX) == 0 {
                mallopt(M_MMAP_THRESHOLD, 1 << 25);
            }
        }
    }
}
