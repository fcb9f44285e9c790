//! Accelerators: which resource names count as one, and who makes them.

/// A resource name, or a pattern of them, that stands for accelerators.
#[derive(Clone, Copy, Debug)]
pub struct Accelerator {
    /// The name; one `*` in it stands for any text.
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
    Accelerator { name: "nvidia.com/pgpu", vendor: "NVIDIA", counts: true },
    Accelerator { name: "amd.com/gpu", vendor: "AMD", counts: true },
    Accelerator { name: "amd.com/cpx_*", vendor: "AMD", counts: true },
    Accelerator { name: "amd.com/spx_*", vendor: "AMD", counts: true },
    Accelerator { name: "gpu.intel.com/i915", vendor: "Intel", counts: true },
    Accelerator { name: "gpu.intel.com/xe", vendor: "Intel", counts: true },
    Accelerator { name: "gpu.intel.com/*", vendor: "Intel", counts: false },
    Accelerator { name: "google.com/tpu", vendor: "Google", counts: true },
    // A Neuron device holds several cores: pods ask for one or the other.
    Accelerator { name: "aws.amazon.com/neuron*", vendor: "AWS", counts: true },
    Accelerator { name: "habana.ai/gaudi", vendor: "Intel", counts: true },
    Accelerator { name: "huawei.com/*-memory", vendor: "Huawei", counts: false },
    Accelerator { name: "huawei.com/Ascend*", vendor: "Huawei", counts: true },
    Accelerator { name: "cambricon.com/mlu*", vendor: "Cambricon", counts: true },
    Accelerator { name: "hygon.com/dcunum", vendor: "Hygon", counts: true },
    Accelerator { name: "metax-tech.com/gpu", vendor: "MetaX", counts: true },
    Accelerator { name: "kunlunxin.com/xpu", vendor: "Kunlunxin", counts: true },
    Accelerator { name: "enflame.com/gcu", vendor: "Enflame", counts: true },
    Accelerator { name: "volcano.sh/gpu-number", vendor: "NVIDIA", counts: true },
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
    TABLE.iter().find(|row| match row.name.split_once('*') {
        Some((start, end)) => resource.strip_prefix(start).is_some_and(|rest| rest.ends_with(end)),
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
        assert!(find("huawei.com/Ascend910B-memory").is_some_and(|row| !row.counts));
        assert!(find("huawei.com/Ascend910B").is_some_and(|row| row.counts));
        assert!(find("cpu").is_none() && find("nvidia.com/rdma").is_none());
    }
}
