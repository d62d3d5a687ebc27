//! Which results may be compared: equal fingerprints only.

use super::schema::{Environment, Tool};

/// Raised when sampling or timing changes what a number means.
pub const MEASURE_VERSION: u32 = 1;

/// This build of the program, running shaders with the given hash.
pub fn this_build(kernels_hash: String) -> Tool {
    Tool {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: env!("FUSEBENCH_COMMIT").to_owned(),
        dirty: env!("FUSEBENCH_DIRTY") == "true",
        kernels_hash,
        measure_version: MEASURE_VERSION,
    }
}

/// `DEVICE-ENV`: eight digits over what identifies the device, eight over what else a time depends
/// on. A convenience, not a security boundary. The program's own version is what is under test
/// and therefore left out.
pub fn fingerprint(environment: &Environment) -> String {
    let (device, host) = (&environment.device, &environment.host);
    // For a CPU driver the processor is the device.
    let processor =
        if device.emulated { format!("{}×{}", host.cpu, host.cores) } else { String::new() };
    let identity = [
        device.name.clone(),
        device.vendor_id.to_string(),
        device.device_id.to_string(),
        device.device_type.clone(),
        device.backend.clone(),
        processor,
    ];
    let surroundings = [
        device.driver.clone(),
        device.driver_info.clone(),
        host.os.clone(),
        host.cpu.clone(),
        environment.timer.kind.clone(),
        MEASURE_VERSION.to_string(),
    ];
    format!("{}-{}", half(&identity), half(&surroundings))
}

fn half(fields: &[String]) -> String {
    format!("{:08x}", (fnv1a(fields.join("\0").as_bytes()) >> 96) as u32)
}

/// The 128-bit FNV-1a hash (Fowler, Noll, Vo).
pub fn fnv1a(bytes: &[u8]) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    bytes.iter().fold(OFFSET, |hash, &byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv1a() {
        // Vectors of the reference implementation.
        assert_eq!(fnv1a(b""), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_eq!(fnv1a(b"a"), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
        assert_ne!(fnv1a(b"ab"), fnv1a(b"ba"));
    }
}
