//! Accelerators: which resource names count as one, and who makes them.

/// A resource name, or the start of one, that stands for accelerators.
#[derive(Clone, Copy, Debug)]
pub struct Accelerator {
    /// The name, or its beginning where it ends with `*`.
    pub name: &'static str,
    /// The maker, for messages.
    pub vendor: &'static str,
    /// Whether the scheduler counts devices with it (a memory or core share of a device is not
    /// one device more).
    pub counts: bool,
}

/// Every accelerator resource that Bedplate counts. Sources: the device plugins' own documents.
pub const TABLE: &[Accelerator] = &[
    Accelerator { name: "nvidia.com/gpu", vendor: "NVIDIA", counts: true },
    Accelerator { name: "nvidia.com/gpu.shared", vendor: "NVIDIA", counts: true },
    Accelerator { name: "nvidia.com/mig-*", vendor: "NVIDIA", counts: true },
    Accelerator { name: "amd.com/gpu", vendor: "AMD", counts: true },
    Accelerator { name: "gpu.intel.com/i915", vendor: "Intel", counts: true },
    Accelerator { name: "gpu.intel.com/xe", vendor: "Intel", counts: true },
    Accelerator { name: "gpu.intel.com/*", vendor: "Intel", counts: false },
    Accelerator { name: "google.com/tpu", vendor: "Google", counts: true },
    // A Neuron device holds several cores: pods ask for one or the other.
    Accelerator { name: "aws.amazon.com/neuron*", vendor: "AWS", counts: true },
    Accelerator { name: "habana.ai/gaudi", vendor: "Intel", counts: true },
    Accelerator { name: "huawei.com/Ascend*", vendor: "Huawei", counts: true },
    Accelerator { name: "volcano.sh/vgpu-number", vendor: "NVIDIA", counts: true },
    Accelerator { name: "volcano.sh/vgpu-*", vendor: "NVIDIA", counts: false },
    Accelerator { name: "nvidia.com/gpumem*", vendor: "NVIDIA", counts: false },
    Accelerator { name: "nvidia.com/gpucores", vendor: "NVIDIA", counts: false },
];

/// The table's row for a resource name, where it is an accelerator.
#[must_use]
pub fn find(resource: &str) -> Option<&'static Accelerator> {
    // Ordinary resources are one word; every accelerator has a domain.
    if !resource.contains('/') {
        return None;
    }
    TABLE.iter().find(|row| match row.name.strip_suffix('*') {
        Some(prefix) => resource.starts_with(prefix),
        None => resource == row.name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mig_slices_count_and_memory_shares_do_not() {
        assert!(find("nvidia.com/mig-1g.5gb").is_some_and(|row| row.counts));
        assert!(find("volcano.sh/vgpu-memory").is_some_and(|row| !row.counts));
        assert!(find("cpu").is_none() && find("nvidia.com/rdma").is_none());
    }
}
