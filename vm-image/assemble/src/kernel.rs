//! The kernel in the form that its loader wants.
//!
//! QEMU's PVH entry takes an uncompressed ELF `vmlinux`, which spares the guest a decompression of most of a
//! second under emulation. Apple's boot loader takes a raw arm64 `Image`, which is what Debian packages.

use std::fmt;
use std::io::Read as _;

use anyhow::{Context as _, bail};
use clap::ValueEnum;

/// A processor architecture, in Debian's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Architecture {
    Amd64,
    Arm64,
}

impl Architecture {
    /// The kernel's file name in the VM image.
    pub(crate) fn kernel_file(self) -> &'static str {
        match self {
            Architecture::Amd64 => "vmlinux",
            Architecture::Arm64 => "Image",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Architecture::Amd64 => "amd64",
            Architecture::Arm64 => "arm64",
        })
    }
}

/// Turns a packaged kernel into what the loader of `arch` takes.
pub(crate) fn for_loader(arch: Architecture, vmlinuz: &[u8]) -> anyhow::Result<Vec<u8>> {
    match arch {
        Architecture::Amd64 => extract_vmlinux(vmlinuz).context("cannot extract vmlinux from the kernel"),
        Architecture::Arm64 => {
            if vmlinuz.get(56..60) != Some(b"ARMd") {
                bail!("the packaged kernel is not a raw arm64 Image");
            }
            Ok(vmlinuz.to_vec())
        }
    }
}

/// Finds and decompresses the payload of a bzImage (the kernel's Documentation/arch/x86/boot.rst).
fn extract_vmlinux(image: &[u8]) -> anyhow::Result<Vec<u8>> {
    let word = |at: usize| -> anyhow::Result<usize> {
        let bytes = image.get(at..at + 4).context("the image is too short")?;
        Ok(u32::from_le_bytes(bytes.try_into()?) as usize)
    };
    if image.get(0x202..0x206) != Some(b"HdrS") {
        // The signature stands 4 bytes before the version field of the setup header.
        bail!("this is no bzImage");
    }
    let setup_sectors = usize::from(image[0x1f1]);
    let start = (setup_sectors + 1) * 512 + word(0x248)?;
    let payload = image.get(start..start + word(0x24c)?).context("the payload is cut off")?;
    let mut vmlinux = Vec::new();
    match payload {
        // Behind the one frame stands its size, which a plain decoder would take for a second frame.
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            zstd::Decoder::with_buffer(payload)?.single_frame().read_to_end(&mut vmlinux)?;
        }
        [0x7f, b'E', b'L', b'F', ..] => vmlinux.extend_from_slice(payload),
        _ => bail!("the payload's compression is not zstd, as Debian's kernels have it"),
    }
    if !vmlinux.starts_with(b"\x7fELF") {
        bail!("the payload is no ELF file");
    }
    Ok(vmlinux)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_of_a_bzimage_is_found_and_decompressed() {
        let payload = zstd::encode_all(&b"\x7fELF and so on"[..], 1).unwrap();
        let mut image = vec![0; 0x400 + 16];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x24c].copy_from_slice(&16u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&(payload.len() as u32 + 4).to_le_bytes());
        image.extend_from_slice(&payload);
        image.extend_from_slice(&13u32.to_le_bytes());
        assert_eq!(for_loader(Architecture::Amd64, &image).unwrap(), b"\x7fELF and so on");
        image.truncate(0x420);
        assert!(for_loader(Architecture::Amd64, &image).is_err());
    }

    #[test]
    fn anything_but_a_raw_image_is_refused_for_arm64() {
        let mut image = vec![0; 64];
        assert!(for_loader(Architecture::Arm64, &image).is_err());
        image[56..60].copy_from_slice(b"ARMd");
        assert_eq!(for_loader(Architecture::Arm64, &image).unwrap(), image);
    }
}
