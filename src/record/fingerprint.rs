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
    format!("{}-{}", half(&device_fields(environment)), half(&env_fields(environment)))
}

/// A field of a fingerprint: its name and value.
type Field = (&'static str, String);

/// What the DEVICE half is made from.
fn device_fields(environment: &Environment) -> [Field; 6] {
    let (device, host) = (&environment.device, &environment.host);
    // For a CPU driver the processor is the device.
    let processor =
        if device.emulated { format!("{}×{}", host.cpu, host.cores) } else { String::new() };
    [
        ("adapter", device.name.clone()),
        ("vendor id", device.vendor_id.to_string()),
        ("device id", device.device_id.to_string()),
        ("device type", device.device_type.clone()),
        ("backend", device.backend.clone()),
        ("processor and cores", processor),
    ]
}

/// What the ENV half is made from.
fn env_fields(environment: &Environment) -> [Field; 6] {
    let (device, host) = (&environment.device, &environment.host);
    [
        ("driver", device.driver.clone()),
        ("driver version", device.driver_info.clone()),
        ("operating system", host.os.clone()),
        ("processor", host.cpu.clone()),
        ("timer", environment.timer.kind.clone()),
        ("measure version", environment.fusebench.measure_version.to_string()),
    ]
}

/// A field in which two environments differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub field: &'static str,
    pub base: String,
    pub head: String,
}

/// How two fingerprints differ: the fields of each half that are unlike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unlike {
    /// Another device: times are not comparable at all.
    pub device: Vec<Difference>,
    /// The same device in other surroundings.
    pub env: Vec<Difference>,
}

impl Unlike {
    /// The fields in which two environments differ.
    pub fn between(base: &Environment, head: &Environment) -> Unlike {
        Unlike {
            device: differences(&device_fields(base), &device_fields(head)),
            env: differences(&env_fields(base), &env_fields(head)),
        }
    }

    /// Whether the two may be compared as they are.
    pub fn is_like(&self) -> bool {
        self.device.is_empty() && self.env.is_empty()
    }
}

fn differences(base: &[Field], head: &[Field]) -> Vec<Difference> {
    let unlike = base.iter().zip(head).filter(|(base, head)| base.1 != head.1);
    unlike
        .map(|(base, head)| Difference {
            field: base.0,
            base: base.1.clone(),
            head: head.1.clone(),
        })
        .collect()
}

fn half(fields: &[Field]) -> String {
    let values: Vec<&str> = fields.iter().map(|(_, value)| value.as_str()).collect();
    format!("{:08x}", (fnv1a(values.join("\0").as_bytes()) >> 96) as u32)
}

/// The 128-bit FNV-1a hash (Fowler, Noll, Vo).
pub fn fnv1a(bytes: &[u8]) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    bytes.iter().fold(OFFSET, |hash, &byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{emulated_run, gpu_run};
    use super::*;

    #[test]
    fn every_differing_field_is_named_in_its_half_and_changes_it() {
        let base = gpu_run().environment;
        assert!(Unlike::between(&base, &base).is_like());
        let mut head = base.clone();
        head.device.driver_info = "575.2".to_string();
        let unlike = Unlike::between(&base, &head);
        assert_eq!((unlike.device.len(), unlike.env.len()), (0, 1));
        assert_eq!(unlike.env[0].field, "driver version");
        assert_eq!(
            (unlike.env[0].base.as_str(), unlike.env[0].head.as_str()),
            ("570.124.06", "575.2")
        );
        let halves = |environment| {
            let text = fingerprint(environment);
            let (device, env) = text.split_once('-').expect("two halves");
            (device.to_string(), env.to_string())
        };
        assert_eq!(halves(&base).0, halves(&head).0);
        assert_ne!(halves(&base).1, halves(&head).1);
        // The program is what is under test.
        head = base.clone();
        head.fusebench.version = "9".to_string();
        head.fusebench.commit = "abc".to_string();
        assert!(Unlike::between(&base, &head).is_like());
        assert_eq!(fingerprint(&base), fingerprint(&head));
        // The processor is the device of a CPU driver only.
        let emulated = emulated_run().environment;
        head = emulated.clone();
        head.host.cores += 1;
        assert_eq!(Unlike::between(&emulated, &head).device.len(), 1);
        head = base.clone();
        head.host.cores += 1;
        assert!(Unlike::between(&base, &head).is_like());
    }

    #[test]
    fn the_hash_is_fnv1a() {
        // Vectors of the reference implementation.
        assert_eq!(fnv1a(b""), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_eq!(fnv1a(b"a"), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
        assert_ne!(fnv1a(b"ab"), fnv1a(b"ba"));
    }
}
